"""Node, for the tests of the browser client: `node --test` on its files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from sources import ROOT

NODE_MIN = (20, 10)  # has a WebSocket of its own, from 22 on without being asked


def run_tests(file: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a file's tests; all must pass, and there must be some. Skips without a recent Node."""
    node = shutil.which("node")
    version = node_version(node)
    if node is None or version < NODE_MIN:
        pytest.skip("Node 20.10 or newer is not installed: apt-get install nodejs")
    options = [] if version >= (22, 0) else ["--experimental-websocket"]
    done = subprocess.run(
        [node, *options, "--test", "--test-reporter=tap", str(file)],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert passed is not None
    assert int(passed[1]) > 0


def node_version(node: str | None) -> tuple[int, int]:
    """(0, 0) if there is none."""
    if node is None:
        return (0, 0)
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))
