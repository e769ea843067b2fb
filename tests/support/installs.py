"""Fresh virtual environments with Wireroom in them, made without a network.

Only the packages that the metadata declares are copied over from the running environment, so
an undeclared dependency shows as an ImportError, as it would for a user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from sources import ROOT

PLAIN: Final = {"WIREROOM_PURE": "1"}
COMPILED: Final = {"WIREROOM_COMPILE": "1"}  # hatch_build.py says what these mean


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment in `path`."""

    path: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        return Path(
            sysconfig.get_path("purelib", "venv", {"base": self.path, "platbase": self.path})
        )

    def run(self, code: str, *, cwd: Path) -> str:
        """What a program prints that sees nothing but this environment."""
        return run([str(self.python), "-I", "-W", "error", "-c", code], cwd=cwd)


@dataclass(frozen=True, slots=True)
class Distributions:
    """The two files that a release consists of."""

    sdist: Path
    wheel: Path


def run(command: list[str], *, cwd: Path, settings: Mapping[str, str] = PLAIN) -> str:
    """Run a program to its end; its standard output, or AssertionError with all that it said.

    `settings` are environment variables; by default wheels that it builds are plain.
    """
    done = subprocess.run(
        command, cwd=cwd, env=_variables(settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{_said(done)}"
    return done.stdout


def make_environment(path: Path, *needed: str) -> Environment:
    """A virtual environment that holds the named distributions and what they depend on."""
    venv.create(path, symlinks=True, with_pip=False)
    environment = Environment(path)
    for name in _closure(needed):
        _copy_distribution(name, environment.site_packages)
    return environment


def runtime_dependencies() -> tuple[str, ...]:
    """The names of the distributions that a plain `pip install wireroom` brings along."""
    return _requirements("wireroom")


def pip_install(environment: Environment, *arguments: str, cwd: Path) -> None:
    """Install into an environment that has no pip of its own, from local files only."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    target = ["--python", str(environment.python), "install", "--no-index", "--no-deps"]
    run([*pip, *target, *arguments], cwd=cwd)


def build(outdir: Path) -> Distributions:
    """The sdist, and the wheel that is built from the sdist, both in `outdir`."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(outdir), str(ROOT)]
    run(command, cwd=outdir)
    (sdist,), (wheel,) = outdir.glob("*.tar.gz"), outdir.glob("*.whl")
    return Distributions(sdist, wheel)


def build_wheel(outdir: Path, settings: Mapping[str, str]) -> tuple[Path, str]:
    """The wheel of the tree, as `settings` make it, and all that was said while it was built."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(outdir)]
    said = subprocess.run(
        [*command, str(ROOT)],
        cwd=outdir,
        env=_variables(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout
    (wheel,) = outdir.glob("*.whl")
    return wheel, said.stdout


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    ours = ("PYTHON", "MYPY", "WIREROOM_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | dict(settings)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout}\n{done.stderr}"


def _requirements(name: str) -> tuple[str, ...]:
    requirements = map(Requirement, distribution(name).requires or ())
    return tuple(
        requirement.name
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    )


def _closure(names: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            waiting.extend(_requirements(name))
    return found


def _copy_distribution(name: str, site_packages: Path) -> None:
    for file in distribution(name).files or ():
        # Scripts are listed as ../../../bin/name, and compiled files can be made again.
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        target = site_packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), target)
