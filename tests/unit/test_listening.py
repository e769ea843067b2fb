"""Listening: on real sockets, ephemeral ports and temporary paths."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ports import reserved_ports
from privileges import unprivileged
from wireroom.core import ConfigurationError
from wireroom.transports import listening
from wireroom.transports.listening import (
    Accepted,
    AcceptPressure,
    ListenOptions,
    accept_all,
    close_listeners,
    format_address,
    open_listeners,
    peer_address,
)

Close = Callable[[socket.socket], socket.socket]


@pytest.fixture
def stack() -> Generator[ExitStack, None, None]:
    """What a test enters here is left at its end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a path short enough for Unix sockets."""
    folder = tmp_path_factory.mktemp("s")
    assert len(str(folder)) < 80
    return folder


@contextmanager
def listeners(**options: Any) -> Generator[list[socket.socket], None, None]:
    opened = open_listeners(**options)
    try:
        yield opened
    finally:
        close_listeners(opened)


def connect(name: Any, family: int = socket.AF_INET) -> socket.socket:
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(60)
    try:
        client.connect(name)
    except OSError:
        client.close()
        raise
    return client


def accept_one(listener: socket.socket) -> tuple[socket.socket, Any]:
    """What connected just before: the kernel has queued it when connect() returns."""
    accepted = accept_all(listener)
    ((sock, address),) = accepted.connections
    return sock, address


def assert_accepts(listener: socket.socket, family: int = socket.AF_INET) -> None:
    with connect(listener.getsockname(), family) as client:
        sock, _ = accept_one(listener)
        with sock:
            sock.send(b"hello")
            assert client.recv(5) == b"hello"


def fails(**options: Any) -> ConfigurationError:
    """What is wrong with these options."""
    with pytest.raises(ConfigurationError) as caught:
        open_listeners(**options)
    return caught.value


@pytest.fixture
def opened_sockets(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Every listener that the module makes from now on."""
    made: list[socket.socket] = []
    original = listening._listen_tcp

    def bind(*arguments: Any, **options: Any) -> socket.socket:
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(listening, "_listen_tcp", bind)
    return made


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host `both` has two addresses of this machine, the second of them listed twice."""

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "both"
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.1", "127.0.0.3", "127.0.0.3")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# -- TCP ----------------------------------------------------------------------------------------


def test_the_default_is_the_loopback_address() -> None:
    assert listening._DEFAULTS["host"] == "127.0.0.1"
    assert listening._DEFAULTS["port"] == 8301
    with listeners(port=0) as (listener,):
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.gettimeout() == 0
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert_accepts(listener)


def test_every_default_is_named_once() -> None:
    assert listening._DEFAULTS.keys() == ListenOptions.__annotations__.keys()


def test_no_port_is_nowhere() -> None:
    with listeners(port=None) as opened:
        assert opened == []
    assert fails(port=None, unix="unused").setting == "unix, port"


def test_closing_frees_the_port_and_may_be_repeated() -> None:
    with listeners(port=0) as opened:
        port = opened[0].getsockname()[1]
        close_listeners(opened)
        with listeners(port=port):
            pass


def test_no_host_is_every_interface_on_one_port() -> None:
    with listeners(host=None, port=0) as opened:
        assert {each.family for each in opened} == {socket.AF_INET, socket.AF_INET6}
        assert len({each.getsockname()[1] for each in opened}) == 1
        for each in opened:
            assert_accepts(each, each.family)


def test_an_ipv6_socket_takes_ipv6_only() -> None:
    with listeners(host="::", port=0) as (listener,):
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            connect(("127.0.0.1", port))
        with listeners(host="0.0.0.0", port=port) as (other,):
            assert_accepts(other)
        assert_accepts(listener, socket.AF_INET6)


@pytest.mark.usefixtures("two_addresses")
def test_a_name_is_all_its_addresses_on_one_port() -> None:
    with listeners(host="both", port=0) as opened:
        first, second = (each.getsockname() for each in opened)
        assert (first[0], second[0]) == ("127.0.0.1", "127.0.0.3")
        assert first[1] == second[1] != 0
        for each in opened:
            assert_accepts(each)


@pytest.mark.usefixtures("two_addresses")
def test_a_port_that_one_address_lacks_is_given_up_for_another(
    monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> None:
    original = listening._listen_tcp
    taken: list[int] = []

    def bind(family: Any, address: Any, *arguments: Any, **options: Any) -> socket.socket:
        sock = original(family, address, *arguments, **options)
        if len(taken) < 3 and address == ("127.0.0.1", 0):
            port = sock.getsockname()[1]
            rival = stack.enter_context(socket.socket())
            rival.bind(("127.0.0.3", port))
            rival.listen()
            taken.append(port)
        return sock

    monkeypatch.setattr(listening, "_listen_tcp", bind)
    with listeners(host="both", port=0) as opened:
        ports = {each.getsockname()[1] for each in opened}
        assert len(opened) == 2
        assert len(ports) == 1
        assert ports.isdisjoint(taken)
    assert len(taken) == 3
    for port in taken:  # the first addresses have been let go
        with socket.create_server(("127.0.0.1", port)):
            pass


@pytest.mark.usefixtures("two_addresses")
def test_what_was_opened_is_closed_when_the_next_fails(
    opened_sockets: list[socket.socket], stack: ExitStack
) -> None:
    (port,) = stack.enter_context(reserved_ports())  # free on the first
    rival = stack.enter_context(socket.socket())
    rival.bind(("127.0.0.3", port))
    rival.listen()
    error = fails(host="both", port=port)
    assert error.setting == "port"
    assert f"{port} is in use on 127.0.0.3" in str(error)
    assert [each.fileno() for each in opened_sockets] == [-1]


def test_a_port_in_use_is_named_with_the_remedy() -> None:
    with listeners(port=0) as (listener,):
        port = listener.getsockname()[1]
        assert str(fails(port=port)) == (
            f"port: {port} is in use on 127.0.0.1: stop the program that has it, or give another"
            " port (0 for any free one)"
        )


def test_reuse_port_shares_a_port() -> None:
    with (
        listeners(port=0, reuse_port=True) as (first,),
        listeners(port=first.getsockname()[1], reuse_port=True) as (second,),
    ):
        assert first.getsockname() == second.getsockname()
        assert fails(port=first.getsockname()[1]).setting == "port"


def test_reuse_port_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    assert fails(port=0, reuse_port=True).setting == "reuse_port"


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    assert fails(port=port).setting == "port"


@pytest.mark.parametrize("backlog", [0, -1, 2**31])
def test_a_backlog_that_is_none(backlog: int) -> None:
    assert fails(port=0, backlog=backlog).setting == "backlog"


@pytest.mark.parametrize("host", ["name.invalid", "a" * 64 + ".example", "a\0b", "[::1]"])
def test_a_host_that_does_not_resolve(host: str) -> None:
    error = fails(host=host, port=0)
    assert error.setting == "host"
    assert f"{host!r} does not resolve" in str(error)


def test_an_empty_host_is_not_every_interface() -> None:
    assert "None for every interface" in str(fails(host="", port=0))


def test_an_address_of_another_machine() -> None:
    error = fails(host="192.0.2.1", port=0)  # RFC 5737: of nobody
    assert str(error).startswith("host: 192.0.2.1 is no address of this machine")


def _unprivileged_ports_start() -> int:
    path = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return int(path.read_text()) if path.exists() else 1024


@pytest.mark.skipif(_unprivileged_ports_start() < 2, reason="every port is free for everybody here")
def test_no_permission_for_a_port() -> None:
    with unprivileged():
        error = fails(port=1)
    assert error.setting == "port"
    assert "no permission to listen on 127.0.0.1:1:" in str(error)


def without_ipv6(monkeypatch: pytest.MonkeyPatch, *, code: int) -> None:
    original = listening._listen_tcp

    def bind(family: Any, *arguments: Any, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, os.strerror(code))
        return original(family, *arguments, **options)

    monkeypatch.setattr(listening, "_listen_tcp", bind)


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_system_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    without_ipv6(monkeypatch, code=code)
    with listeners(host=None, port=0) as (listener,):
        assert listener.family == socket.AF_INET
    assert "IPv6 switched off" in str(fails(host="::1", port=0))


def test_other_failures_have_the_systems_words(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch, code=errno.ENOBUFS)
    error = fails(host="::1", port=0)
    assert str(error) == f"host, port: cannot listen on [::1]:0: {os.strerror(errno.ENOBUFS)}"


# -- one way or another -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"unix": "x", "port": 1}, "unix, port"),
        ({"unix": "x", "host": None}, "unix, host"),
        ({"unix": "x", "reuse_port": True}, "unix, reuse_port"),
        ({"unix": "x", "sockets": ()}, "unix, sockets"),
        ({"inherited": True, "unix": "x"}, "unix, inherited"),
        ({"inherited": True, "port": 0, "unix_mode": 0o600}, "inherited, port, unix_mode"),
        ({"unix_mode": 0o600}, "unix_mode"),
        ({"sockets": ()}, "sockets"),
    ],
)
def test_ways_that_exclude_each_other(options: dict[str, Any], setting: str) -> None:
    assert fails(**options).setting == setting


def test_a_default_counts_as_not_given(folder: Path) -> None:
    with listeners(unix=folder / "s", host="127.0.0.1", port=8301, sockets=None, inherited=False):
        pass


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="adress"):
        open_listeners(adress="127.0.0.1")  # type: ignore[call-arg]


# -- Unix sockets -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, 0o600, 0o666])
def test_a_unix_socket_has_its_permissions_and_goes(folder: Path, mode: int | None) -> None:
    path = folder / "s"
    options: dict[str, Any] = {} if mode is None else {"unix_mode": mode}
    with listeners(unix=path, **options) as (listener,):
        assert stat.S_IMODE(path.stat().st_mode) == (0o660 if mode is None else mode)
        assert listener.gettimeout() == 0
        assert_accepts(listener, socket.AF_UNIX)
    assert not path.exists()


def test_a_relative_path_is_removed_from_where_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with listeners(unix="s"):
        assert (folder / "s").is_socket()
        monkeypatch.chdir("/")
    assert not (folder / "s").exists()


def test_a_mode_that_is_decimal_by_mistake(folder: Path) -> None:
    assert "octal" in str(fails(unix=folder / "s", unix_mode=660))
    assert list(folder.iterdir()) == []


def test_a_stale_file_is_replaced(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    assert path.is_socket()
    with listeners(unix=path) as (listener,):
        assert_accepts(listener, socket.AF_UNIX)


def test_a_live_server_is_left_alone(folder: Path) -> None:
    path = folder / "s"
    with listeners(unix=path) as (listener,):
        error = fails(unix=path)
        assert error.setting == "unix"
        assert f"{path} is in use: stop the program" in str(error)
        accept_one(listener)[0].close()  # the question
        assert_accepts(listener, socket.AF_UNIX)


def test_a_live_server_with_a_full_backlog_is_left_alone(folder: Path, stack: ExitStack) -> None:
    path = folder / "s"
    with listeners(unix=path, backlog=1):
        while True:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(path)):
                break
        assert "is in use" in str(fails(unix=path))


def test_a_datagram_socket_is_left_alone(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert "is in use" in str(fails(unix=path))
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_path_that_is_no_socket_is_left_alone(folder: Path, kind: str) -> None:
    path = folder / "s"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    error = fails(unix=path)
    assert str(error) == f"unix: {path} exists and is no socket: remove it, or give another path"
    assert os.path.lexists(path)


def test_a_path_that_is_too_long(folder: Path) -> None:
    assert "is too long" in str(fails(unix=folder / ("s" * 100)))


@pytest.mark.parametrize("path", ["", "a\0b", "\0abstract"])
def test_a_path_that_is_none(path: str) -> None:
    assert "is no path" in str(fails(unix=path))


def test_a_folder_that_is_missing(folder: Path) -> None:
    assert f"no folder {folder / 'a'}" in str(fails(unix=folder / "a" / "s"))
    (folder / "b").write_text("")
    assert f"no folder {folder / 'b'}" in str(fails(unix=folder / "b" / "s"))


def test_no_permission_for_a_folder(folder: Path) -> None:
    folder.chmod(0o500)
    with unprivileged():
        error = fails(unix=folder / "s")
    folder.chmod(0o700)
    assert f"no permission to make {folder / 's'}: allow writing in {folder}" in str(error)


def test_no_permission_to_ask_who_listens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "s"
    with listeners(unix=path):
        monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EACCES)
        assert f"no permission to ask whether a server listens on {path}" in str(fails(unix=path))
        assert path.is_socket()


def test_the_second_servers_file_outlives_the_first_server(folder: Path) -> None:
    path = folder / "s"
    first = open_listeners(unix=path)
    path.unlink()
    with listeners(unix=path) as (second,):
        close_listeners(first)
        assert_accepts(second, socket.AF_UNIX)
    assert not path.exists()


def test_a_forked_child_leaves_the_file_to_its_parent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "s"
    opened = open_listeners(unix=path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    close_listeners(opened)
    assert path.is_socket()


def test_where_the_system_has_no_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    assert "give a port" in str(fails(unix="s"))


# -- sockets that others have opened -------------------------------------------------------------


def test_a_socket_that_is_bound_will_listen(stack: ExitStack) -> None:
    mine = stack.enter_context(socket.socket())
    mine.bind(("127.0.0.1", 0))
    listening_already = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    with listeners(sockets=[mine, listening_already]) as opened:
        assert opened == [mine, listening_already]
        for each in opened:
            assert each.gettimeout() == 0
            assert_accepts(each)
    assert mine.fileno() == -1


def test_a_given_unix_sockets_file_is_not_removed(folder: Path, stack: ExitStack) -> None:
    mine = stack.enter_context(socket.socket(socket.AF_UNIX))
    mine.bind(str(folder / "s"))
    with listeners(sockets=[mine]):
        assert_accepts(mine, socket.AF_UNIX)
    assert (folder / "s").is_socket()


@pytest.mark.parametrize("kind", ["unbound", "unbound unix", "datagram", "connected", "closed"])
def test_a_socket_that_cannot_listen_stays_the_callers(stack: ExitStack, kind: str) -> None:
    good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    match kind:
        case "unbound":
            bad = socket.socket()
        case "unbound unix":
            bad = socket.socket(socket.AF_UNIX)
        case "datagram":
            bad = socket.socket(type=socket.SOCK_DGRAM)
        case "connected":
            bad = connect(good.getsockname())
        case _:
            bad = socket.socket()
            bad.close()
    stack.enter_context(bad)
    assert fails(sockets=[good, bad]).setting == "sockets"
    assert good.fileno() != -1


INHERITING = """
import os, socket, sys
from wireroom.core import ConfigurationError
from wireroom.transports import listening

given = [int(each) for each in sys.argv[1].split(",")]
for position, fd in enumerate(given):
    os.dup2(fd, 3 + position, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(given)), LISTEN_PID=str(os.getpid()))
os.environ.update(LISTEN_FDNAMES="web:other")
os.environ.update(argument.split("=", 1) for argument in sys.argv[2:])
try:
    opened = listening.open_listeners(inherited=True)
except ConfigurationError as error:
    print(error)
else:
    for sock in opened:
        sock.setblocking(True)
        peer, _ = sock.accept()
        peer.sendall(f"{sock.fileno()} {sock.get_inheritable()}".encode())
        peer.close()
    listening.close_listeners(opened)
    print("served")
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def inherit(*sockets: socket.socket, **environment: str) -> subprocess.Popen[str]:
    """A process that takes `sockets` from descriptor 3 on as systemd hands them over."""
    # Far above 3, so that none is overwritten before it is copied.
    fds = [os.dup(each.fileno()) for each in sockets]
    moved = [_dup_from(fd, 100) for fd in fds]
    try:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                INHERITING,
                ",".join(map(str, moved)),
                *(f"{name}={value}" for name, value in environment.items()),
            ],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=moved,
        )
    finally:
        for fd in fds + moved:
            os.close(fd)


def _dup_from(fd: int, lowest: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD, lowest)


def output(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out.splitlines()


def test_inherited_sockets_are_taken_and_the_variables_unset(
    folder: Path, stack: ExitStack
) -> None:
    tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    unix = stack.enter_context(socket.socket(socket.AF_UNIX))
    unix.bind(str(folder / "s"))
    unix.listen()
    with inherit(tcp, unix) as process:
        with connect(tcp.getsockname()) as client:
            assert client.recv(100) == b"3 False"
        with connect(unix.getsockname(), socket.AF_UNIX) as client:
            assert client.recv(100) == b"4 False"
        assert output(process) == ["served", "[]"]
    assert (folder / "s").is_socket()


@pytest.mark.parametrize("kind", ["bound", "datagram", "connected"])
def test_an_inherited_socket_that_does_not_listen(stack: ExitStack, kind: str) -> None:
    good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    match kind:
        case "bound":
            bad = socket.socket()
            bad.bind(("127.0.0.1", 0))
        case "datagram":
            bad = socket.socket(type=socket.SOCK_DGRAM)
        case _:
            bad = connect(good.getsockname())
    stack.enter_context(bad)
    with inherit(good, bad) as process:
        problem, left = output(process)
    assert problem.startswith("inherited: file descriptor 4 (other) ")
    assert "Accept=no" in problem
    assert left == "[]"


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"LISTEN_PID": "1"}, "inherited: the sockets are for process 1 (LISTEN_PID)"),
        ({"LISTEN_PID": "me"}, "inherited: the sockets are for process me (LISTEN_PID)"),
        ({"LISTEN_FDS": "many"}, "inherited: LISTEN_FDS is 'many'"),
        ({"LISTEN_FDS": "0"}, "inherited: LISTEN_FDS is '0'"),
        ({"LISTEN_FDS": "-1"}, "inherited: LISTEN_FDS is '-1'"),
        ({"LISTEN_FDS": ""}, "inherited: LISTEN_FDS and LISTEN_PID are not set"),
        ({"LISTEN_FDS": "50"}, "inherited: file descriptor 4 (other) is no socket"),
    ],
)
def test_variables_that_are_wrong(
    stack: ExitStack, environment: dict[str, str], problem: str
) -> None:
    good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    with inherit(good, **environment) as process:
        said, left = output(process)
    assert said.startswith(problem)
    assert left == "[]"


def test_nothing_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert "are not set" in str(fails(inherited=True))


# -- accepting ----------------------------------------------------------------------------------


def test_accepting_takes_all_that_wait_up_to_the_bound(stack: ExitStack) -> None:
    with listeners(port=0) as (listener,):
        assert accept_all(listener) == Accepted([], more=False, exhausted=None)
        clients = [stack.enter_context(connect(listener.getsockname())) for _ in range(5)]
        first = accept_all(listener, 3)
        assert first.more
        assert first.exhausted is None
        second = accept_all(listener, 3)
        assert not second.more
        both = first.connections + second.connections
        assert {address for _, address in both} == {each.getsockname() for each in clients}
        for sock, _ in both:
            stack.enter_context(sock)
            assert sock.gettimeout() == 0
            assert not sock.get_inheritable()


def test_a_unix_peer_has_no_address(folder: Path) -> None:
    with (
        listeners(unix=folder / "s") as (listener,),
        connect(listener.getsockname(), socket.AF_UNIX),
    ):
        sock, address = accept_one(listener)
        sock.close()
        assert address == ""


class Listener:
    """A listener that gives what it is told to."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)

    def accept(self) -> Any:
        result = self.results.pop(0)
        if isinstance(result, OSError):
            raise result
        return result


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "ENETDOWN", "EPERM", "EHOSTUNREACH"])
def test_a_connection_that_has_ended_is_skipped(name: str) -> None:
    near, far = socket.socketpair()
    with near, far:
        aborted = OSError(getattr(errno, name), "")
        listener: Any = Listener(aborted, (near, ("192.0.2.7", 9)), aborted, BlockingIOError())
        assert accept_all(listener) == Accepted(
            [(near, ("192.0.2.7", 9))], more=False, exhausted=None
        )


def test_skipping_is_bounded_too() -> None:
    listener: Any = Listener(*[OSError(errno.ECONNABORTED, "")] * 4)
    assert accept_all(listener, 3) == Accepted([], more=True, exhausted=None)
    assert len(listener.results) == 1


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_exhaustion_is_told_with_what_was_accepted(code: int) -> None:
    near, far = socket.socketpair()
    with near, far:
        error = OSError(code, "")
        listener: Any = Listener((near, ("192.0.2.7", 9)), error)
        accepted = accept_all(listener)
        assert len(accepted.connections) == 1
        assert not accepted.more
        assert accepted.exhausted is error


def test_a_useless_listener_raises_after_what_was_accepted() -> None:
    near, far = socket.socketpair()
    with near, far:
        useless = OSError(errno.EINVAL, "useless")
        listener: Any = Listener((near, ("192.0.2.7", 9)), useless, useless)
        assert len(accept_all(listener).connections) == 1
        with pytest.raises(OSError, match="useless"):
            accept_all(listener)


def test_running_out_of_descriptors_loses_no_connection(stack: ExitStack) -> None:
    (listener,) = stack.enter_context(listeners(port=0))
    clients = [stack.enter_context(connect(listener.getsockname())) for _ in range(3)]
    free = os.dup(0)  # the lowest descriptor that is free
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        accepted = accept_all(listener)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    ((sock, address),) = accepted.connections
    stack.enter_context(sock)
    assert address == clients[0].getsockname()
    assert accepted.exhausted is not None
    assert accepted.exhausted.errno == errno.EMFILE
    rest = accept_all(listener)
    for sock, _ in rest.connections:
        stack.enter_context(sock)
    assert [address for _, address in rest.connections] == [
        each.getsockname() for each in clients[1:]
    ]
    assert rest.exhausted is None


def test_exhaustion_is_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    pressure = AcceptPressure()
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    now = 1000.0
    with caplog.at_level(logging.ERROR, "wireroom.listening"):
        for _ in range(12):  # three seconds
            delay_s = pressure.exhausted(error, now=now)
            assert delay_s == AcceptPressure.RETRY_S == 0.25
            now += delay_s
    assert len(caplog.records) == 3
    assert os.strerror(errno.EMFILE) in caplog.text
    assert pressure.count == 12


# -- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.7", 80), ("192.0.2.7", 80)),
        (("2001:db8::7", 80, 1, 2), ("2001:db8::7", 80)),
        (("::ffff:192.0.2.7", 80, 0, 0), ("192.0.2.7", 80)),
        (("::ffff:0:7", 80, 0, 0), ("::ffff:0:7", 80)),
        ("/run/peer.sock", "/run/peer.sock"),
        ("", ""),
        (b"\0abstract", None),
        (None, None),
    ],
)
def test_peers_addresses(name: object, address: object) -> None:
    assert peer_address(name) == address


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ("/run/s", "unix:/run/s"),
        (b"\0s", "unix:\0s"),
    ],
)
def test_addresses_for_people(name: Any, text: str) -> None:
    assert format_address(name) == text
