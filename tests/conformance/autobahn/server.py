"""The echo server that Autobahn's suite is run against: `server.py --port 0 --transport trio`."""

from __future__ import annotations

import argparse
from typing import Literal

from wireroom.core import App, Deflate, Limits, Session
from wireroom.transports.cli.running import TRANSPORTS, Listening, run_on


def make_app(framing: Literal["wireroom", "wsproto"]) -> App:
    """Echo, with room for the suite's largest messages (16 MiB) and most fragments (65,536)."""
    limits = Limits(message_bytes_max=32 * 2**20, message_fragments_max=100_000)
    # Compress small messages too: that is what cases 12 and 13 are about.
    app = App(limits=limits, deflate=Deflate(threshold_bytes=0), framing=framing)
    echo = app.module("/")

    @echo.on_message
    def on_message(session: Session, message: str | bytes) -> None:
        session.send(message)

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--transport", choices=TRANSPORTS, default="asyncio")
    parser.add_argument("--framing", choices=("wireroom", "wsproto"), default="wireroom")
    arguments = parser.parse_args()

    def ready(server: Listening) -> None:
        print(f"listening on 127.0.0.1:{server.addresses[0][1]}", flush=True)

    app = make_app(arguments.framing)
    run_on(arguments.transport, app, on_ready=ready, host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
