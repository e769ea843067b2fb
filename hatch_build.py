"""The build hook: compiles the hot modules with mypyc while a wheel is built.

Such a wheel holds each of them twice: as an extension module, which Python prefers, and as its
source. Without a C compiler, or where compiling fails, the wheel is plain, and says so while it is
built; `wireroom.core.compiled` tells at run time. Environment variables:

    WIREROOM_PURE=1     a plain wheel, for every platform
    WIREROOM_COMPILE=1  a compiled wheel, or an error

Editable installs are always plain, since an extension module would hide later changes of its
source.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE_ROOTS = {"wireroom.core": "core", "wireroom.transports": "transports"}

# What the profile of a busy server shows. Not among them: classes that applications derive
# from or that check their arguments' types themselves, and what runs at the start.
HOT_MODULES = (
    "wireroom.core.deadlines",
    "wireroom.core.dispatch.context",
    "wireroom.core.dispatch.module",
    "wireroom.core.hub",
    "wireroom.core.routing.paths",
    "wireroom.core.serving.calls",
    "wireroom.core.serving.closing",
    "wireroom.core.serving.messages",
    "wireroom.core.serving.opening",
    "wireroom.core.serving.timeouts",
    "wireroom.core.sessions.ids",
    "wireroom.core.sessions.outbox",
    "wireroom.core.sessions.registry",
    "wireroom.core.sessions.rooms",
    "wireroom.core.sessions.sending",
    "wireroom.core.sessions.session",
    "wireroom.core.sessions.stats",
    "wireroom.core.sessions.users",
    "wireroom.core.turn",
    "wireroom.core.wire.engines",
    "wireroom.core.wire.frames",
    "wireroom.core.wire.framing_engine",
    "wireroom.core.wire.handshake",
    "wireroom.core.wire.header_grammar",
    "wireroom.core.wire.http_head",
    "wireroom.core.wire.masking",
    "wireroom.core.wire.shared_text",
    "wireroom.core.wire.states",
    "wireroom.transports.socket_callbacks",
    "wireroom.transports.readiness",
)

# mypy has to see the types of the runtime dependencies too; they are added to these.
BUILD_REQUIRES = ("mypy>=2.4,<3", "setuptools>=77")


class CompileHook(BuildHookInterface[Any]):
    """Adds extension modules to a wheel. See the module."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """What pip has to install for the build, if it is to compile."""
        if _is_set("WIREROOM_PURE") or _obstacle():
            return []
        return [*BUILD_REQUIRES, *self.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless it is an editable install or not possible."""
        if version == "editable" or _is_set("WIREROOM_PURE"):
            return
        self._folder = tempfile.TemporaryDirectory(prefix="wireroom-build-")
        try:
            if obstacle := _obstacle():
                raise RuntimeError(obstacle)
            extensions = compile_modules(Path(self.root), Path(self._folder.name))
        except Exception as error:
            if _is_set("WIREROOM_COMPILE"):
                raise RuntimeError(f"the core cannot be compiled: {error}") from error
            self.app.display_warning(f"The core is not compiled, and will be slower: {error}")
            return
        self.app.display_info(f"The core is compiled: {len(HOT_MODULES)} modules")
        build_data["force_include"].update({str(path): name for name, path in extensions.items()})
        build_data["infer_tag"] = True
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel by now."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def compile_modules(root: Path, folder: Path) -> dict[str, Path]:
    """Compile `HOT_MODULES` in `folder`: extension modules by their path within a wheel."""
    from mypyc.build import mypycify
    from setuptools import Distribution  # type: ignore[import-untyped]

    # Relative to `root`, for tracebacks name the sources as they are named here.
    sources = [_source(module) for module in HOT_MODULES]
    settings = ["--config-file", "pyproject.toml", "--cache-dir", str(folder / "cache")]
    with contextlib.chdir(root):
        try:
            extensions = mypycify(
                [*settings, *sources],
                target_dir=str(folder / "c"),
                # One library of all modules, so that they call each other as C functions do.
                group_name="wireroom.core.compiled",
                debug_level="0",
            )
        except SystemExit as error:  # so it ends after it has printed what is wrong
            raise RuntimeError("mypyc says no, see above") from error
    command = Distribution({"name": "wireroom", "ext_modules": extensions}).get_command_obj(
        "build_ext"
    )
    command.build_lib = str(folder / "lib")
    command.build_temp = str(folder / "o")
    command.ensure_finalized()
    command.run()
    built = folder / "lib"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return {path.relative_to(built).as_posix(): path for path in built.rglob(f"*{suffix}")}


def _source(module: str) -> str:
    package = ".".join(module.split(".")[:2])
    return f"{SOURCE_ROOTS[package]}/{module.replace('.', '/')}.py"


def _obstacle() -> str:
    """Why it is not worth trying; empty if it is."""
    if sys.implementation.name != "cpython":
        return f"{sys.implementation.name} is not CPython"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this Python has no GIL"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC")
    # On Windows nothing says which one it is; setuptools looks for it.
    if compiler is not None and shutil.which(shlex.split(compiler)[0]) is None:
        return f"there is no C compiler ({compiler})"
    return ""


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")
