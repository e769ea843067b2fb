"""Wireroom inside uvicorn, which does the framing."""

from __future__ import annotations

from functools import partial

from _serve import main
from _uvicorn import listen_with
from wireroom.transports.asgi import ASGIApp
from wireroom_peer import app

if __name__ == "__main__":
    main(partial(listen_with, ASGIApp(app)))
