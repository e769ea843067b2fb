"""WebSockets in a WSGI application under gunicorn's gthread worker.

cd docs/examples/embedding
gunicorn --config python:gunicorn_app gunicorn_app:application
curl -d hello http://127.0.0.1:8303/say      # to every session of ws://127.0.0.1:8303/echo
"""

import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from wireroom.core import App, LocalProtocolError, Session, request_head
from wireroom.transports.blocking import Server

app = App()


@app.module("/echo").on_message
def echo(session: Session, message: str | bytes) -> str | bytes:
    return message


# -- gunicorn's settings, and its hooks: a Server in each worker, from its beginning to its end ----

bind = "127.0.0.1:8303"
worker_class = "gthread"
threads = 2
rooms = Server(app, port=None)  # it listens nowhere, and has no thread until it starts


def post_worker_init(worker: Any) -> None:
    rooms.start()


def worker_exit(server: Any, worker: Any) -> None:
    rooms.shutdown()  # every session gets a Close


# -- the WSGI application ---------------------------------------------------------------------


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Pages as ever; a request for a WebSocket is handed over, with its socket."""
    if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
        return hand_over(environ, start_response)
    if environ["REQUEST_METHOD"] == "POST":
        text = environ["wsgi.input"].read().decode()
        body = f"{rooms.call(lambda hub: hub.broadcast(text))}\n".encode()
    else:
        body = b"a page of gunicorn\n"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def hand_over(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    sock = environ["gunicorn.socket"]
    if isinstance(sock, ssl.SSLSocket) or "HTTP_TRANSFER_ENCODING" in environ:
        start_response("501 Not Implemented", [("Content-Length", "0")])
        return []
    try:
        head = request_head(environ["REQUEST_METHOD"], environ["RAW_URI"], headers_of(environ))
    except LocalProtocolError:
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []
    read_ahead = environ["wsgi.input"].reader.unreader.buf.getvalue()
    rooms.adopt(take(sock), head + read_ahead)
    start_response("101 Switching Protocols", [])  # for the access log; it reaches nobody
    return []


def headers_of(environ: dict[str, Any]) -> list[tuple[str, str]]:
    headers = {key[5:]: value for key, value in environ.items() if key.startswith("HTTP_")}
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            headers[key] = environ[key]
    return [(key.replace("_", "-"), value) for key, value in headers.items()]


def take(sock: socket.socket) -> socket.socket:
    """The connection of `sock`, which has from now on one that has ended: its owner may write to
    that, shut it down and close it, and finds that the client has gone."""
    taken = sock.dup()
    ended, gone = socket.socketpair()
    with ended, gone:
        os.dup2(ended.fileno(), sock.fileno(), inheritable=False)
    return taken
