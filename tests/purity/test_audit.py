"""The core touches nothing and decides nothing by chance: shown by running it under watch.

The same scenario runs in two fresh interpreters whose hash seeds differ, under an audit hook
that refuses files, sockets, processes, threads and sleeps (audited.py). Both must give the same
bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _audited(scenario: Path, hash_seed: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "audited.py"), str(scenario)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
    )


def _transcript(hash_seed: int) -> bytes:
    done = _audited(HERE / "scenario.py", hash_seed)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = _transcript(1), _transcript(2)
    assert first.splitlines() == second.splitlines()
    # It has to have been a scenario: two rooms joined, words said, violations answered.
    for part in (b"101 Switching Protocols", b"hello", b"still here", b"HTTP/1.1 4", b"Disconnect"):
        assert part in first


@pytest.mark.parametrize(
    ("prelude", "deed"),
    [
        ("", "open(__file__)"),
        ("import os", "os.listdir()"),
        ("import os", "os.urandom(1)"),
        ("import random", "random.random()"),
        ("import secrets", "secrets.token_bytes(1)"),
        ("import socket", "socket.socket()"),
        ("import subprocess", "subprocess.run(['true'])"),
        ("import threading", "threading.Thread(target=print).start()"),
        ("import time", "time.sleep(0)"),
        ("import time", "time.monotonic()"),
        ("", "import colorsys"),
    ],
)
@pytest.mark.parametrize("swallowed", [False, True])
def test_the_watch_sees(prelude: str, deed: str, swallowed: bool, tmp_path: Path) -> None:
    handler = "        pass" if swallowed else "        raise"
    body = f"    try:\n        {deed}\n    except BaseException:\n{handler}"
    scenario = tmp_path / "impure.py"
    scenario.write_text(f"{prelude}\ndef run():\n{body}\n    return b''\n", "utf-8")
    done = _audited(scenario, 1)
    assert done.returncode != 0
    assert b"not pure" in done.stderr


def test_the_watch_lets_pure_code_pass(tmp_path: Path) -> None:
    scenario = tmp_path / "pure.py"
    scenario.write_text("import zlib\ndef run():\n    return b'%d' % zlib.crc32(b'x')\n", "utf-8")
    done = _audited(scenario, 1)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"2363233923"
