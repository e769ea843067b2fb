"""A thread that accepts connections, for a server without a loop."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import final

from wireroom.core.wire.request import Address

from .listening import accept_all
from .servers import Listeners


@final
class AcceptThread:
    """Gives `serve` the connections of open listeners, with their peers' addresses, until `end`.
    `serve` raises `RuntimeError`, and has closed the socket, if the system has no thread for it."""

    def __init__(
        self, listeners: Listeners, serve: Callable[[socket.socket, Address], object]
    ) -> None:
        self._listeners = listeners
        self._serve = serve
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="wireroom-accept", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (self._woken, *self._listeners.sockets):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._woken in ready:
                    return
                for listener in self._listeners.sockets:
                    if listener in ready:
                        self._accept(listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connections, _, exhausted = accept_all(listener)
        except OSError as error:  # the listener is of no use
            connections, exhausted = [], error
        for sock, address in connections:
            try:
                self._serve(sock, address)
            except RuntimeError as error:
                exhausted = OSError(str(error))
        if exhausted is not None:
            time.sleep(self._listeners.pressure.exhausted(exhausted, now=time.monotonic()))

    def end(self) -> None:
        """End it, and wait until it has; the listeners stay open."""
        self._waker.close()
        self._thread.join()
        self._woken.close()
