"""A Redis of the tests' own: on a Unix socket in a temporary folder, to kill and restart.

server = PrivateRedis()
server.start()
backplane = RedisBackplane(server.url)
server.kill()
server.start()
server.remove()
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ports import reserved_ports

START_TIMEOUT_S = 60.0
MISSING = "Redis is not installed: apt-get install redis-server"


class PrivateRedis:
    """One server. Without `durable` it has forgotten everything after `kill`."""

    def __init__(self, *, durable: bool = False, cluster_port: int = 0) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="wr-redis-"))
        self.path = self._folder / "s"
        program = shutil.which("redis-server")
        assert program is not None, MISSING
        self.port = cluster_port
        self._command = [program, "--port", str(cluster_port), "--unixsocket", str(self.path)]
        if cluster_port:
            self._command += ["--bind", "127.0.0.1", "--cluster-enabled", "yes"]
        self._command += ["--dir", str(self._folder), "--save", "", "--loglevel", "warning"]
        if durable:
            self._command += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (self._folder / "log").open("wb")

    @property
    def url(self) -> str:
        """Where it is."""
        return f"unix://{self.path}"

    def start(self) -> None:
        """Run, and wait until it answers."""
        assert self._process is None or self._process.poll() is not None
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        until = time.monotonic() + START_TIMEOUT_S
        while self.command("PING") != b"+PONG\r\n":
            assert self._process.poll() is None, self._said()
            assert time.monotonic() < until, f"Redis does not start: {self._said()}"
            time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """What it says, as it stands in the protocol; nothing if it is away."""
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(START_TIMEOUT_S)
                sock.connect(str(self.path))
                sock.sendall(b" ".join(word.encode() for word in words) + b"\r\n")
                return sock.recv(65536)
        except OSError:
            return b""

    def kill(self) -> None:
        """With SIGKILL."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(START_TIMEOUT_S)

    def pause(self) -> None:
        """Answer nothing, with connections open, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """End it, and delete all it had."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]


def redis_server(*, durable: bool = False) -> Iterator[PrivateRedis]:
    """What a fixture yields: a running server, or a skip that says what to install."""
    if shutil.which("redis-server") is None:
        pytest.skip(MISSING)
    server = PrivateRedis(durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.remove()


class PrivateCluster:
    """Three shards of a Redis Cluster, durable and without replicas."""

    def __init__(self) -> None:
        self.shards: list[PrivateRedis] = []
        self._ports = ExitStack()

    @property
    def url(self) -> str:
        """Where one of them is."""
        return f"redis://127.0.0.1:{self.shards[0].port}"

    def start(self) -> None:
        """Run, and wait until all slots are served."""
        # The clusters' own connections have ports that are so much higher.
        for port in self._ports.enter_context(reserved_ports(3, also=(10_000,))):
            shard = PrivateRedis(durable=True, cluster_port=port)
            self.shards.append(shard)
            shard.start()
        for index, shard in enumerate(self.shards):
            first, end = index * 16384 // 3, (index + 1) * 16384 // 3
            assert shard.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))[:3] == b"+OK"
            shard.command("CLUSTER", "MEET", "127.0.0.1", str(self.shards[0].port))
        until = time.monotonic() + START_TIMEOUT_S
        for shard in self.shards:
            while b"cluster_state:ok" not in (info := shard.command("CLUSTER", "INFO")):
                assert time.monotonic() < until, info
                time.sleep(0.05)

    def remove(self) -> None:
        """End it, and delete all it had."""
        for shard in self.shards:
            shard.remove()
        self._ports.close()


def redis_cluster() -> Iterator[PrivateCluster]:
    """What a fixture yields: a running Cluster, or a skip that says what to install."""
    if shutil.which("redis-server") is None:
        pytest.skip(MISSING)
    cluster = PrivateCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()
