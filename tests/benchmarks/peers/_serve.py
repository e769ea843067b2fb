"""What every peer has in common: its command line, its event loop, its first line of output.

A peer is a program, `python peers/NAME_peer.py --port 0 [--loop asyncio|uvloop]`. It prints
`listening on 127.0.0.1:PORT` as its first line, serves `/echo` (every message goes back) and
`/room` (every message goes to all clients of the room, the sender included) without pings, and
without compression unless it is told `--deflate`, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

HOST = "127.0.0.1"

Listen = Callable[[int], AbstractAsyncContextManager[int]]
"""Serves on a port (0: any) until the context ends; the value is the port."""


def parse_arguments() -> argparse.Namespace:
    """The command line of every peer; one that runs no asyncio takes no notice of `loop`, and
    one that takes no part with compression none of `deflate`."""
    parser = argparse.ArgumentParser(description="One contestant of the Wireroom benchmark.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--deflate", action="store_true", help="negotiate compression")
    return parser.parse_args()


def main(listen: Listen) -> None:
    """Run one peer in asyncio until SIGTERM."""
    arguments = parse_arguments()
    with asyncio.Runner(loop_factory=_loop_factory(arguments.loop)) as runner:
        runner.run(_serve_until_sigterm(listen, arguments.port))


def main_in_trio(listen: Listen) -> None:
    """Run one peer in trio until SIGTERM."""
    import trio

    port = parse_arguments().port

    async def serve() -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with listen(port) as bound_port:
                print(f"listening on {HOST}:{bound_port}", flush=True)
                await anext(aiter(signals))

    trio.run(serve)


def main_in_threads(serve: Callable[[int], tuple[int, Callable[[], object]]]) -> None:
    """Run one peer in threads until SIGTERM; `serve(port)` begins, and gives the port and what
    ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    bound_port, end = serve(parse_arguments().port)
    print(f"listening on {HOST}:{bound_port}", flush=True)
    signal.sigwait({signal.SIGTERM})
    end()


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop  # type: ignore[import-not-found, unused-ignore]

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve_until_sigterm(listen: Listen, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with listen(port) as bound_port:
        print(f"listening on {HOST}:{bound_port}", flush=True)
        await stop.wait()
