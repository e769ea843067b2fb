"""What keeps a command from starting, as one line that names the option and the remedy."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from wireroom.core import ConfigurationError

from . import EXIT_CANNOT_START
from .reports import report


class CannotStartError(click.ClickException):
    """Ends the program with status 2 and one line on stderr."""

    exit_code = EXIT_CANNOT_START

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        report("cannot_start", f"wireroom: {self.message}")


def problem_of(error: ConfigurationError) -> str:
    """What it says without its setting."""
    return str(error).removeprefix(f"{error.setting}: ")


@contextmanager
def explained(options: dict[str, str], *, debug: bool = False) -> Iterator[None]:
    """Turn a `ConfigurationError` into a `CannotStartError`, after its traceback if `debug`.

    `options` gives the option for a setting; a setting that is not in it keeps its name.
    """
    try:
        yield
    except ConfigurationError as error:
        if debug:
            report("failed", "".join(traceback.format_exception(error)).rstrip())
        settings = error.setting.split(", ")
        names = ", ".join(options.get(each, each) for each in settings)
        raise CannotStartError(f"{names}: {problem_of(error)}") from error


def option_names(command: click.Command) -> dict[str, str]:
    """The options of a command, by the names of their parameters."""
    return {
        each.name: max(each.opts, key=len)
        for each in command.params
        if isinstance(each, click.Option) and each.name is not None
    }
