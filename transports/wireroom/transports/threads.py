"""Threads that are started when there is a call for them, and kept a while for the next.

    threads = Threads("wireroom", stack_bytes=512 * 1024)
    threads.run(call)
    threads.close(timeout_s=1.0)

Unlike an executor's they are not bounded in number, since each connection has one, and do not hold
up the end of the process, since a handler may never return.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias, final

from wireroom.core import ConfigurationError

logger: Final = logging.getLogger("wireroom.threads")

Call: TypeAlias = Callable[[], object]

_STACK_BYTES_MIN: Final = 32 * 1024  # what `threading.stack_size` takes
_IDLE_S: Final = 5.0  # after which a thread without work ends
_IDLE_MAX: Final = 64  # beyond, a thread ends at once

_starting: Final = threading.Lock()  # the stack's size is one setting of the process


@final
class Threads:
    """Runs each call in a thread of its own. `stack_bytes` is what a thread's stack may grow to;
    0 is the system's default.

    Raises `ConfigurationError` for a size that no stack can have.
    """

    def __init__(self, name: str, *, stack_bytes: int) -> None:
        if stack_bytes and stack_bytes < _STACK_BYTES_MIN:
            raise ConfigurationError(
                "stack_bytes", f"must be 0 or at least {_STACK_BYTES_MIN}, not {stack_bytes!r}"
            )
        self._name = name
        self._stack_bytes = stack_bytes
        self._calls: SimpleQueue[Call | None] = SimpleQueue()  # one for each that was idle
        self._waiting: deque[Call] = deque()  # calls that got no thread
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for a call, and were not given one
        self._started = 0
        self._closed = False
        self._threads: set[threading.Thread] = set()

    def __len__(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def run(self, call: Call) -> None:
        """Run `call` in a thread. Raises `RuntimeError` if the system has none left."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._calls.put(call)
                return
            self._started += 1
            name = f"{self._name}-{self._started}"
        thread = threading.Thread(target=self._work, args=(call,), name=name, daemon=True)
        with _starting:
            before = threading.stack_size(self._stack_bytes)
            try:
                thread.start()
            finally:
                threading.stack_size(before)

    def run_or_wait(self, call: Call) -> None:
        """The same, but if the system has no thread left, the first that has done its work
        does this."""
        try:
            self.run(call)
        except RuntimeError as error:
            logger.error("%s: what is to be done waits until another thread is free", error)
            with self._lock:
                self._waiting.append(call)

    def close(self, timeout_s: float) -> None:
        """End the threads that are done, and wait so long for the others."""
        until = time.monotonic() + timeout_s
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._calls.put(None)
            self._idle = 0
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _work(self, call: Call | None) -> None:
        thread = threading.current_thread()
        self._threads.add(thread)
        while call is not None:
            try:
                call()
            except Exception:
                logger.exception("a thread's work failed: %r", call)
            call = None  # and nothing of it is held while this waits
            call = self._next()
        self._threads.discard(thread)

    def _next(self) -> Call | None:
        """The next call; None if this thread is to end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._closed or self._idle >= _IDLE_MAX:
                return None
            self._idle += 1
        try:
            return self._calls.get(timeout=_IDLE_S)
        except Empty:
            pass
        with self._lock:
            if self._idle:
                self._idle -= 1
                return None
        return self._calls.get()  # `run` has counted on it in the last moment
