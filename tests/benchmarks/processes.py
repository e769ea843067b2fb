"""Starts, pins and stops the programs that take part: one server and one load generator at a
time. A server is started anew for every measurement: it inherits nothing from the one before
and shares its core with no other.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from load import Idle, Load

HERE = Path(__file__).parent
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
LOAD_TIMEOUT_S = 120.0


class MeasurementError(Exception):
    """A server or the load generator did not do its work; the message says what it said."""


@functools.cache
def cores() -> tuple[int, int] | None:
    """The core for servers and codecs, and the core for the load generator; None: no choice."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else None


def allow_many_files() -> None:
    """Let our child processes have as many sockets as the system permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def on_server_core() -> Iterator[None]:
    """This process itself on the core for servers, for a while."""
    chosen = cores()
    if chosen is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {chosen[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def missing_module(names: Sequence[str]) -> str:
    """Says which of these modules is not installed; empty if all are."""
    for name in names:
        try:
            found = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            return f"not installed ({name})"
    return ""


@contextlib.contextmanager
def server(program: str, loop: str, options: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """A peer that listens: its process id and its port."""
    command = [sys.executable, str(HERE / "peers" / program), "--port", "0", "--loop", loop]
    command += options
    with tempfile.TemporaryFile("w+") as log, _started(command, 0, log) as process:
        try:
            yield process.pid, _port(process)
        except MeasurementError as error:
            raise MeasurementError(f"{error} {_last_line(log)}".rstrip()) from error
        finally:
            _stop(process)


def generate_load(pid: int, port: int, arguments: Sequence[str]) -> Load:
    """Run load.py against a server."""
    return Load(**_run_load(pid, port, arguments))


def open_idle(pid: int, port: int, arguments: Sequence[str]) -> Idle:
    """Run load.py against a server, for connections that do nothing."""
    return Idle(**_run_load(pid, port, arguments))


def measure_scale(what: str, count: int) -> float:
    """Run scale.py."""
    command = [sys.executable, str(HERE / "scale.py"), what, str(count)]
    return float(_output(command, 0))


def _run_load(pid: int, port: int, arguments: Sequence[str]) -> Any:
    command = [sys.executable, str(HERE / "load.py"), *arguments]
    command += ["--port", str(port), "--server-pid", str(pid)]
    return json.loads(_output(command, 1))


def _output(command: Sequence[str], core: int) -> str:
    """What a program prints."""
    with tempfile.TemporaryFile("w+") as log, _started(command, core, log) as process:
        try:
            output, _ = process.communicate(timeout=LOAD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"{Path(command[1]).name} did not end") from None
        finally:
            process.kill()
        if process.returncode:
            raise MeasurementError(_last_line(log))
    return output


def _started(command: Sequence[str], core: int, log: IO[str]) -> subprocess.Popen[str]:
    """A program on the first or second of our cores."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    chosen = cores()
    if chosen is not None:
        os.sched_setaffinity(process.pid, {chosen[core]})
    return process


def _port(process: subprocess.Popen[str]) -> int:
    """The port in a peer's first line."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_TIMEOUT_S)[0]:
        raise MeasurementError("the server did not start.")
    line = process.stdout.readline()
    if not line.startswith("listening on "):
        raise MeasurementError(f"the server did not start. {line.strip()}")
    return int(line.rpartition(":")[2])


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = log.read().strip().splitlines()
    return lines[-1] if lines else ""
