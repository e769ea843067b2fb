"""Run a program's `run()` in an interpreter that may not touch the world any more.

    python tests/purity/audited.py SCENARIO.py

The scenario's imports happen first, unwatched. Then every audit event for a file, a socket, a
process, a thread, a sleep or a late import is refused, and so is every clock and random source.
What `run()` returns, bytes, goes to standard output. A refusal raises on the spot; should the
code under test swallow that, it is remembered and the exit status is 1 all the same.
"""

from __future__ import annotations

import _thread
import os
import random
import runpy
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

# Names of audit events (https://docs.python.org/3/library/audit_events.html), by their beginning.
# A late `import` is refused because it reads files, whatever it imports.
REFUSED_EVENTS = (
    "_thread.",
    "ctypes.",
    "fcntl.",
    "glob.",
    "import",
    "mmap.",
    "open",
    "os.",
    "pathlib.",
    "shutil.",
    "signal.",
    "socket.",
    "sqlite3.",
    "subprocess.",
    "tempfile.",
    "time.",
    "urllib.",
)

# Reading a clock or a random source raises no audit event, and a sleep or a new thread does so
# only in newer versions of Python. So these are replaced.
REFUSED_FUNCTIONS: tuple[tuple[ModuleType, Sequence[str]], ...] = (
    (os, ("getpid", "getrandom", "times", "urandom")),
    (random, ("SystemRandom", "choice", "getrandbits", "randbytes", "randint", "random")),
    (secrets, ("choice", "randbits", "token_bytes", "token_hex", "token_urlsafe")),
    (_thread, ("start_joinable_thread", "start_new_thread")),
    (threading, ("_start_joinable_thread", "_start_new_thread")),
    (time, ("gmtime", "localtime", "monotonic", "perf_counter", "process_time", "sleep", "time")),
    (time, ("monotonic_ns", "perf_counter_ns", "process_time_ns", "thread_time", "time_ns")),
    (uuid, ("uuid1", "uuid4")),
)


class Watch:
    """Refuses while it is armed, and remembers what it refused."""

    __slots__ = ("armed", "refused")

    def __init__(self) -> None:
        self.armed = False
        self.refused: list[str] = []

    def refuse(self, what: str) -> None:
        """Raise, and remember."""
        if self.armed:
            self.refused.append(what)
            raise RuntimeError(f"not pure: {what}")

    def audit(self, event: str, arguments: object) -> None:
        """The hook for `sys.addaudithook`, which can never be taken out again."""
        if self.armed and event.startswith(REFUSED_EVENTS):
            self.refuse(f"{event} {arguments!r}")

    def replace_functions(self) -> None:
        """Put a refusal in the place of each clock and random source."""
        for module, names in REFUSED_FUNCTIONS:
            for name in names:
                if hasattr(module, name):
                    setattr(module, name, self._refusal(f"{module.__name__}.{name}"))

    def _refusal(self, name: str) -> Callable[..., NoReturn]:
        def refused(*_: object, **__: object) -> NoReturn:
            self.refuse(name)
            raise AssertionError(f"{name} called with the watch off")

        return refused


def main(path: str) -> int:
    """Load the scenario, run it under the watch, print its bytes; the exit status."""
    watch = Watch()
    sys.addaudithook(watch.audit)
    run: Callable[[], bytes] = runpy.run_path(path)["run"]
    watch.replace_functions()
    watch.armed = True
    try:
        transcript = run()
    finally:
        watch.armed = False
    for what in watch.refused:
        print(f"not pure, and swallowed: {what}", file=sys.stderr)
    sys.stdout.buffer.write(transcript)
    return 1 if watch.refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
