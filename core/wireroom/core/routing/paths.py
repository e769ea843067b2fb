"""Path patterns, and the tree that finds the one for a path. Pure.

    /chat/{room}        one segment, any text
    /ws/{id:int}        one segment of digits, given as an int
    /files/{name:path}  all the rest, slashes included, at least one character
    /static/*           all the rest, not kept

Segments are percent-decoded one by one, so an escaped slash stays inside its parameter. A fixed
segment is preferred to `int`, `int` to any text, and that to all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Generic, TypeVar, final
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError, RemoteProtocolError

T = TypeVar("T")

_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_KINDS: Final = ("int", "str", "path")  # in order of preference
_DIGITS: Final = re.compile(r"[0-9]{1,18}")


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
            if kind == "path" and index != len(segments) - 1:
                raise ConfigurationError(f"path {pattern!r}", "only its last part can be a path")
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
        self._patterns[pattern] = value

    def match(self, raw_path: str) -> tuple[T, dict[str, str | int]] | None:
        """The value for a path as it was sent, and its parameters; None if nothing matches.

        Raises `RemoteProtocolError` (400) for a parameter that is not UTF-8.
        """
        segments = raw_path.removeprefix("/").split("/")
        values: list[str | int] = []
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
    node: _Node[T], segments: list[str], index: int, values: list[str | int]
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
    for kind in _KINDS:
        child = node.kinds.get(kind)
        if child is None:
            continue
        if kind == "path":
            rest = "/".join(_decode(each) for each in segments[index:])
            if rest and child.target is not None:
                values.append(rest)
                return child.target
            continue
        if segment == "":
            continue
        if kind == "int" and not _DIGITS.fullmatch(segment):
            continue
        values.append(int(segment) if kind == "int" else segment)
        found = _find(child, segments, index + 1, values)
        if found is not None:
            return found
        values.pop()
    return None


def _decode(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("the path is not UTF-8", status=400) from error
