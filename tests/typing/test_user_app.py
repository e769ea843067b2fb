"""A user who sees only the installed wheel gets our types: `mypy --strict` says so."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from installs import Environment, run

HERE = Path(__file__).parent


def _mypy(source: Path, environment: Environment) -> str:
    """mypy from here, the packages from there, the project's own settings left out."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", ""]
    command += ["--python-executable", str(environment.python)]
    command += ["--cache-dir", str(environment.path / "mypy_cache"), str(source)]
    return run(command, cwd=source.parent)


@pytest.mark.slow
def test_a_users_program_is_accepted(wheel_environment: Environment, tmp_path: Path) -> None:
    source = Path(shutil.copy(HERE / "user_app.py", tmp_path))
    assert "no issues found" in _mypy(source, wheel_environment)


@pytest.mark.slow
def test_the_types_come_from_the_wheel(wheel_environment: Environment, tmp_path: Path) -> None:
    source = tmp_path / "wrong.py"
    source.write_text("from wireroom.core import Hub\nHub(1, 2, 3, 4, 5, 6, 7)\n", "utf-8")
    with pytest.raises(AssertionError, match='for "Hub"'):
        _mypy(source, wheel_environment)
