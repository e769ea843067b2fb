"""A connection in a terminal: lines go out, what comes is shown, until one side ends it."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Final, final

import click

from wireroom.core import CloseCode, RefusedError, RemoteProtocolError, SessionClosedError
from wireroom.core.wire.framing import Message

from ..clients.asyncio import Client, connect
from ..clients.options import ConnectOptions
from .lines import stdin_lines

EXIT_CLOSED: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2

_NORMAL: Final = (
    CloseCode.NORMAL_CLOSURE,
    CloseCode.GOING_AWAY,
    CloseCode.NO_STATUS_RECEIVED,
)
_PING_INTERVAL_S: Final = 1.0


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a user wants of a connection; see `wireroom connect --help`."""

    message: str | None
    once: bool
    binary: bool
    ping: bool
    raw: bool
    timeout_s: float
    linger_s: float


async def converse(url: str, wishes: Wishes, options: ConnectOptions) -> int:
    """Connect, and talk until the end; gives the exit status. Raises `ConfigurationError`."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(connect(url, **options))
        except RefusedError as error:
            body = printable(error.body.decode(errors="replace").strip())
            _note(f"refused: {error.status}" + (f" {body}" if body else ""))
            return EXIT_FAILED
        except (OSError, RemoteProtocolError) as error:  # TimeoutError is an OSError
            _note(f"cannot connect: {str(error) or 'no answer in time'}")
            return EXIT_FAILED
        took_ms = (loop.time() - started) * 1000
        agreed = f", subprotocol {client.subprotocol}" if client.subprotocol else ""
        _note(f"open after {took_ms:.1f} ms{agreed}")
        return await _Conversation(client, wishes).run()


@final
class _Conversation:
    """One connection, from its opening to its end."""

    def __init__(self, client: Client, wishes: Wishes) -> None:
        self._client = client
        self._wishes = wishes
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._bad_lines = False
        self._asked = False  # whether something was sent
        self._heard = asyncio.Event()  # something was received
        self._answered = asyncio.Event()  # whether something was received after it
        self._interrupted = asyncio.Event()

    async def run(self) -> int:
        """Do what is wanted, until that is done or the connection ends; gives the exit status."""
        with suppress(NotImplementedError):  # Windows: a KeyboardInterrupt ends it
            self._loop.add_signal_handler(signal.SIGINT, self._interrupted.set)
        steps = (self._talk(), self._receive(), self._interrupted.wait())
        tasks = [asyncio.ensure_future(each) for each in steps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failed = self._wishes.once and not self._interrupted.is_set()
            for task in tasks:
                if task.done():
                    try:
                        task.result()
                    except SessionClosedError:
                        pass  # its code says how
                    except TimeoutError:
                        _note(f"no answer in {self._wishes.timeout_s:g} s")
                        failed = True
            return await self._close(failed=failed and not self._answered.is_set())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, *, failed: bool) -> int:
        client = self._client
        who = "us" if client.is_connected else "the server"
        await client.close()
        code = client.close_code or CloseCode.ABNORMAL_CLOSURE
        if code == CloseCode.ABNORMAL_CLOSURE:
            _note("lost: 1006 without a Close")
        else:
            _note(f"closed by {who}: {code} {printable(client.close_reason or '')}".rstrip())
        if self._bad_lines:
            return EXIT_BAD_INPUT
        return EXIT_FAILED if failed or code not in _NORMAL else EXIT_CLOSED

    # -- what is wanted -----------------------------------------------------------------------

    async def _talk(self) -> None:
        """Send what there is, and wait for what is still to come."""
        wishes = self._wishes
        if wishes.ping:
            await self._ping()
            return
        await self._send()
        if wishes.once:
            if self._asked:
                async with asyncio.timeout(wishes.timeout_s):
                    await self._answered.wait()
        elif not sys.stdin.isatty():
            await self._wait_for_silence()

    async def _wait_for_silence(self) -> None:
        """Until nothing has come for the time that is to linger."""
        with suppress(TimeoutError):
            while True:
                self._heard.clear()
                async with asyncio.timeout(self._wishes.linger_s):
                    await self._heard.wait()

    async def _send(self) -> None:
        """Send lines until there are no more, or one if that is all that is wanted."""
        async for line in self._lines():
            message = self._message(line)
            if message is None:
                self._bad_lines = True
                continue
            self._asked = True
            self._show(">", message)
            await self._client.send(message)
            if self._wishes.once:
                return

    async def _lines(self) -> AsyncIterator[bytes]:
        if self._wishes.message is not None:
            yield self._wishes.message.encode()
            return
        async for line in stdin_lines():
            yield line

    def _message(self, line: bytes) -> Message | None:
        """What to send for a line; None, with a note, if it is not what it has to be."""
        try:
            return bytes.fromhex(line.decode()) if self._wishes.binary else line.decode()
        except ValueError:
            wanted = "hexadecimal" if self._wishes.binary else "UTF-8 (--binary takes hexadecimal)"
            _note(f"not sent, for it is not {wanted}: {printable(line.decode(errors='replace'))}")
            return None

    async def _ping(self) -> None:
        while True:
            seconds = await self._client.ping(timeout_s=self._wishes.timeout_s)
            self._answered.set()
            self._print("<", "pong", f"          round trip {seconds * 1000:.2f} ms")
            if self._wishes.once:
                return
            await asyncio.sleep(_PING_INTERVAL_S)

    async def _receive(self) -> None:
        """Show what comes until nothing more does, or the answer if that is all that is wanted."""
        async for message in self._client:
            self._heard.set()
            self._show("<", message)
            if self._asked and self._wishes.once:
                self._answered.set()
                return

    # -- showing ------------------------------------------------------------------------------

    def _show(self, direction: str, message: Message) -> None:
        if self._wishes.raw:
            if direction == "<":
                click.echo(message)
            return
        if isinstance(message, str):
            kind, size, shown = "text", len(message.encode()), printable(message)
        else:
            kind, size, shown = "binary", len(message), message.hex(" ")
        self._print(direction, kind, f"{size:6} B  {shown}")

    def _print(self, direction: str, kind: str, what: str) -> None:
        seconds = self._loop.time() - self._opened_at
        click.echo(f"{direction} {seconds:9.3f} s  {kind:6}  {what}")


def printable(text: str) -> str:
    """`text` in one line, with what could command a terminal written as escapes."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _note(what: str) -> None:
    """Say something that is no message, on stderr."""
    click.echo(what, err=True)
