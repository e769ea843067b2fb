"""The browser client's types, judged by TypeScript's compiler where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("browser_app.ts")


def test_types_infer_and_reject_what_they_should() -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("TypeScript is not installed: npm install --global typescript@5")
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext"]
    command = [tsc, *options, "--lib", "es2022,dom", str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
