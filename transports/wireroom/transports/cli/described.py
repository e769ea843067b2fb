"""What an app serves, as plain values: for people and, as JSON, for programs."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from enum import Enum
from typing import Any

import msgspec

from wireroom.core import App, Module, Stages


def describe(app: App) -> list[dict[str, Any]]:
    """Its paths in the order they were registered, the WebSockets' first."""
    routes = [_describe_module(path, module) for path, module in app.modules]
    http = [{"path": path, "kind": "http", "handler": each.name} for path, each in app.routes]
    return [*routes, *http]


def _describe_module(path: str, module: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "path": path,
        "kind": module.kind,
        "subprotocols": list(module.subprotocols),
    }
    if not isinstance(module, Module):
        return described | {"handler": module.name}
    handlers = {
        event: _where(handler)
        for event in ("handshake", "open", "message", "close", "join", "leave", "error")
        if (handler := getattr(module, f"on_{event}_handler")) is not None
    }
    return described | {
        "messages": module.kinds if not module.commands else module.parser.kinds,
        "parser": type(module.parser).__name__,
        "handlers": handlers,
        "presence": module.presence,
        "handshake_middleware": module.handshake_middleware_names,
        "middleware": module.middleware_names,
        "stages": None if module.stages is None else _describe_stages(module.stages),
        "commands": [
            {
                "name": command.name or None,  # None is the default command
                "handler": command.handler,
                "data": None if command.data_type is None else describe_type(command.data_type),
                "services": [type_name(each) for each in command.services],
                "stages": list(command.stages),
                "middleware": list(command.middleware),
            }
            for command in module.commands
        ],
    }


def _where(handler: Any) -> str:
    return f"{handler.__module__}.{handler.__qualname__}"


def _describe_stages(stages: Stages) -> dict[str, Any]:
    return {
        "initial": stages.initial.name,
        "transitions": {
            stage.name: sorted(each.name for each in after)
            for stage, after in stages.transitions.items()
        },
    }


# -- types ------------------------------------------------------------------------------------


def describe_type(data_type: Any) -> dict[str, Any]:
    """Its name, its fields if it has any, and its JSON Schema if it has one."""
    try:
        schema = msgspec.json.schema(data_type)
    except TypeError:  # a type that only a parser of the app's own knows
        schema = None
    return {"type": type_name(data_type), "fields": _fields(data_type), "schema": schema}


def _fields(data_type: Any) -> list[dict[str, Any]]:
    origin = typing.get_origin(data_type) or data_type
    if not isinstance(origin, type):
        return []
    if issubclass(origin, msgspec.Struct):
        return [
            _field(
                each.encode_name, each.type, each.default, each.default_factory, msgspec.NODEFAULT
            )
            for each in msgspec.structs.fields(data_type)
        ]
    if not dataclasses.is_dataclass(origin) and not typing.is_typeddict(origin):
        return []
    hints = typing.get_type_hints(origin)
    if dataclasses.is_dataclass(origin):
        return [
            _field(
                each.name, hints[each.name], each.default, each.default_factory, dataclasses.MISSING
            )
            for each in dataclasses.fields(origin)
        ]
    # As strings, annotations keep Python from seeing NotRequired in them; msgspec does.
    info = msgspec.inspect.type_info(data_type)
    required = {each.name for each in info.fields if each.required}  # type: ignore[attr-defined]
    return [
        {"name": name, "type": type_name(hint), "required": name in required, "default": None}
        for name, hint in hints.items()
    ]


def _field(name: str, hint: Any, default: Any, factory: Any, missing: Any) -> dict[str, Any]:
    """`default` as Python writes it, None without one."""
    if default is not missing:
        shown: str | None = default.name if isinstance(default, Enum) else repr(default)
    elif factory is not missing:
        shown = f"{factory.__name__}()"
    else:
        shown = None
    return {"name": name, "type": type_name(hint), "required": shown is None, "default": shown}


def type_name(hint: Any) -> str:
    """A type as one writes it in an annotation, without modules and constraints."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is types.NoneType:
        return "None"
    if hint is ...:
        return "..."
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_name, arguments))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None:
        return f"{type_name(origin)}[{', '.join(map(type_name, arguments))}]"
    if inspect.isclass(hint):
        return hint.__name__
    return str(hint).removeprefix("typing.")
