"""From `module:app` to an `App`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType

from wireroom.core import App, ConfigurationError

from .problems import CannotStartError
from .reports import report

APP_HELP = "APP is module:attribute, an App or a function without arguments that gives one."


def load_app(target: str) -> App:
    """The app that `module:attribute` names; the current directory is importable.

    Raises `CannotStartError`: for what fails in the module itself, after its traceback. A
    `ConfigurationError` in it is passed on.
    """
    name, colon, attribute = target.partition(":")
    if name.endswith(".py") or "/" in name:
        dotted = ".".join(Path(name).with_suffix("").parts)
        raise CannotStartError(
            f"{target}: give a module, not a file: {dotted}:{attribute or 'app'}"
        )
    if not all(part.isidentifier() for part in name.split(".")):
        raise CannotStartError(f"{target}: must be module:attribute, for example server:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _import(name, target)
    if not colon or not attribute:
        raise CannotStartError(f"{target}: which app? {_suggestion(module)}")
    return _app_of(module, attribute, target)


def _import(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ConfigurationError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            raise CannotStartError(
                f"{target}: there is no module {missing!r} in {Path.cwd()}, or installed:"
                " start this in the folder that it is in, or install it"
            ) from error
        raise _failed(error, f"{target}: importing {name}") from error
    except (Exception, SystemExit) as error:
        raise _failed(error, f"{target}: importing {name}") from error


def _app_of(module: ModuleType, attribute: str, target: str) -> App:
    value: object = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            raise CannotStartError(
                f"{target}: {module.__name__} has no {attribute!r}: {_suggestion(module)}"
            ) from error
    if not isinstance(value, App) and callable(value):
        try:
            inspect.signature(value).bind()
        except TypeError as error:
            raise CannotStartError(
                f"{target}: cannot be called without arguments: give an App, or a function that"
                " needs none"
            ) from error
        try:
            value = value()
        except ConfigurationError:
            raise
        except (Exception, SystemExit) as error:
            raise _failed(error, f"{target}: calling {attribute}()") from error
    if not isinstance(value, App):
        raise CannotStartError(
            f"{target}: is a {type(value).__name__}, and no App: {_suggestion(module)}"
        )
    return value


def _suggestion(module: ModuleType) -> str:
    """Which attributes could be meant."""
    found = [
        f"{module.__name__}:{name}"
        for name, value in vars(module).items()
        if isinstance(value, App) or _makes_app(value, module)
    ]
    if not found:
        return f"make an App in {module.__name__}, or a function that gives one"
    return f"give {' or '.join(found)}"


def _makes_app(value: object, module: ModuleType) -> bool:
    return (
        inspect.isfunction(value)
        and value.__module__ == module.__name__
        and value.__annotations__.get("return") in ("App", App)
    )


def _failed(error: BaseException, what: str) -> CannotStartError:
    """Print the traceback as far as it is not ours."""
    lines = traceback.format_exception(type(error), error, _theirs(error.__traceback__))
    report("failed", "".join(lines).rstrip())
    return CannotStartError(f"{what} failed with {type(error).__name__}, see above")


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """Without the frames of this file and of the import system, which come first."""
    while frames is not None:
        filename = frames.tb_frame.f_code.co_filename
        if filename not in (__file__, importlib.__file__) and "<frozen importlib" not in filename:
            break
        frames = frames.tb_next
    return frames
