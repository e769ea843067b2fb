"""Connections that one process accepts, and another serves: descriptors through a Unix socket.

python docs/examples/embedding/descriptors.py worker /tmp/rooms.sock
python docs/examples/embedding/descriptors.py front /tmp/rooms.sock

The front reads the head of each request, as a router would, and passes on the connection together
with what it has read. When the worker is started anew, the front goes on accepting.
"""

import argparse
import os
import signal
import socket
import threading
from contextlib import suppress

from wireroom.core import App, Request, Session
from wireroom.transports.blocking import Server
from wireroom.transports.listening import close_listeners, open_listeners

TIMEOUT_S = 10.0
HEAD_BYTES_MAX = 65536
NOBODY_SERVES = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n"

app = App()


@app.module("/echo").on_message
def echo(session: Session, message: str | bytes) -> str | bytes:
    return message


@app.http("/")
def page(request: Request) -> str:
    return f"a page of process {os.getpid()}\n"


# -- the front: accepts, reads, passes on -----------------------------------------------------


def pass_on(sock: socket.socket, path: str) -> None:
    """Read a head, and give the connection to who listens on `path`; a thread's work."""
    with sock, suppress(OSError):  # the client has left, or is too slow
        sock.settimeout(TIMEOUT_S)
        received = b""
        while b"\r\n\r\n" not in received and len(received) < HEAD_BYTES_MAX:
            data = sock.recv(HEAD_BYTES_MAX)
            if not data:
                return
            received += data
        try:
            send_connection(sock, received, path)
        except OSError:
            sock.sendall(NOBODY_SERVES)
    # Our descriptor is closed now. The connection is not shut down by it: the worker has one too.


def send_connection(sock: socket.socket, received: bytes, path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(TIMEOUT_S)
        channel.connect(path)
        sent = socket.send_fds(channel, [received], [sock.fileno()])
        channel.sendall(received[sent:])


def run_front(path: str, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener, suppress(KeyboardInterrupt):
        print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=pass_on, args=(sock, path), daemon=True).start()


# -- the worker: takes over, serves -----------------------------------------------------------


def take_over(channel: socket.socket) -> tuple[socket.socket, bytes]:
    """A connection, and what was read from it."""
    channel.settimeout(TIMEOUT_S)
    received, (fd,), _, _ = socket.recv_fds(channel, HEAD_BYTES_MAX, 1)
    sock = socket.socket(fileno=fd)
    try:
        sock.set_inheritable(False)
        while data := channel.recv(HEAD_BYTES_MAX):
            received += data
    except BaseException:
        sock.close()
        raise
    return sock, received


def run_worker(path: str) -> None:
    with Server(app, port=None) as server:  # it listens nowhere itself
        listeners = open_listeners(unix=path, unix_mode=0o600)  # who may connect may pass sockets
        listeners[0].setblocking(True)
        print(f"taking over on {path}", flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                channel, _ = listeners[0].accept()
                with channel:
                    try:
                        server.adopt(*take_over(channel))
                    except (OSError, ValueError) as error:  # the front has left half-way
                        print(f"nothing was taken over: {error}")
        close_listeners(listeners)
        # On leaving, every session gets a Close.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["front", "worker"])
    parser.add_argument("path", help="of the Unix socket between them")
    parser.add_argument("--port", type=int, default=8305, help="of the front")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if arguments.role == "worker":
        run_worker(arguments.path)
    else:
        run_front(arguments.path, arguments.port)


if __name__ == "__main__":
    main()
