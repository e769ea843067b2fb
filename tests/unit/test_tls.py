"""TLS: contexts and their errors, renewal, and `TlsPipe` in memory and against the ssl module."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h11
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from privileges import unprivileged
from wireroom.core import ConfigurationError, LocalProtocolError
from wireroom.transports.tls import (
    PLAIN_HTTP_RESPONSE,
    Certificate,
    PlainHttpError,
    TlsPipe,
    client_context,
    server_context,
)

BIG = bytes(range(256)) * 4096  # 1 MiB: many records


class Files(NamedTuple):
    """PEM files of an authority and of what it has signed."""

    folder: Path
    ca: Path
    chain: Path
    key: Path
    encrypted: Path  # the same key; its password is "open"
    both: Path  # chain and key
    client: Path  # a client's chain and key
    foreign: Path  # a client's that another authority has signed
    junk: Path


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def chain(certificate: trustme.LeafCert) -> bytes:
    return b"".join(each.bytes() for each in certificate.cert_chain_pems)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    server = authority.issue_cert("server.example")
    client = authority.issue_cert("client@client.example")
    foreign = trustme.CA().issue_cert("foreign@client.example")
    key = server.private_key_pem.bytes()
    encrypted = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open"),
    )
    return Files(
        folder,
        write(folder / "ca.pem", authority.cert_pem.bytes()),
        write(folder / "chain.pem", chain(server)),
        write(folder / "key.pem", key),
        write(folder / "encrypted.pem", encrypted),
        write(folder / "both.pem", key, chain(server)),
        write(folder / "client.pem", client.private_key_pem.bytes(), chain(client)),
        write(folder / "foreign.pem", foreign.private_key_pem.bytes(), chain(foreign)),
        write(folder / "junk.pem", b"junk\n"),
    )


def fails(make: Callable[..., object], *arguments: Any, **options: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make(*arguments, **options)
    return caught.value


def server_pipe(context: ssl.SSLContext) -> TlsPipe:
    return TlsPipe(context, server_side=True)


def client_pipe(context: ssl.SSLContext, name: str | None = "server.example") -> TlsPipe:
    return TlsPipe(context, server_side=False, server_hostname=name)


def exchange(one: TlsPipe, other: TlsPipe) -> tuple[bytes, bytes]:
    """Move bytes between two pipes until there are none; what each of them has received."""
    received = {one: b"", other: b""}
    moved = True
    while moved:
        moved = False
        for source, target in ((one, other), (other, one)):
            if data := source.data_to_send():
                received[target] += target.receive_data(data)
                moved = True
    return received[one], received[other]


def pair(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[TlsPipe, TlsPipe]:
    """A server's and a client's pipe after the handshake."""
    one, other = server_pipe(server), client_pipe(client)
    assert exchange(one, other) == (b"", b"")
    assert one.handshake_done
    assert other.handshake_done
    return one, other


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def contexts(files: Files, request: pytest.FixtureRequest) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context, for either version of TLS."""
    client = client_context(files.ca)
    client.maximum_version = client.minimum_version = request.param
    return server_context(files.chain, files.key), client


# -- contexts -----------------------------------------------------------------------------------


def test_what_contexts_are(files: Files) -> None:
    server, client = server_context(files.chain, files.key), client_context(files.ca)
    for context in (server, client):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
    assert server.verify_mode == ssl.CERT_NONE
    assert client.verify_mode == ssl.CERT_REQUIRED
    assert client.check_hostname


def test_files_may_be_paths_or_strings_and_one_may_hold_both(files: Files) -> None:
    pair(server_context(str(files.both)), client_context(str(files.ca)))
    pair(server_context(files.both), client_context(files.ca))


def test_a_client_without_ca_trusts_what_the_system_does(files: Files) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        pair(server_context(files.both), client_context())


def test_old_tls_is_refused(files: Files) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(files.ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError) as caught:
        pair(server_context(files.both), old)
    assert caught.value.reason == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize("password", ["open", b"open", lambda: "open"])
def test_an_encrypted_key_is_opened_by_its_password(files: Files, password: Any) -> None:
    pair(server_context(files.chain, files.encrypted, password=password), client_context(files.ca))


@pytest.mark.parametrize("password", ["shut", b"", lambda: "shut"])
def test_a_wrong_password(files: Files, password: Any) -> None:
    error = fails(server_context, files.chain, files.encrypted, password=password)
    assert str(error) == f"password: does not open the key in {files.encrypted}"


@pytest.mark.parametrize("password", ["x" * 2000, 7, lambda: 7])
def test_what_is_no_password(files: Files, password: Any) -> None:
    error = fails(server_context, files.chain, files.encrypted, password=password)
    assert error.setting == "password"


def test_no_password_is_an_error_rather_than_a_prompt(files: Files) -> None:
    error = fails(server_context, files.chain, files.encrypted)
    assert str(error) == f"password: {files.encrypted} is encrypted: give its password"


def test_files_that_are_missing_or_folders(files: Files) -> None:
    nowhere = files.folder / "nowhere.pem"
    for setting, make in (
        ("certfile", lambda path: server_context(path, files.key)),
        ("keyfile", lambda path: server_context(files.chain, path)),
        ("client_ca", lambda path: server_context(files.both, client_ca=path)),
        ("ca", client_context),
        ("certfile", lambda path: client_context(files.ca, certfile=path)),
        ("keyfile", lambda path: client_context(files.ca, certfile=files.chain, keyfile=path)),
    ):
        assert str(fails(make, nowhere)) == f"{setting}: {nowhere} does not exist"
        assert str(fails(make, files.folder)).startswith(f"{setting}: {files.folder} is a folder")
        assert fails(make, "a\0b").setting == setting


def test_a_file_that_may_not_be_read(files: Files, tmp_path: Path) -> None:
    secret = write(tmp_path / "both.pem", files.both.read_bytes())
    secret.chmod(0)
    with unprivileged():
        error = fails(server_context, secret)
    assert str(error).startswith(f"certfile: no permission to read {secret}: allow it to the user")


def test_files_that_hold_something_else(files: Files) -> None:
    broken = write(
        files.folder / "broken.pem",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    for path in (files.junk, broken, files.key):
        told = f"{path} holds no certificate in PEM format"
        assert str(fails(server_context, path, files.key)) == f"certfile: {told}"
        assert str(fails(server_context, files.both, client_ca=path)) == f"client_ca: {told}"
        assert str(fails(client_context, path)) == f"ca: {told}"
    for path in (files.junk, broken, files.chain):
        told = f"{path} holds no private key in PEM format"
        assert str(fails(server_context, files.chain, path)) == f"keyfile: {told}"
    assert str(fails(server_context, files.chain)).startswith(f"certfile: {files.chain} holds no")


def test_a_key_of_another_certificate(files: Files) -> None:
    error = fails(server_context, files.chain, files.client)
    assert error.setting == "keyfile"
    assert f"{files.client} does not match the certificate in {files.chain}" in str(error)


def test_settings_that_need_another(files: Files) -> None:
    assert fails(server_context, files.both, require_client_certificate=True).setting == "client_ca"
    assert fails(client_context, files.ca, keyfile=files.key).setting == "certfile"


# -- clients' certificates ----------------------------------------------------------------------


def test_a_client_certificate_is_visible(files: Files) -> None:
    server, _ = pair(
        server_context(files.both, client_ca=files.ca, require_client_certificate=True),
        client_context(files.ca, certfile=files.client),
    )
    assert server.peer_certificate is not None
    assert server.peer_certificate["subjectAltName"] == (("email", "client@client.example"),)


def test_a_client_certificate_may_be_optional(files: Files) -> None:
    server, client = pair(server_context(files.both, client_ca=files.ca), client_context(files.ca))
    assert server.peer_certificate is None
    assert client.peer_certificate is not None
    assert client.peer_certificate["subjectAltName"] == (("DNS", "server.example"),)


@pytest.mark.parametrize("shown", [None, "foreign"])
def test_a_client_without_the_certificate_is_told(files: Files, shown: str | None) -> None:
    server = server_pipe(
        server_context(files.both, client_ca=files.ca, require_client_certificate=True)
    )
    client = client_pipe(
        client_context(files.ca, certfile=None if shown is None else files.foreign)
    )
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    with pytest.raises(ssl.SSLError):
        server.receive_data(client.data_to_send())
    assert not server.handshake_done
    with pytest.raises(ssl.SSLError, match="alert"):
        client.receive_data(server.data_to_send())


# -- renewal ------------------------------------------------------------------------------------


def serial(pipe: TlsPipe) -> object:
    assert pipe.peer_certificate is not None
    return pipe.peer_certificate["serialNumber"]


def test_a_new_certificate_is_for_new_connections(authority: trustme.CA, tmp_path: Path) -> None:
    old, new = (authority.issue_cert("server.example") for _ in range(2))
    path = write(tmp_path / "both.pem", old.private_key_pem.bytes(), chain(old))
    trusting = client_context(write(tmp_path / "ca.pem", authority.cert_pem.bytes()))
    certificate = Certificate(path)
    context = certificate.context
    before = pair(context, trusting)
    handshaking = server_pipe(context), client_pipe(trusting)
    handshaking[0].receive_data(handshaking[1].data_to_send())

    write(path, new.private_key_pem.bytes(), chain(new))
    certificate.reload()
    assert certificate.context is context
    after = pair(context, trusting)
    exchange(*handshaking)

    assert serial(after[1]) != serial(before[1])
    assert serial(handshaking[1]) == serial(before[1])
    assert after[0].alpn == "http/1.1"
    for server, client in (before, handshaking, after):
        client.send([b"still here"])
        assert exchange(server, client) == (b"still here", b"")


def test_a_new_certificate_is_for_clients_without_sni(
    authority: trustme.CA, tmp_path: Path
) -> None:
    old, new = (authority.issue_cert("192.0.2.1") for _ in range(2))
    path = write(tmp_path / "both.pem", old.private_key_pem.bytes(), chain(old))
    trusting = client_context(write(tmp_path / "ca.pem", authority.cert_pem.bytes()))
    certificate = Certificate(path)
    serials = []
    for each in (old, new):
        write(path, each.private_key_pem.bytes(), chain(each))
        certificate.reload()
        client = client_pipe(trusting, "192.0.2.1")  # RFC 6066 section 3: no SNI for addresses
        exchange(server_pipe(certificate.context), client)
        serials.append(serial(client))
    assert serials[0] != serials[1]


def test_a_broken_new_file_leaves_the_old_certificate(files: Files, tmp_path: Path) -> None:
    path = write(tmp_path / "chain.pem", files.chain.read_bytes())
    key = write(tmp_path / "key.pem", files.key.read_bytes())
    certificate = Certificate(path, key)
    trusting = client_context(files.ca)
    expected = serial(pair(certificate.context, trusting)[1])
    for broken, content, setting in (
        (path, b"half a cert", "certfile"),
        (key, b"", "keyfile"),
        (key, files.client.read_bytes(), "keyfile"),  # of another certificate
    ):
        good = broken.read_bytes()
        write(broken, content)
        assert fails(certificate.reload).setting == setting
        write(broken, good)
        assert serial(pair(certificate.context, trusting)[1]) == expected
    path.unlink()
    assert fails(certificate.reload).setting == "certfile"
    pair(certificate.context, trusting)


def test_renewed_authorities_replace_the_old(files: Files, tmp_path: Path) -> None:
    trusted = write(tmp_path / "trusted.pem", files.ca.read_bytes())
    certificate = Certificate(files.both, client_ca=trusted, require_client_certificate=True)
    client = client_context(files.ca, certfile=files.client)
    pair(certificate.context, client)
    write(trusted, trustme.CA().cert_pem.bytes())
    certificate.reload()
    with pytest.raises(ssl.SSLCertVerificationError):
        pair(certificate.context, client_context(files.ca, certfile=files.client))


def test_a_renewed_certificate_resumes_sessions(authority: trustme.CA, files: Files) -> None:
    certificate = Certificate(files.both)
    trusting = client_context(files.ca)
    with ssl_client(certificate.context, trusting) as (server, first):
        server.answer(first)
        session = first.session
    certificate.reload()
    with ssl_client(certificate.context, trusting, session) as (server, second):
        server.answer(second)
        assert second.session_reused


# -- the pipe -----------------------------------------------------------------------------------


def test_a_handshake_and_what_is_known_after_it(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = server_pipe(contexts[0]), client_pipe(contexts[1])
    assert server.data_to_send() == b""
    for pipe in (server, client):
        assert not pipe.handshake_done
        assert pipe.version is None
        assert pipe.peer_certificate is None
    exchange(server, client)
    version = contexts[1].maximum_version.name.replace("_", ".")
    for pipe in (server, client):
        assert pipe.handshake_done
        assert pipe.version == version
        assert pipe.alpn == "http/1.1"
        assert not pipe.received_eof
        assert pipe.data_to_send() == b""


def test_a_client_that_wants_http_2_only_gets_no_alpn(files: Files) -> None:
    client = client_context(files.ca)
    client.set_alpn_protocols(["h2"])
    server, _ = pair(server_context(files.both), client)
    assert server.alpn is None


def test_what_is_sent_too_early_waits_for_the_handshake(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = server_pipe(contexts[0]), client_pipe(contexts[1])
    client.send([b"a", b"b"])
    client.send([b"c"])
    server.send([b"welcome"])
    assert exchange(server, client) == (b"abc", b"welcome")


buffers_drawn = st.lists(st.integers(0, 40_000).map(lambda size: BIG[:size]), max_size=4)


# All is drawn beforehand, since the sizes of a handshake's messages are not the same every time.
@settings(deadline=None)
@given(
    to_server=buffers_drawn,
    to_client=buffers_drawn,
    cuts=st.lists(
        st.tuples(st.booleans(), st.integers(1, 20_000) | st.integers(1, 100)), min_size=1
    ),
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_any_cuts_give_the_same_plaintext(
    files: Files,
    version: ssl.TLSVersion,
    to_server: list[bytes],
    to_client: list[bytes],
    cuts: list[tuple[bool, int]],
) -> None:
    trusting = client_context(files.ca)
    trusting.maximum_version = version
    server, client = server_pipe(server_context(files.both)), client_pipe(trusting)
    client.send(to_server)
    server.send(to_client)
    received = {server: b"", client: b""}
    on_the_way = {server: bytearray(), client: bytearray()}  # to each of them
    for at_server, size in itertools.cycle(cuts):
        on_the_way[server] += client.data_to_send()
        on_the_way[client] += server.data_to_send()
        if not any(on_the_way.values()):
            break
        target, other = (server, client) if at_server else (client, server)
        target = target if on_the_way[target] else other
        rest = on_the_way[target]
        received[target] += target.receive_data(bytes(rest[:size]))
        del rest[:size]
    assert received == {server: b"".join(to_server), client: b"".join(to_client)}


def test_byte_by_byte(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = server_pipe(contexts[0]), client_pipe(contexts[1])
    client.send([b"question"])
    server.send([b"answer"])
    received = {server: b"", client: b""}
    for _ in range(10):
        for source, target in ((client, server), (server, client)):
            for byte in source.data_to_send():
                received[target] += target.receive_data(bytes([byte]))
    assert received == {server: b"question", client: b"answer"}
    client.close_notify()
    for byte in client.data_to_send():
        assert not server.received_eof
        assert server.receive_data(bytes([byte])) == b""
    assert server.received_eof


def test_large_writes_both_ways(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = pair(*contexts)
    server.send([BIG])
    client.send([BIG[:100_000], b"", BIG[100_000:]])
    assert exchange(server, client) == (BIG, BIG)
    server.send([])
    server.send([b""])
    assert server.data_to_send() == b""


def test_many_records_in_one_call_come_out_whole(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = pair(*contexts)
    for i in range(300):
        client.send([b"%d," % i])
    received = server.receive_data(client.data_to_send())
    assert received == b"".join(b"%d," % i for i in range(300))


# -- its end ------------------------------------------------------------------------------------


def test_close_notify_is_the_peers_end(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = pair(*contexts)
    client.send([b"last words"])
    client.close_notify()
    data = client.data_to_send()
    client.close_notify()
    assert client.data_to_send() == b""
    assert server.receive_data(data) == b"last words"
    assert server.received_eof
    assert not client.received_eof
    assert server.receive_data(b"ignored") == b""
    assert server._incoming.pending == 0
    with pytest.raises(LocalProtocolError):
        client.send([b"too late"])
    server.close_notify()
    assert client.receive_data(server.data_to_send()) == b""
    assert client.received_eof


def test_after_our_close_notify_the_peer_may_go_on(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = pair(*contexts)
    client.close_notify()
    server.receive_data(client.data_to_send())
    server.send([b"one", b"two"])
    assert client.receive_data(server.data_to_send()) == b"onetwo"
    server.send([BIG])
    server.close_notify()
    assert client.receive_data(server.data_to_send()) == BIG
    assert client.received_eof


def test_close_notify_in_the_handshake_tells_nobody(files: Files) -> None:
    server = server_pipe(server_context(files.both))
    server.close_notify()
    assert server.data_to_send() == b""
    with pytest.raises(LocalProtocolError):
        server.send([b"too late"])


def test_what_waits_for_the_handshake_is_dropped_by_close_notify(files: Files) -> None:
    server = server_pipe(server_context(files.both))
    client = client_pipe(client_context(files.ca))
    client.send([b"unsaid"])
    client.close_notify()
    assert exchange(server, client) == (b"", b"")
    assert server.handshake_done


# -- bad peers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"]
)
def test_plain_http_is_recognised(files: Files, method: str, size: int | None) -> None:
    server = server_pipe(server_context(files.both))
    request = f"{method} / HTTP/1.1\r\nHost: server.example\r\n\r\n".encode()
    step = size or len(request)

    def feed() -> None:
        for start in range(0, len(request), step):
            server.receive_data(request[start : start + step])

    with pytest.raises(PlainHttpError):
        feed()
    assert server.data_to_send() == PLAIN_HTTP_RESPONSE


def test_http_2_without_tls_is_recognised(files: Files) -> None:
    with pytest.raises(PlainHttpError):
        server_pipe(server_context(files.both)).receive_data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def test_the_answer_to_plain_http_is_a_response() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "server.example")]))
    client.send(h11.EndOfMessage())
    client.receive_data(PLAIN_HTTP_RESPONSE)
    response, body, end = (client.next_event() for _ in range(3))
    assert isinstance(response, h11.Response)
    assert response.status_code == 400
    assert isinstance(body, h11.Data)
    assert b"wss://" in body.data
    assert isinstance(end, h11.EndOfMessage)


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH_9\r\n", b"\0" * 100, b"GETAWAY now", b"\xff" * 9]
)
def test_other_bytes_are_no_http(files: Files, data: bytes) -> None:
    server = server_pipe(server_context(files.both))
    with pytest.raises(ssl.SSLError) as caught:
        server.receive_data(data)
    assert not isinstance(caught.value, PlainHttpError)
    with pytest.raises(ssl.SSLError):
        server.receive_data(data)


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=300), late=st.booleans())
def test_random_bytes_raise_nothing_but_ssl_errors(files: Files, data: bytes, late: bool) -> None:
    server = server_pipe(server_context(files.both))
    if late:
        client = client_pipe(client_context(files.ca))
        exchange(server, client)
    try:
        received = server.receive_data(data)
    except ssl.SSLError:
        received = b""
    assert received == b""
    server.close_notify()


def test_a_record_that_was_changed_is_an_error_and_the_peer_is_told(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = pair(*contexts)
    client.send([b"hello"])
    data = bytearray(client.data_to_send())
    data[-1] ^= 1
    with pytest.raises(ssl.SSLError) as caught:
        server.receive_data(bytes(data))
    assert caught.value.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
    with pytest.raises(ssl.SSLError):
        client.receive_data(server.data_to_send())
    server.close_notify()
    assert server.data_to_send() == b""


def test_a_server_of_another_name_or_authority_is_refused(files: Files) -> None:
    other = trustme.CA().issue_cert("server.example")
    untrusted = write(files.folder / "other.pem", other.private_key_pem.bytes(), chain(other))
    for context, name in (
        (server_context(untrusted), "server.example"),
        (server_context(files.both), "another.example"),
    ):
        server, client = server_pipe(context), client_pipe(client_context(files.ca), name)
        with pytest.raises(ssl.SSLCertVerificationError):
            exchange(server, client)
        with pytest.raises(ssl.SSLError, match="alert"):
            server.receive_data(client.data_to_send())


def test_a_client_says_what_is_no_tls(files: Files) -> None:
    client = client_pipe(client_context(files.ca))
    with pytest.raises(ssl.SSLError) as caught:
        client.receive_data(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert not isinstance(caught.value, PlainHttpError)


# -- against the ssl module's sockets -------------------------------------------------------------


class EchoServer:
    """A pipe on one end of a socket pair, in a thread: echoes until the peer's close_notify."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._sock = sock
        self.pipe = server_pipe(context)
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        pipe = self.pipe
        try:
            while not pipe.received_eof and (data := self._sock.recv(5000)):
                if plaintext := pipe.receive_data(data):
                    pipe.send([plaintext])
                self._sock.sendall(pipe.data_to_send())
            pipe.close_notify()
            self._sock.sendall(pipe.data_to_send())
        except Exception as error:
            self.failure = error
        finally:
            self._sock.close()

    def answer(self, client: ssl.SSLSocket) -> None:
        """One exchange, after which a client of TLS 1.3 has its session tickets."""
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.failure is None


@contextmanager
def ssl_client(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Generator[tuple[EchoServer, ssl.SSLSocket], None, None]:
    near, far = socket.socketpair()
    near.settimeout(60)
    far.settimeout(60)
    echo = EchoServer(server, far)
    with client.wrap_socket(near, server_hostname="server.example", session=session) as sock:
        yield echo, sock
        sock.unwrap().close()
    echo.join()


def test_against_a_client_of_the_ssl_module(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with ssl_client(*contexts) as (server, client):
        server.answer(client)
        received = b""
        for start in range(0, len(BIG), 50_000):  # which the socket pair has room for
            client.sendall(BIG[start : start + 50_000])
            while len(received) < min(start + 50_000, len(BIG)):
                received += client.recv(65536)
        assert received == BIG
        assert client.selected_alpn_protocol() == "http/1.1"
    assert server.pipe.received_eof


def test_against_a_server_of_the_ssl_module(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    near, far = socket.socketpair()
    near.settimeout(60)
    far.settimeout(60)
    received: list[bytes] = []

    def serve() -> None:
        with contexts[0].wrap_socket(far, server_side=True) as sock:
            while len(b"".join(received)) < len(BIG):
                received.append(sock.recv(65536))
            sock.sendall(b"thank you")
            sock.unwrap().close()

    server = threading.Thread(target=serve)
    server.start()
    pipe = client_pipe(contexts[1])
    pipe.send([BIG])
    answer = b""
    with near:
        while not pipe.received_eof:
            near.sendall(pipe.data_to_send())
            data = near.recv(3)
            assert data
            answer += pipe.receive_data(data)
        pipe.close_notify()
        near.sendall(pipe.data_to_send())
    server.join(60)
    assert not server.is_alive()
    assert b"".join(received) == BIG
    assert answer == b"thank you"
