"""SIGHUP reads a server's certificate again."""

from __future__ import annotations

import logging
import signal
import threading
from queue import SimpleQueue
from typing import Final

from wireroom.core import ConfigurationError

from ..tls import Certificate

logger: Final = logging.getLogger("wireroom.cli")


def reload_at_sighup(certificate: Certificate) -> None:
    """From now on. A certificate that cannot be used is logged, and the old one stays.

    It is read in a thread, for a signal's handler may do no more than wake one.
    """
    if not hasattr(signal, "SIGHUP"):
        return
    asked: SimpleQueue[None] = SimpleQueue()  # its put is reentrant

    def reload() -> None:
        while True:
            asked.get()
            try:
                certificate.reload()
            except ConfigurationError as error:
                logger.error("the certificate stays as it was: %s", error)
            else:
                logger.warning("the certificate was read again")

    threading.Thread(target=reload, name="wireroom-certificate", daemon=True).start()
    signal.signal(signal.SIGHUP, lambda *_: asked.put(None))
