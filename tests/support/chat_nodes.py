"""Nodes of the chat in processes of their own, to be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import final

from chat_clients import SECRET
from sources import ROOT

END_TIMEOUT_S = 60.0


@final
class Node:
    """One node; it keeps its port, which no other program gets meanwhile. What it logs is in
    `log`."""

    def __init__(self, folder: Path, name: str, **settings: str) -> None:
        rates = {
            f"CHAT_{kind}_{each}": "1000000"
            for kind in ("MESSAGES", "REQUESTS", "LOG_INS")
            for each in ("PER_S", "BURST")
        }
        self.name = name
        self.log = folder / f"{name}.log"
        held = _hold_port()
        weakref.finalize(self, held.close)
        self.port: int = held.getsockname()[1]
        self._environment = {
            **os.environ,
            "CHAT_FOLDER": str(folder),
            "JWT_SECRET": SECRET,
            **rates,
            **settings,
        }
        self._process: subprocess.Popen[str] | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """Where its chat is."""
        return f"ws://127.0.0.1:{self.port}/chat"

    @property
    def pid(self) -> int:
        """The process, while there is one."""
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str) -> None:
        """Run it, and wait until it listens."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    str(ROOT / "docs/examples/chat/server.py"),
                    "--port",
                    str(self.port),
                    *options,
                ],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        assert f"http://127.0.0.1:{self.port} " in first, f"{self} said {first!r}\n{self.said()}"

    def said(self, characters: int = 4000) -> str:
        """The end of its log."""
        return f"--- the end of {self}'s log:\n{self.log.read_text()[-characters:]}"

    def kill(self) -> None:
        """With SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """With SIGTERM; gives its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()


def _hold_port() -> socket.socket:
    """A socket that has a free port and does not listen: others are refused the port, but for who
    asks for it by its number and with SO_REUSEADDR, as our servers do."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
