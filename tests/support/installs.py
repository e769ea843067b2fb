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
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from sources import ROOT


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


def run(command: list[str], *, cwd: Path) -> str:
    """Run a program to its end; its standard output, or AssertionError with all that it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MYPY"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
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
