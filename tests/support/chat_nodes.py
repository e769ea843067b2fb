"""Nodes of the chat in processes of their own, to be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import final

from chat_clients import SECRET
from sources import ROOT

END_TIMEOUT_S = 20.0


@final
class Node:
    """One node; it keeps its port. What it logs is in `log`."""

    def __init__(self, folder: Path, name: str, **settings: str) -> None:
        rates = {
            f"CHAT_{name}_{each}": "1000000"
            for name in ("MESSAGES", "REQUESTS", "LOG_INS")
            for each in ("PER_S", "BURST")
        }
        self.log = folder / f"{name}.log"
        self.port = 0
        self._environment = {
            **os.environ,
            "CHAT_FOLDER": str(folder),
            "JWT_SECRET": SECRET,
            **rates,
            **settings,
        }
        self._process: subprocess.Popen[str] | None = None

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
        assert "http://127.0.0.1:" in first, self.log.read_text()[-4000:]
        self.port = int(first.split("127.0.0.1:")[1].split()[0])

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
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()
