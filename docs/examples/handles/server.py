"""Client handles: code that is no handler of messages reads and writes sessions.

    pip install trustme
    python docs/examples/handles/server.py         listens on wss://127.0.0.1:9999/test/path

The certificate is made at the start, by trustme; `--ca-file FILE` writes what clients have to trust
to a file. With `--cert FILE --key FILE` it is yours, and trustme is not needed. Then, with any
WebSocket client:

    ping              pong
    status            who is connected
    info              your id, address and path
    time              seconds since the server started
    echo TEXT         TEXT; binary messages come back as they are
    tell ID TEXT      sends TEXT to another client
    skip              forgets what you have sent after this and was not read yet

Everybody gets a heartbeat every 30 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from wireroom.core import App, Hub, Session
from wireroom.transports.asyncio import Server, serve

Clock = Callable[[], float]

HELP = "ping, status, info, time, echo TEXT, tell ID TEXT, skip"


def make_app(clock: Clock = time.monotonic) -> App:
    """The demo; it knows no transport. `clock` is what `time` reads."""
    app = App()
    demo = app.module("/test/{name}")  # without message handlers: sessions are read by handle
    started = clock()

    @demo.on_open
    async def serve_client(session: Session) -> None:
        session.send(f"welcome, you are client {session.fd}")
        while (message := await session.receive()) is not None:
            if isinstance(message, bytes):
                reply: object = message
            elif message == "time":
                reply = f"{clock() - started:.3f}"
            else:
                reply = answer(session, message)
            if session.is_connected:
                await session.send(reply)

    @app.every(30)
    def heartbeat(hub: Hub) -> None:
        hub.broadcast("heartbeat")

    return app


def answer(session: Session, line: str) -> object:
    """What a client gets for a text; what is no text is sent as JSON."""
    command, _, rest = line.partition(" ")
    match command:
        case "ping":
            return "pong"
        case "status":
            return {"connected": [each.fd for each in session.hub.sessions()]}
        case "info":
            return {"id": session.fd, "address": session.address, "path": session.path}
        case "echo":
            return rest
        case "tell":
            return tell(session, rest)
        case "skip":
            return f"skipped {skip(session)}"
        case _:
            return f"there is no {command!r}; there are: {HELP}"


def tell(session: Session, rest: str) -> str:
    """Send to a client by its id; the handle may be used wherever it is known."""
    number, _, text = rest.partition(" ")
    other = session.hub.session(int(number)) if number.isdecimal() else None
    if other is None:
        return f"there is no client {number!r}"
    other.send(f"client {session.fd} says: {text}")
    return "told"


def skip(session: Session) -> int:
    """Read what has come already, without waiting; how many messages that were."""
    count = 0
    while session.receive_nowait() is not None:
        count += 1
    return count


def new_certificate(ca_file: Path | None = None) -> ssl.SSLContext:
    """A certificate of our own for 127.0.0.1; `ca_file` is written for clients to trust."""
    try:
        import trustme
    except ImportError:
        raise SystemExit("pip install trustme, or give --cert and --key") from None
    authority = trustme.CA()
    if ca_file is not None:
        authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def main() -> None:
    parser = argparse.ArgumentParser(description="Client handles, by Wireroom.")
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--cert", type=Path, help="a certificate chain, as PEM")
    parser.add_argument("--key", type=Path, help="its private key, as PEM")
    parser.add_argument("--ca-file", type=Path, help="write what clients have to trust")
    arguments = parser.parse_args()
    if arguments.cert is None:
        context = new_certificate(arguments.ca_file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.cert, arguments.key)

    def ready(server: Server) -> None:
        print(f"serving wss://127.0.0.1:{server.addresses[0][1]}/test/path", flush=True)

    asyncio.run(serve(make_app(), "127.0.0.1", arguments.port, ssl=context, on_ready=ready))


if __name__ == "__main__":
    main()
