"""Where a server listens: TCP, Unix sockets, sockets that it was given or has inherited.

    listeners = open_listeners(host="localhost", port=0)
    try:
        accepted = accept_all(listeners[0])   # whenever it is readable
    finally:
        close_listeners(listeners)

All transports share this, so that one setting means the same on each and fails in the same words.
Nothing here waits for a peer; a host's name is looked up with `getaddrinfo`, which may block.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict, Unpack, final
from weakref import WeakKeyDictionary

from wireroom.core import ConfigurationError
from wireroom.core.wire.request import Address

logger: Final = logging.getLogger("wireroom.listening")

_FIRST_INHERITED_FD: Final = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_SHARED_PORT_TRIES: Final = 32  # for a free port that several addresses share
_ACCEPTED_MAX: Final = 64


class SocketOptions(TypedDict, total=False):
    """`ListenOptions` without `host` and `port`, for what takes those as parameters of its own."""

    unix: str | os.PathLike[str] | None
    """The path of a Unix socket. A stale file of a server that is gone is replaced."""
    unix_mode: int
    """The permissions of that file. By default 0o660: who may write to it may connect, so its
    owner and its group, which a reverse proxy can be in."""
    sockets: Sequence[socket.socket] | None
    """Stream sockets that are bound; those that do not listen yet will. They are the server's
    from when it has started: it closes them."""
    inherited: bool
    """Listen on what systemd, or who else follows sd_listen_fds(3), has opened for this process."""
    backlog: int
    """How many connections wait to be accepted; the system may allow fewer. By default 1024."""
    reuse_port: bool
    """SO_REUSEPORT: several processes listen on one TCP port, and share its connections."""


class ListenOptions(SocketOptions, total=False):
    """Where to listen: either TCP (`host`, `port`), or `unix`, or `sockets`, or `inherited`.

    What has its default counts as not given.
    """

    host: str | None
    """An address, or a name: all its addresses. None: every interface, IPv4 and IPv6.
    An IPv6 socket takes IPv6 only, also on `::`. By default 127.0.0.1."""
    port: int | None
    """By default 8301. 0: any free one; several addresses share it. None: nowhere, for a server
    whose connections others have accepted."""


BACKLOG: Final = 1024

_DEFAULTS: Final = ListenOptions(
    host="127.0.0.1",
    port=8301,
    unix=None,
    unix_mode=0o660,
    sockets=None,
    inherited=False,
    backlog=BACKLOG,
    reuse_port=False,
)


@final
class _SocketFile(NamedTuple):
    """The file of a Unix socket that we have made."""

    path: Path  # absolute
    identity: tuple[int, int]  # device, inode
    pid: int  # of who made it: a forked child does not remove it


_socket_files: Final[WeakKeyDictionary[socket.socket, _SocketFile]] = WeakKeyDictionary()


def open_listeners(**options: Unpack[ListenOptions]) -> list[socket.socket]:
    """The sockets to accept from: bound, listening, not blocking. None if `port` is None.

    Raises `ConfigurationError`, which names the setting and what to do. What was opened until
    then is closed again; `sockets` are the caller's still. The variables of `inherited` are unset
    in any case, so that no child process takes them for its own.
    """
    if unknown := options.keys() - _DEFAULTS.keys():
        raise TypeError(f"unknown options for listening: {', '.join(sorted(unknown))}")
    chosen = _DEFAULTS | options
    source = _source(chosen)
    _check_backlog(backlog := chosen["backlog"])
    if source == "inherited":
        return _take_inherited()
    if source == "sockets":
        return _take_sockets(chosen["sockets"] or (), backlog)
    if source == "unix":
        assert chosen["unix"] is not None
        return [_open_unix(os.fspath(chosen["unix"]), chosen["unix_mode"], backlog)]
    if chosen["port"] is None:
        return []
    return _open_tcp(chosen["host"], chosen["port"], backlog, reuse_port=chosen["reuse_port"])


def close_listeners(sockets: Sequence[socket.socket]) -> None:
    """Close them, and remove the files of the Unix sockets that `open_listeners` has made.

    A file that another server has put in its place is left. Doing this twice is harmless.
    """
    for sock in sockets:
        file = _socket_files.pop(sock, None)
        if file is not None and file.pid == os.getpid():
            # Before the close: while it is open no other file can have its inode's number.
            with suppress(OSError):
                if _identity(file.path) == file.identity:
                    file.path.unlink()
        sock.close()


def _source(chosen: ListenOptions) -> str:
    """Which of the four ways was asked for. Raises `ConfigurationError` if that is not clear."""
    given = {name for name, value in chosen.items() if value != _DEFAULTS.get(name)}
    asked: list[str] = [name for name in ("unix", "sockets", "inherited") if name in given]
    if not asked and "unix_mode" in given:
        raise ConfigurationError("unix_mode", "is for a Unix socket: give unix too, or leave it")
    if asked:
        for name in ("host", "port", "reuse_port", "unix_mode"):
            if name in given and not (name == "unix_mode" and asked[0] == "unix"):
                asked.append(name)
    if len(asked) > 1:
        raise ConfigurationError(", ".join(asked), "exclude each other: give only one of them")
    return asked[0] if asked else "tcp"


# -- TCP --------------------------------------------------------------------------------------


def _open_tcp(
    host: str | None, port: int, backlog: int, *, reuse_port: bool
) -> list[socket.socket]:
    if not 0 <= port <= 65535:
        raise ConfigurationError("port", f"must be 0 (any free one) to 65535, not {port!r}")
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("reuse_port", f"is not supported on {sys.platform}: leave it out")
    addresses = _resolve(host, port)
    for last_try in (False,) * (_SHARED_PORT_TRIES - 1) + (True,):
        try:
            return _open_each(addresses, backlog, reuse_port=reuse_port)
        except _PortTakenError as error:
            if last_try or port != 0:
                raise error.explanation from error.__cause__
    raise AssertionError  # the last try returns or raises


class _PortTakenError(Exception):
    """A port is in use on one of the addresses; another port may be free on all."""

    def __init__(self, explanation: ConfigurationError) -> None:
        super().__init__()
        self.explanation = explanation


def _resolve(host: str | None, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """The family and the socket address of each address of `host`."""
    if host == "":
        raise ConfigurationError("host", "is empty: give an address, or None for every interface")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:  # ValueError: no name at all, by IDNA or for its NUL
        raise ConfigurationError(
            "host", f"{host!r} does not resolve: {_why(error)}; give an address of this machine"
        ) from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _open_each(
    addresses: list[tuple[socket.AddressFamily, Any]], backlog: int, *, reuse_port: bool
) -> list[socket.socket]:
    """A listener on each address; with port 0 on the port that the first one gets."""
    opened: list[socket.socket] = []
    unusable: OSError | None = None
    try:
        for family, address in addresses:
            host, port, *rest = address
            if port == 0 and opened:
                port = opened[0].getsockname()[1]
            try:
                sock = _listen_tcp(family, (host, port, *rest), backlog, reuse_port=reuse_port)
            except OSError as error:
                if _is_ipv6_off(error, family, host):
                    unusable = error
                    continue
                explanation = _tcp_problem(error, host, port)
                if error.errno == errno.EADDRINUSE:
                    raise _PortTakenError(explanation) from error
                raise explanation from error
            opened.append(sock)
        if not opened:
            raise ConfigurationError(
                "host", "this system has IPv6 switched off: give an IPv4 address"
            ) from unusable
    except BaseException:
        close_listeners(opened)
        raise
    return opened


def _listen_tcp(
    family: socket.AddressFamily, address: Any, backlog: int, *, reuse_port: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it lets another program take the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_ipv6_off(error: OSError, family: socket.AddressFamily, host: str) -> bool:
    """Whether it failed because the system does without IPv6, which is no reason to stop."""
    return (
        family == socket.AF_INET6
        and host in {"::", "::1"}
        and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
    )


def _tcp_problem(error: OSError, host: str, port: int) -> ConfigurationError:
    """Why `host` and `port` cannot be used, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return ConfigurationError(
                "port",
                f"{port} is in use on {host}: stop the program that has it, or give another port"
                " (0 for any free one)",
            )
        case errno.EACCES | errno.EPERM:
            return ConfigurationError(
                "port",
                f"no permission to listen on {format_address((host, port))}: below 1024 this needs"
                " root or CAP_NET_BIND_SERVICE; give another port, or have systemd open it"
                " (inherited)",
            )
        case errno.EADDRNOTAVAIL:
            return ConfigurationError(
                "host", f"{host} is no address of this machine: give one that is, or None for all"
            )
    return ConfigurationError(
        "host, port", f"cannot listen on {format_address((host, port))}: {_why(error)}"
    )


# -- Unix sockets -----------------------------------------------------------------------------


def _open_unix(path: str, mode: int, backlog: int) -> socket.socket:
    """Listen on `path`. Two servers that start on a stale file in the same moment can both succeed;
    the second has the file then."""
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError("unix", f"is not supported on {sys.platform}: give a port")
    if not path or "\0" in path:
        raise ConfigurationError("unix", f"{path!r} is no path of a file")
    if not 0 <= mode <= 0o777:
        raise ConfigurationError(
            "unix_mode", f"must be 0 to 0o777, written in octal as 0o660 is, not {mode!r}"
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            _remove_stale(path)
            sock.bind(path)
            file = _SocketFile(Path(path).absolute(), _identity(Path(path)), os.getpid())
            _socket_files[sock] = file
            file.path.chmod(mode)  # nobody can connect before it listens
            sock.listen(backlog)
        except OSError as error:
            raise _unix_problem(error, path) from error
        sock.setblocking(False)
    except BaseException:
        close_listeners([sock])
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove the file of a server that is gone. Raises `ConfigurationError` if it is in use, or
    anything but a socket, and OSError."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(
            "unix", f"{path} exists and is no socket: remove it, or give another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer == errno.ENOENT:
        return  # it has just gone
    if answer in {errno.EACCES, errno.EPERM}:
        raise ConfigurationError(
            "unix",
            f"no permission to ask whether a server listens on {path}: remove it if none does,"
            " or give another path",
        )
    if answer != errno.ECONNREFUSED:  # 0; EAGAIN: its backlog is full; EPROTOTYPE: not a stream
        raise ConfigurationError(
            "unix", f"{path} is in use: stop the program that has it, or give another path"
        )
    with suppress(FileNotFoundError):
        Path(path).unlink()


def _unix_problem(error: OSError, path: str) -> ConfigurationError:
    """Why `path` cannot be used, and what to do."""
    folder = os.path.dirname(path) or "."  # noqa: PTH120 # as written, for a message
    if error.errno is None:  # Python's own: it has not come as far as the system
        return ConfigurationError(
            "unix",
            f"{path} is too long, with {len(os.fsencode(path))} bytes (about 100 are allowed):"
            " give a shorter path, or a relative one",
        )
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            problem = f"there is no folder {folder}: make it, or give another path"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            problem = f"no permission to make {path}: allow writing in {folder}, or give another"
        case errno.EADDRINUSE:
            problem = f"another program has just made {path}: stop it, or give another path"
        case _:
            problem = f"cannot listen on {path}: {_why(error)}"
    return ConfigurationError("unix", problem)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


# -- sockets that others have opened ----------------------------------------------------------


def _take_sockets(sockets: Sequence[socket.socket], backlog: int) -> list[socket.socket]:
    if not sockets:
        raise ConfigurationError("sockets", "is empty: give one that is bound, or leave it out")
    for sock in sockets:
        try:
            problem = _not_a_listener(sock)
            if problem == "does not listen" and _is_bound(sock):
                sock.listen(backlog)
                problem = ""
            elif problem:
                problem += ": bind it first"
        except OSError as error:
            problem = _why(error)
        if problem:
            raise ConfigurationError("sockets", f"{sock!r} {problem}")
    for sock in sockets:
        sock.setblocking(False)
    return list(sockets)


def _take_inherited() -> list[socket.socket]:
    """The sockets that LISTEN_FDS counts, from file descriptor 3 on (sd_listen_fds(3))."""
    count = os.environ.pop("LISTEN_FDS", "")
    pid = os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count or not pid:
        raise ConfigurationError(
            "inherited",
            "LISTEN_FDS and LISTEN_PID are not set: start this from a systemd .socket unit,"
            " or give a port",
        )
    if pid != str(os.getpid()):
        raise ConfigurationError(
            "inherited",
            f"the sockets are for process {pid} (LISTEN_PID), and this is {os.getpid()}: start the"
            " server itself, or with exec, not as the child of a script",
        )
    if not count.isascii() or not count.isdigit() or int(count) == 0:
        raise ConfigurationError("inherited", f"LISTEN_FDS is {count!r}, not a number from 1 on")
    opened: list[socket.socket] = []
    try:
        for index in range(int(count)):
            fd = _FIRST_INHERITED_FD + index
            name = names[index] if index < len(names) else ""
            opened.append(_take_fd(fd, f"file descriptor {fd}" + (f" ({name})" if name else "")))
    except BaseException:
        close_listeners(opened)
        raise
    return opened


def _take_fd(fd: int, what: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:  # not closed: it may be anything
        raise ConfigurationError(
            "inherited", f"{what} is no socket: {_why(error)}; see LISTEN_FDS"
        ) from error
    try:
        if problem := _not_a_listener(sock):
            raise ConfigurationError(
                "inherited",
                f"{what} {problem}: use ListenStream= and Accept=no in the .socket unit",
            )
        sock.set_inheritable(False)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _not_a_listener(sock: socket.socket) -> str:
    """What `sock` lacks to be accepted from; empty if nothing."""
    if sock.type != socket.SOCK_STREAM:
        return "is not a stream socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen"
    return ""


def _is_bound(sock: socket.socket) -> bool:
    name = sock.getsockname()
    return bool(name[1] if isinstance(name, tuple) else name)


# -- accepting --------------------------------------------------------------------------------

# Connections that ended before they were accepted, and errors of their network, which Linux gives
# here too (accept(2)). The next connection may be fine.
_ABORTED: Final = {
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EPERM",  # forbidden by the firewall
        "EPROTO",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
}
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@final
class Accepted(NamedTuple):
    """What one call of `accept_all` has got."""

    connections: list[tuple[socket.socket, Address]]  # not blocking, with their peers' addresses
    more: bool  # the bound was reached: call again, after other work
    exhausted: OSError | None  # no descriptor or memory for the next; see `AcceptPressure`


def accept_all(listener: socket.socket, connections_max: int = _ACCEPTED_MAX) -> Accepted:
    """Accept what waits, at most `connections_max`, without blocking.

    Connections that ended while they waited are skipped. Raises OSError if the listener itself is
    of no use, because it is closed for example.
    """
    connections: list[tuple[socket.socket, Address]] = []
    for _ in range(connections_max):
        try:
            sock, name = listener.accept()
        except BlockingIOError:
            return Accepted(connections, more=False, exhausted=None)
        except OSError as error:
            if error.errno in _ABORTED:
                continue
            if error.errno in _EXHAUSTED:
                return Accepted(connections, more=False, exhausted=error)
            if connections:
                break  # these first; it will be raised by the next call
            raise
        sock.setblocking(False)
        connections.append((sock, peer_address(name)))
    return Accepted(connections, more=True, exhausted=None)


@final
class AcceptPressure:
    """When to accept again after the system had no descriptor or memory left for a connection.

    Connections wait in the backlog in the meantime, and the server goes on with those it has. One
    may serve all listeners, in an event loop or in several threads.

        if accepted.exhausted is not None:
            delay_s = pressure.exhausted(accepted.exhausted, now=clock())
            # stop watching the listeners for delay_s, or have the thread wait that long
    """

    __slots__ = ("_lock", "_log_again_at", "_logger", "count")

    RETRY_S: Final = 0.25
    LOG_INTERVAL_S: Final = 1.0

    def __init__(self, logger: logging.Logger = logger) -> None:
        self.count = 0  # how often it has happened
        self._logger = logger
        self._log_again_at = float("-inf")
        self._lock = threading.Lock()

    def exhausted(self, error: OSError, *, now: float) -> float:
        """Note it, log it unless that was done in the last second, and give the seconds to wait.

        `now` is in seconds of any clock that does not run backwards.
        """
        with self._lock:
            self.count += 1
            if now < self._log_again_at:
                return self.RETRY_S
            self._log_again_at = now + self.LOG_INTERVAL_S
        self._logger.error(
            "cannot accept connections: %s; trying again (raise the limit of open files, or lower"
            " connections_max)",
            _why(error),
        )
        return self.RETRY_S


# -- addresses --------------------------------------------------------------------------------


def peer_address(name: object) -> Address:
    """A peer's address as `Hub.connect` takes it, from what `accept` or `getpeername` gives.

    Without IPv6's flow and scope; an IPv4 address that an IPv6 socket has taken is an IPv4 address.
    """
    if isinstance(name, tuple):
        host = str(name[0])
        if host.startswith("::ffff:") and "." in host:
            host = host.removeprefix("::ffff:")
        return host, int(name[1])
    return name if isinstance(name, str) else None


def format_address(name: Any) -> str:
    """An address from `getsockname` for people to read: host:port, [host]:port, or unix:path."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{os.fsdecode(name)}"


def _check_backlog(backlog: int) -> None:
    if not 1 <= backlog < 2**31:
        raise ConfigurationError("backlog", f"must be 1 to {2**31 - 1}, not {backlog!r}")


def _why(error: Exception) -> str:
    """The system's words for it."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
