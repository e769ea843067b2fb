"""TLS: contexts for servers and clients, certificates that can be renewed, and TLS without I/O.

    certificate = Certificate("chain.pem", "key.pem")
    pipe = TlsPipe(certificate.context, server_side=True)      # one a connection
    plaintext = pipe.receive_data(sock.recv(65536))
    pipe.send([b"answer"])
    sock.sendall(pipe.data_to_send())
    certificate.reload()                                       # for the connections to come

TLS 1.2 (RFC 5246) and 1.3 (RFC 8446); ALPN (RFC 7301) offers `http/1.1`, which WebSockets need.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, final

from wireroom.core import ConfigurationError, LocalProtocolError

FilePath: TypeAlias = str | os.PathLike[str]
Password: TypeAlias = str | bytes | Callable[[], str | bytes]

_ALPN: Final = ["http/1.1"]
_READ_BYTES: Final = 16 * 1024  # the plaintext of one record at most (RFC 8446 section 5.1)

_TLS_ONLY: Final = b"this port speaks TLS only: use https:// or wss://\n"
PLAIN_HTTP_RESPONSE: Final = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"%s" % (len(_TLS_ONLY), _TLS_ONLY)
)


def server_context(
    certfile: FilePath,
    keyfile: FilePath | None = None,
    *,
    password: Password | None = None,
    client_ca: FilePath | None = None,
    require_client_certificate: bool = False,
) -> ssl.SSLContext:
    """A context for a server, from PEM files; without `keyfile` the key is in `certfile` too.

    With `client_ca` clients are asked for a certificate that one of these authorities has signed; a
    wrong one ends the handshake, and so does none if `require_client_certificate`.
    Raises `ConfigurationError` for a file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_up(context)
    _load_certificate(context, certfile, keyfile, password)
    if client_ca is not None:
        _load_authorities(context, "client_ca", client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if require_client_certificate else ssl.CERT_OPTIONAL
    elif require_client_certificate:
        raise ConfigurationError(
            "client_ca", "is needed with require_client_certificate: say who signs certificates"
        )
    return context


def client_context(
    ca: FilePath | None = None,
    *,
    certfile: FilePath | None = None,
    keyfile: FilePath | None = None,
    password: Password | None = None,
) -> ssl.SSLContext:
    """A context for a client that trusts the authorities in `ca`, or those of the system.

    `certfile` and `keyfile` are the certificate that it shows to servers that ask for one.
    Raises `ConfigurationError` for a file that cannot be used.
    """
    if ca is not None:
        _check_readable("ca", ca)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise _no_authorities("ca", ca) from error
    _set_up(context)
    if certfile is not None:
        _load_certificate(context, certfile, keyfile, password)
    elif keyfile is not None:
        raise ConfigurationError("certfile", "is needed with keyfile: give both, or none")
    return context


@final
class Certificate:
    """A server's certificate that can be read again while the server runs.

    `context` stays the same object. Its parameters and what it raises are those of
    `server_context`. `reload` may be called in any thread.
    """

    __slots__ = ("_current", "_load", "context")

    def __init__(
        self,
        certfile: FilePath,
        keyfile: FilePath | None = None,
        *,
        password: Password | None = None,
        client_ca: FilePath | None = None,
        require_client_certificate: bool = False,
    ) -> None:
        def load() -> ssl.SSLContext:
            return server_context(
                certfile,
                keyfile,
                password=password,
                client_ca=client_ca,
                require_client_certificate=require_client_certificate,
            )

        self._load = load
        self.context = self._current = load()
        # OpenSSL lets no context change that other threads may use, so each handshake that begins
        # is given the newest context: whole, or not at all. OpenSSL asks also without SNI.
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Read the files again, the authorities of clients included, for connections to come.

        Raises `ConfigurationError` if they cannot be used; the old certificate stays then.
        """
        self._current = self._load()

    def _choose(
        self, connection: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self._current


def _set_up(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_ALPN)
    context.options |= (
        ssl.OP_NO_RENEGOTIATION
    )  # costs servers more than clients, and nobody uses it


def _load_certificate(
    context: ssl.SSLContext,
    certfile: FilePath,
    keyfile: FilePath | None,
    password: Password | None,
) -> None:
    _check_readable("certfile", certfile)
    if keyfile is not None:
        _check_readable("keyfile", keyfile)
    key_setting = "certfile" if keyfile is None else "keyfile"
    key_path = os.fspath(certfile if keyfile is None else keyfile)
    asked = False

    def ask() -> str | bytes:  # without it OpenSSL would ask on the terminal
        nonlocal asked
        asked = True
        if password is None:
            raise ConfigurationError("password", f"{key_path} is encrypted: give its password")
        return password() if callable(password) else password

    try:
        context.load_cert_chain(certfile, keyfile, ask)
    except ConfigurationError:
        raise
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"the key in {key_path} does not match the certificate in {certfile}"
            raise ConfigurationError(key_setting, f"{problem}: give the pair") from error
        if asked:
            problem = f"does not open the key in {key_path}"
            raise ConfigurationError("password", problem) from error
        if not _holds_certificates(certfile):
            problem = f"{certfile} holds no certificate in PEM format"
            raise ConfigurationError("certfile", problem) from error
        if error.reason in {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}:
            problem = f"{certfile} is too weak for OpenSSL: {error.reason}"
            raise ConfigurationError("certfile", problem) from error
        problem = f"{key_path} holds no private key in PEM format"
        raise ConfigurationError(key_setting, problem) from error
    except OSError as error:  # it has gone since it was checked
        raise ConfigurationError("certfile", f"{certfile}: {error.strerror}") from error
    except (TypeError, ValueError) as error:  # of no use as a password
        raise ConfigurationError("password", str(error)) from error


def _load_authorities(context: ssl.SSLContext, setting: str, path: FilePath) -> None:
    _check_readable(setting, path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise _no_authorities(setting, path) from error


def _no_authorities(setting: str, path: FilePath | None) -> ConfigurationError:
    return ConfigurationError(setting, f"{path} holds no certificate in PEM format")


def _holds_certificates(path: FilePath) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:  # SSLError too
        return False
    return True


def _check_readable(setting: str, path: FilePath) -> None:
    """OpenSSL does not say which of two files it could not read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 # as OpenSSL will
            file.read(1)
    except FileNotFoundError as error:
        raise ConfigurationError(setting, f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise ConfigurationError(setting, f"{path} is a folder: give a PEM file") from error
    except PermissionError as error:
        problem = f"no permission to read {path}: allow it to the user that the server runs as"
        raise ConfigurationError(setting, problem) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        raise ConfigurationError(setting, f"cannot read {path}: {error}") from error


# -- without I/O ------------------------------------------------------------------------------


@final
class PlainHttpError(ssl.SSLError):
    """The peer speaks HTTP without TLS; it is answered with `PLAIN_HTTP_RESPONSE`."""


@final
class TlsPipe:
    """TLS of one connection, without a socket: ciphertext in, plaintext out, and back.

    After each call there may be something in `data_to_send`: parts of the handshake, alerts.
    Not thread-safe: at most one thread at a time may be in any of its methods.
    """

    __slots__ = (
        "_closed",
        "_head",
        "_incoming",
        "_outgoing",
        "_server_side",
        "_tls",
        "_waiting",
        "handshake_done",
        "received_eof",
    )

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """A client names the server by `server_hostname`, and begins: see `data_to_send`."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._server_side = server_side
        self._head = b""  # how the peer's bytes begin, during the handshake
        self._waiting: list[bytes] = []  # to send, after the handshake
        self._closed = False  # whether our close_notify was asked for
        self.handshake_done = False
        self.received_eof = False  # the peer's close_notify: nothing follows
        if not server_side:
            self._do_handshake()

    def receive_data(self, data: bytes) -> bytes:
        """Take ciphertext, in any pieces, and give the plaintext that it completes.

        Raises ssl.SSLError if the peer breaks TLS or is not to be trusted: send what
        `data_to_send` has, which tells it why, and close. To a server it is `PlainHttpError` if
        the peer speaks HTTP, in which it is told then. Plaintext of the same call is lost.
        What comes after the peer's close_notify is ignored (RFC 8446 section 6.1).
        """
        if self.received_eof:
            return b""  # and keep nothing
        self._incoming.write(data)
        if not self.handshake_done:
            if len(self._head) < 8:
                self._head += data[: 8 - len(self._head)]
            if not self._do_handshake():
                return b""
        return self._read()

    def send(self, buffers: Sequence[bytes]) -> None:
        """Encrypt `buffers`, one after another; before the handshake is done they wait for it.

        Raises `LocalProtocolError` after `close_notify`.
        """
        if self._closed:
            raise LocalProtocolError("nothing can be sent after close_notify")
        if not self.handshake_done:
            self._waiting += buffers
            return
        data = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        if data:
            self._tls.write(data)  # all of it: the memory that it goes to is never full

    def data_to_send(self) -> bytes:
        """All ciphertext that there is for the peer since the last call."""
        return self._outgoing.read()

    def close_notify(self) -> None:
        """Tell the peer that nothing more will be sent; what it sends is received still.

        Doing this twice is harmless. During the handshake there is nobody to tell, and what waits
        for its end is dropped.
        """
        self._closed = True
        self._waiting.clear()
        if self.handshake_done:
            # SSLWantReadError: the peer has not answered yet. Others: it is broken anyway.
            with suppress(ssl.SSLError):
                self._tls.unwrap()

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate as `SSLSocket.getpeercert` gives it; None without one, and until
        the handshake is done."""
        return self._tls.getpeercert() if self.handshake_done else None

    @property
    def alpn(self) -> str | None:
        """The protocol that was agreed on, if any."""
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        """TLSv1.2 or TLSv1.3; None until the handshake is done."""
        return self._tls.version() if self.handshake_done else None

    def _do_handshake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            if self._server_side and _is_plain_http(self._head):
                self._outgoing.write(PLAIN_HTTP_RESPONSE)
                raise PlainHttpError("the peer speaks HTTP without TLS") from error
            raise
        self.handshake_done = True
        self._head = b""
        if self._waiting:
            self.send(self._waiting)
            self._waiting = []
        return True

    def _read(self) -> bytes:
        """All plaintext of the records that are complete."""
        chunks: list[bytes] = []
        while self._incoming.pending or self._tls.pending():
            try:
                chunk = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                chunk = b""
            if not chunk:
                self.received_eof = True
                break
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_METHODS: Final = (
    b"CONNECT ",
    b"DELETE ",
    b"GET ",
    b"HEAD ",
    b"OPTIONS ",
    b"PATCH ",
    b"POST ",
    b"PRI ",  # HTTP/2
    b"PUT ",
    b"TRACE ",
)


def _is_plain_http(head: bytes) -> bool:
    """Whether `head` begins as an HTTP request does (RFC 9110 section 9, RFC 9113 section 3.4)."""
    return any(head.startswith(method[: len(head)]) for method in _METHODS if head)
