"""Finding modules and controllers in a package, in either of two layouts.

    chat/__init__.py      module = Module("/chat")          a folder a module, with
    chat/rooms.py         @controller("room") class Rooms   its controllers in it

    modules.py            chat = Module("/chat")            all modules in one place, and
    controllers/rooms.py  @controller("room", path="/chat") a folder for all controllers

A controller without a `path` belongs to the module in its own folder, or in the nearest above.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from wireroom.core import App, ConfigurationError, Module


def discover(app: App, package: str | ModuleType) -> None:
    """Import a package and all below it, and register the `Module`s and controllers in it.

    Raises `ConfigurationError` for a controller whose module is not to be found, or is not the
    only one that it could be, and whatever an import raises.
    """
    root = importlib.import_module(package) if isinstance(package, str) else package
    sources = list(_import_all(root))
    modules: dict[str, Module] = {}
    owners: dict[str, list[Module]] = {}
    for source in sources:
        for value in vars(source).values():
            if isinstance(value, Module) and not any(value is each for each in modules.values()):
                if value.path in modules:
                    raise ConfigurationError(
                        f"module {value.path}", f"is defined twice, and again in {source.__name__}"
                    )
                modules[value.path] = value
                owners.setdefault(_folder(source), []).append(value)
                app.add(value)
    for source in sources:
        for cls in _controllers(source):
            prefix, path, middleware = cls.__wireroom_controller__
            module = _by_path(cls, path, modules) if path else _by_folder(cls, source, owners)
            module.controller(prefix, middleware=middleware)(cls)


def _import_all(root: ModuleType) -> Iterator[ModuleType]:
    """The package, and every module and package below it, in order of their names."""
    yield root
    for found in pkgutil.walk_packages(getattr(root, "__path__", ()), root.__name__ + "."):
        yield importlib.import_module(found.name)


def _folder(source: ModuleType) -> str:
    """The package that a module of Python is in; a package is in itself."""
    return source.__name__ if hasattr(source, "__path__") else source.__name__.rpartition(".")[0]


def _controllers(source: ModuleType) -> list[Any]:
    """The controllers that are defined in a module of Python, not those it has imported."""
    return [
        value
        for value in vars(source).values()
        if isinstance(value, type)
        and value.__module__ == source.__name__
        and "__wireroom_controller__" in vars(value)
    ]


def _by_path(cls: type, path: str, modules: dict[str, Module]) -> Module:
    module = modules.get(path)
    if module is None:
        raise ConfigurationError(_name(cls), f"there is no module {path!r}, only {list(modules)}")
    return module


def _by_folder(cls: type, source: ModuleType, owners: dict[str, list[Module]]) -> Module:
    folder = _folder(source)
    while folder:
        found = owners.get(folder, [])
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigurationError(
                _name(cls),
                f"{folder} has several modules ({', '.join(each.path for each in found)}): "
                "say which, @controller(..., path=...)",
            )
        folder = folder.rpartition(".")[0]
    raise ConfigurationError(_name(cls), "there is no module in its folder, or above")


def _name(cls: type) -> str:
    return f"controller {cls.__module__}.{cls.__qualname__}"
