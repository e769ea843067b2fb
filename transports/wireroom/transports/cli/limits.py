"""`--limit name=value`: bounds of an app, replaced."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

from wireroom.core import ConfigurationError, Limits

from .problems import problem_of

LIMIT_NAMES = [field.name for field in dataclasses.fields(Limits)]


def replace_limits(limits: Limits, given: Sequence[str]) -> Limits:
    """`limits` with what was given as `name=value`. Raises `ConfigurationError`."""
    replaced: dict[str, float | None] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise ConfigurationError(f"--limit {each}", "must be name=value")
        if name not in LIMIT_NAMES:
            raise ConfigurationError(f"--limit {name}", f"there is none: {_similar(name)}")
        replaced[name] = _number(name, value)
    try:
        return dataclasses.replace(limits, **replaced)  # type: ignore[arg-type]  # it checks
    except ConfigurationError as error:
        name = error.setting.removeprefix("Limits.")
        raise ConfigurationError(f"--limit {name}", problem_of(error)) from error


def _number(name: str, text: str) -> float | None:
    """A whole number, a number of seconds, `inf`, or None for `none`. Raises as above."""
    if text.lower() == "none":
        return None
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    raise ConfigurationError(
        f"--limit {name}", f"must be a number, inf (no timeout) or none (the default), not {text!r}"
    )


def _similar(name: str) -> str:
    close = difflib.get_close_matches(name, LIMIT_NAMES)
    if close:
        return f"do you mean {' or '.join(close)}?"
    return f"there are {', '.join(LIMIT_NAMES)}"
