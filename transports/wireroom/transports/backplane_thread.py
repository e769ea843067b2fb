"""A backplane for a server without a loop: in a thread with one of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, final

from wireroom.backplanes.link import Backplane, Link

logger: Final = logging.getLogger("wireroom.blocking")


@final
class BackplaneThread:
    """Runs a backplane until `end`."""

    def __init__(self, backplane: Backplane, link: Link) -> None:
        self._backplane = backplane
        self._link = link
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(backplane.run(link))
        link.call_soon = self._call_soon
        self._thread = threading.Thread(target=self._run, name="wireroom-backplane", daemon=True)
        self._thread.start()

    def _call_soon(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(call)

    def _run(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
        except Exception:
            logger.exception("the backplane has failed")
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def end(self) -> None:
        """End it, and wait until it has; its last events come meanwhile."""
        self._call_soon(self._task.cancel)
        self._thread.join()
