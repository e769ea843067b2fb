"""Ports that a program of a test is to listen on, or nobody: kept until then, since others look for
free ones at the same time.

    with reserved_ports(2) as (first, second):
        start(port=first)
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved_ports(count: int = 1, *, also: tuple[int, ...] = ()) -> Iterator[list[int]]:
    """Ports of 127.0.0.1 that follow each other; with each, those that are so much higher.

    Nobody else gets them, and who connects to one is refused; but a server that sets SO_REUSEADDR,
    as servers do, may listen on it.
    """
    with ExitStack() as stack:
        while True:
            with ExitStack() as tried:
                try:
                    first = _bind(tried, 0)
                    for port in range(first, first + count):
                        for more in (0, *also):
                            if port + more != first:
                                _bind(tried, port + more)
                except (OSError, OverflowError):  # in use; no port
                    continue
                stack.enter_context(tried.pop_all())
                break
        yield [*range(first, first + count)]


def _bind(stack: ExitStack, port: int) -> int:
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    bound: int = sock.getsockname()[1]
    return bound
