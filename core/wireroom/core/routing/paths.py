"""Path patterns, and the tree that finds the one for a path. Pure.

    /chat/{room}        one segment, any text
    /ws/{id:int}        one segment of digits, given as an int
    /on/{day:date}      2024-02-29, given as a datetime.date
    /item/{key:uuid}    a UUID with its hyphens, given as a uuid.UUID
    /costs/{n:decimal}  digits, with or without a fraction, given as a decimal.Decimal
    /files/{name:path}  all the rest, slashes included, at least one character
    /any/{name:any}     all the rest, or nothing
    /static/*           all the rest, not kept

Segments are percent-decoded one by one, so an escaped slash stays inside its parameter. A fixed
segment is preferred to a parameter, and parameters to each other in this order: `int`, `date`,
`uuid`, `decimal`, any text (`str`), all the rest (`path`, then `any`). What looks like a date and
is none (2023-02-29) is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Final, Generic, TypeAlias, TypeVar, final
from urllib.parse import unquote_to_bytes
from uuid import UUID

from ..errors import ConfigurationError, RemoteProtocolError

T = TypeVar("T")

_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

PathValue: TypeAlias = str | int | date | UUID | Decimal
"""What a parameter can be."""


def _int(segment: str) -> int | None:
    return int(segment) if _DIGITS.fullmatch(segment) else None


def _date(segment: str) -> date | None:
    if _DATE.fullmatch(segment) is None:
        return None
    try:
        return date.fromisoformat(segment)
    except ValueError:
        return None


def _uuid(segment: str) -> UUID | None:
    return UUID(segment) if _UUID.fullmatch(segment) else None


def _decimal(segment: str) -> Decimal | None:
    return Decimal(segment) if _DECIMAL.fullmatch(segment) else None


def _str(segment: str) -> str | None:
    return segment or None


# For one segment, in order of preference; None means that the segment is of another kind.
_CONVERTERS: Final[dict[str, Callable[[str], PathValue | None]]] = {
    "int": _int,
    "date": _date,
    "uuid": _uuid,
    "decimal": _decimal,
    "str": _str,
}
_RESTS: Final = ("path", "any")  # for all the rest
_KINDS: Final = (*_CONVERTERS, *_RESTS)


@final
class _Node(Generic[T]):
    __slots__ = ("fixed", "kinds", "target")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node[T]] = {}
        self.kinds: dict[str, _Node[T]] = {}
        self.target: _Target[T] | None = None


@final
class _Target(Generic[T]):
    __slots__ = ("names", "pattern", "value")

    def __init__(self, pattern: str, names: list[str], value: T) -> None:
        self.pattern = pattern
        self.names = names
        self.value = value


@final
class Router(Generic[T]):
    """Maps paths to values by pattern."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._fixed: dict[str, T] = {}  # paths without parameters, which are preferred anyway
        self._patterns: dict[str, T] = {}

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Patterns and their values, in the order they were added."""
        return iter(self._patterns.items())

    def add(self, pattern: str, value: T) -> None:
        """Raises `ConfigurationError` for a malformed pattern, or one that matches the same
        paths as another."""
        if not pattern.startswith("/"):
            raise ConfigurationError(f"path {pattern!r}", "must start with a slash")
        node = self._root
        names: list[str] = []
        segments = pattern[1:].split("/")
        for index, segment in enumerate(segments):
            kind, name = _read_segment(pattern, segment)
            if kind in _RESTS and index != len(segments) - 1:
                raise ConfigurationError(
                    f"path {pattern!r}", f"only its last part can be {kind}: all the rest"
                )
            if kind == "":
                node = node.fixed.setdefault(segment, _Node())
                continue
            if name in names and name:
                raise ConfigurationError(f"path {pattern!r}", f"has two parameters named {name}")
            names.append(name)
            node = node.kinds.setdefault(kind, _Node())
        if node.target is not None:
            raise ConfigurationError(
                f"path {pattern!r}", f"matches the same paths as {node.target.pattern!r}"
            )
        node.target = _Target(pattern, names, value)
        if not names and "%" not in pattern:
            self._fixed[pattern] = value
        self._patterns[pattern] = value

    def match(self, raw_path: str) -> tuple[T, dict[str, PathValue]] | None:
        """The value for a path as it was sent, and its parameters; None if nothing matches.

        Raises `RemoteProtocolError` (400) for a parameter that is not UTF-8.
        """
        fixed = self._fixed.get(raw_path)
        if fixed is not None:
            return fixed, {}
        segments = raw_path.removeprefix("/").split("/")
        values: list[PathValue] = []
        target = _find(self._root, segments, 0, values)
        if target is None:
            return None
        return target.value, {
            name: value for name, value in zip(target.names, values, strict=True) if name
        }


def _read_segment(pattern: str, segment: str) -> tuple[str, str]:
    """Kind and name of a parameter; an empty kind for a fixed segment."""
    if segment == "*":
        return "path", ""
    parameter = _PARAMETER.fullmatch(segment)
    if parameter is None:
        if "{" in segment or "}" in segment:
            raise ConfigurationError(
                f"path {pattern!r}", f"{segment!r} is neither fixed nor one {{parameter}}"
            )
        return "", ""
    kind = parameter[2] or "str"
    if kind not in _KINDS:
        raise ConfigurationError(
            f"path {pattern!r}", f"knows the kinds {', '.join(_KINDS)}, not {kind!r}"
        )
    return kind, parameter[1]


def _find(
    node: _Node[T], segments: list[str], index: int, values: list[PathValue]
) -> _Target[T] | None:
    """Depth first, in order of preference; the tree bounds the depth, not the path."""
    if index == len(segments):
        return node.target
    raw = segments[index]
    segment = _decode(raw) if "%" in raw else raw
    if (child := node.fixed.get(segment)) is not None:
        found = _find(child, segments, index + 1, values)
        if found is not None:
            return found
    for kind, convert in _CONVERTERS.items():
        child = node.kinds.get(kind)
        if child is None or (value := convert(segment)) is None:
            continue
        values.append(value)
        found = _find(child, segments, index + 1, values)
        if found is not None:
            return found
        values.pop()
    for kind in _RESTS:
        child = node.kinds.get(kind)
        if child is None:
            continue
        rest = "/".join(_decode(each) for each in segments[index:])
        if rest or kind == "any":
            values.append(rest)
            return child.target
    return None


def _decode(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("the path is not UTF-8", status=400) from error
