"""WebSockets in a program that has the standard library's `http.server`.

python docs/examples/embedding/http_server.py
curl -d hello http://127.0.0.1:8302/say      # to every session of ws://127.0.0.1:8302/echo
"""

import argparse
import signal
import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wireroom.core import App, LocalProtocolError, Session, request_head
from wireroom.transports.blocking import Server

app = App()


@app.module("/echo").on_message
def echo(session: Session, message: str | bytes) -> str | bytes:
    return message


class Handler(BaseHTTPRequestHandler):
    """Pages as ever; a request for a WebSocket is handed over, with its socket."""

    protocol_version = "HTTP/1.1"
    rooms: Server
    rfile: Any

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.hand_over()
        else:
            self.answer("a page of http.server\n")

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.answer(f"{self.rooms.call(lambda hub: hub.broadcast(text))}\n")

    def hand_over(self) -> None:
        try:
            head = request_head(self.command, self.path, self.headers.items())
        except LocalProtocolError as error:
            self.send_error(400, explain=str(error))
            return
        self.connection.setblocking(False)  # so that peek() gives only what is there
        received = head + self.rfile.peek()
        sock = socket.socket(fileno=self.connection.detach())  # else it would be shut down here
        self.close_connection = True  # this thread reads no further request from it
        self.rooms.adopt(sock, received)

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="http.server, with WebSockets.")
    parser.add_argument("--port", type=int, default=8302)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        Server(app, port=None) as Handler.rooms,  # it listens nowhere
        ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler) as pages,
    ):
        print(f"serving on http://127.0.0.1:{pages.server_port}", flush=True)
        with suppress(KeyboardInterrupt):
            pages.serve_forever()
        # On leaving, every session gets a Close.


if __name__ == "__main__":
    main()
