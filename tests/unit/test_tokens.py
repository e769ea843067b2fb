"""Tokens: what is believed, where they come from, and sessions that end with them; all by a clock
that the test moves."""

from __future__ import annotations

import base64
import hmac
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from driver import Peer, Simulation
from wireroom.core import App, ConfigurationError, Context, Request, Session
from wireroom.transports.tokens import (
    TOKEN_EXPIRED_CODE,
    UNAUTHENTICATED_CODE,
    BearerHeader,
    Claims,
    Cookie,
    InvalidTokenError,
    SubprotocolEntry,
    TokenGate,
    TokenIssuer,
    TokenVerifier,
    claims_of,
    secret_or_random,
)
from wireroom.transports.tokens.gate import _Ends

SECRET = "a secret that has more than 32 bytes"
EPOCH = 1_700_000_000.0  # when simulations begin, in Unix seconds
LIFETIME_S = 600.0
LEEWAY_S = 10.0

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def private_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def jwk(key: Any, **members: str) -> dict[str, Any]:
    algorithms: dict[type, Any] = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    algorithm = next(each for kind, each in algorithms.items() if isinstance(key, kind))
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **members}


def write(path: Path, data: bytes | dict[str, Any]) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return path


def issuer(**options: Any) -> TokenIssuer:
    defaults: dict[str, Any] = {"secret": SECRET, "lifetime_s": LIFETIME_S}
    return TokenIssuer(**defaults | options)


def signed(claims: dict[str, Any] | None = None, **headers: Any) -> str:
    """A token signed with the right secret, that says anything."""
    said = {"sub": "ann", "exp": EPOCH + 60} | (claims or {})
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, SECRET, algorithm="HS256", headers=headers or None)


def unsigned(
    header: dict[str, Any] | bytes, payload: dict[str, Any], signature: bytes = b""
) -> str:
    parts = [header if isinstance(header, bytes) else json.dumps(header).encode()]
    parts += [json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


# -- verifying ----------------------------------------------------------------------------------


def test_a_token_says_who_it_is_about() -> None:
    token = issuer().issue("ann", now=EPOCH, claims={"name": "Ann"})
    claims = TokenVerifier(secret=SECRET).verify(token, now=EPOCH + 1)
    assert (claims.subject, claims.expires_at) == ("ann", EPOCH + LIFETIME_S)
    assert claims.all["name"] == "Ann"
    assert claims.all["iat"] == EPOCH


def test_tokens_are_all_different() -> None:
    assert len({issuer().issue("ann", now=EPOCH) for _ in range(3)}) == 3


@pytest.mark.parametrize(
    ("now", "accepted"),
    [
        (EPOCH - LEEWAY_S - 1, False),
        (EPOCH - LEEWAY_S, True),
        (EPOCH + LIFETIME_S + LEEWAY_S - 1, True),
        (EPOCH + LIFETIME_S + LEEWAY_S, False),
    ],
)
def test_times_are_compared_with_leeway(now: float, accepted: bool) -> None:
    token = issuer().issue("ann", now=EPOCH)
    verifier = TokenVerifier(secret=SECRET, leeway_s=LEEWAY_S)
    if accepted:
        assert verifier.verify(token, now=now).subject == "ann"
    else:
        with pytest.raises(InvalidTokenError) as caught:
            verifier.verify(token, now=now)
        assert caught.value.is_expired is (now > EPOCH)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"nbf": EPOCH + 60},
        {"nbf": []},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"aud": "another"},
        {"aud": []},
        {"iss": "another"},
        {"iss": None},
    ],
)
def test_claims_that_are_not_accepted(claims: dict[str, Any]) -> None:
    verifier = TokenVerifier(secret=SECRET, issuer="chat", audience="chat")
    right = {"iss": "chat", "aud": "chat"}
    assert verifier.verify(signed(right), now=EPOCH).subject == "ann"
    with pytest.raises(InvalidTokenError):
        verifier.verify(signed(right | claims), now=EPOCH)


def test_a_token_for_another_audience_is_not_for_who_has_none() -> None:
    with pytest.raises(InvalidTokenError):
        TokenVerifier(secret=SECRET).verify(signed({"aud": "another"}), now=EPOCH)


PAYLOAD = {"sub": "ann", "exp": EPOCH + 60}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "..",
        "\ud800.a.b",
        "é" * 10,
        signed()[:-2],
        signed() + "x",
        signed(crit=["b64"], b64=False),
        signed({"filler": "x" * 9000}),
        unsigned({"alg": "none"}, PAYLOAD),
        unsigned({"alg": "None", "typ": "JWT"}, PAYLOAD),
        unsigned({"alg": ["HS256"]}, PAYLOAD),
        unsigned({"typ": "JWT"}, PAYLOAD),
        unsigned(b"[" * 5000, PAYLOAD),
        unsigned(b"[]", PAYLOAD),
        jwt.encode(PAYLOAD, SECRET.encode() + bytes(32), algorithm="HS512"),
        jwt.encode(PAYLOAD, SECRET[::-1], algorithm="HS256"),
    ],
    ids=range(17),
)
def test_what_is_no_token_of_ours(token: str) -> None:
    with pytest.raises(InvalidTokenError):
        TokenVerifier(secret=SECRET).verify(token, now=EPOCH)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("algorithms", [None, ["RS256"], ["RS256", "HS256"]])
def test_a_public_key_is_no_secret(tmp_path: Path, algorithms: list[str] | None) -> None:
    """The key confusion of CVE-2015-9235: HS256 with the text of the public key."""
    path = write(tmp_path / "key.pem", public_pem(RSA_KEY))
    verifier = TokenVerifier(key_file=path, algorithms=algorithms)
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(PAYLOAD).encode()).rstrip(b"=")
    mac = hmac.digest(public_pem(RSA_KEY), head + b"." + body, "sha256")
    forged = b".".join([head, body, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()
    with pytest.raises(InvalidTokenError):
        verifier.verify(forged, now=EPOCH)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")]
)
def test_key_pairs_in_pem_files(tmp_path: Path, key: Any, algorithm: str) -> None:
    private = write(tmp_path / "private.pem", private_pem(key))
    public = write(tmp_path / "public.pem", public_pem(key))
    token = TokenIssuer(key_file=private).issue("ann", now=EPOCH)
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    for path in (public, private):
        assert TokenVerifier(key_file=path).verify(token, now=EPOCH).subject == "ann"
    other = EC_KEY if key is not EC_KEY else RSA_KEY
    with pytest.raises(InvalidTokenError):
        TokenVerifier(key_file=write(public, public_pem(other))).verify(token, now=EPOCH)


def test_a_jwks_has_keys_by_their_id(tmp_path: Path) -> None:
    jwks = {
        "keys": [
            jwk(RSA_KEY, kid="rsa", use="sig"),
            jwk(EC_KEY, kid="ec", alg="ES256"),
            jwk(RSA_KEY, kid="encryption", use="enc"),
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"},
            {"kty": "unknown", "kid": "new"},
        ]
    }
    verifier = TokenVerifier(jwks_file=write(tmp_path / "jwks.json", jwks))

    def verify(key: Any, algorithm: str, **header: str) -> Claims:
        token = jwt.encode(PAYLOAD, key, algorithm=algorithm, headers=header)
        return verifier.verify(token, now=EPOCH)

    assert verify(RSA_KEY, "RS256", kid="rsa").subject == "ann"
    assert verify(EC_KEY, "ES256", kid="ec").subject == "ann"
    assert verify(EC_KEY, "ES256").subject == "ann"  # there is only one that it can be
    for key, algorithm, kid in [
        (RSA_KEY, "RS256", "encryption"),
        (RSA_KEY, "RS256", "ec"),
        (EC_KEY, "ES256", "rsa"),
        (RSA_KEY, "PS256", "rsa"),
        (b"secret" * 8, "HS256", "secret"),
        (RSA_KEY, "RS256", "absent"),
    ]:
        with pytest.raises(InvalidTokenError):
            verify(key, algorithm, kid=kid)


def test_renewed_keys_are_read_again_and_bad_ones_change_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "jwks.json", {"keys": [jwk(EC_KEY, kid="1")]})
    verifier = TokenVerifier(jwks_file=path)
    token = jwt.encode(PAYLOAD, RSA_KEY, algorithm="RS256", headers={"kid": "2"})
    with pytest.raises(InvalidTokenError):
        verifier.verify(token, now=EPOCH)
    write(path, {"keys": [jwk(EC_KEY, kid="1"), jwk(RSA_KEY, kid="2")]})
    verifier.reload()
    assert verifier.verify(token, now=EPOCH).subject == "ann"
    write(path, b"{")
    with pytest.raises(ConfigurationError):
        verifier.reload()
    assert verifier.verify(token, now=EPOCH).subject == "ann"


@pytest.mark.parametrize(
    "jwks",
    [
        b"",
        b"[]",
        b'{"keys": 1}',
        b'{"keys": [1]}',
        {"keys": []},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]},
        {"keys": [{"kty": "RSA", "n": "AQAB"}]},
        {"keys": [jwk(EC_KEY, kid="1"), jwk(RSA_KEY, kid="1")]},
    ],
    ids=range(8),
)
def test_a_jwks_that_cannot_work(tmp_path: Path, jwks: Any) -> None:
    with pytest.raises(ConfigurationError):
        TokenVerifier(jwks_file=write(tmp_path / "jwks.json", jwks))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"secret": SECRET, "key_file": "key.pem"},
        {"secret": "short"},
        {"secret": SECRET, "algorithms": ["none"]},
        {"secret": SECRET, "algorithms": ["RS256"]},
        {"secret": SECRET, "algorithms": []},
        {"secret": SECRET, "algorithms": "HS256"},
        {"secret": SECRET, "leeway_s": -1},
        {"key_file": "/nonexistent/key.pem"},
        {"jwks_file": "/nonexistent/jwks.json"},
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        TokenVerifier(**options)


def test_key_files_that_cannot_work(tmp_path: Path) -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for data in (b"", b"-----BEGIN PRIVATE KEY-----\n", public_pem(small)):
        with pytest.raises(ConfigurationError):
            TokenVerifier(key_file=write(tmp_path / "key.pem", data))
    path = write(tmp_path / "key.pem", public_pem(RSA_KEY))
    with pytest.raises(ConfigurationError):
        TokenVerifier(key_file=path, algorithms=["HS256"])
    with pytest.raises(ConfigurationError):
        TokenIssuer(key_file=path)


def test_an_issuer_says_what_is_its_own_itself() -> None:
    with pytest.raises(ValueError, match="exp"):
        issuer().issue("ann", now=EPOCH, claims={"exp": 0})
    for options in ({"secret": None}, {"key_file": "x"}, {"lifetime_s": 0}, {"algorithm": "none"}):
        with pytest.raises(ConfigurationError):
            issuer(**options)


def test_without_a_secret_there_is_one_for_this_run(caplog: pytest.LogCaptureFixture) -> None:
    assert secret_or_random(SECRET) == SECRET
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        secrets = {secret_or_random(each) for each in (None, "")}
    assert len(secrets) == 2
    assert all("JWT_SECRET" in each.getMessage() for each in caplog.records)
    assert not any(secret in caplog.text for secret in secrets)
    for secret in secrets:
        TokenVerifier(secret=secret)


# -- where a token comes from -------------------------------------------------------------------


def request(*headers: tuple[str, str]) -> Request:
    return Request(method="GET", target="/", http_version="1.1", headers=list(headers))


@pytest.mark.parametrize(
    ("source", "header", "token"),
    [
        (BearerHeader(), ("Authorization", "Bearer a.b.c"), "a.b.c"),
        (BearerHeader(), ("authorization", "bearer  a.b.c "), "a.b.c"),
        (BearerHeader(), ("Authorization", "Basic a.b.c"), None),
        (BearerHeader(), ("Authorization", "Bearer"), None),
        (SubprotocolEntry(), ("Sec-WebSocket-Protocol", "chat, wireroom.token.a.b.c"), "a.b.c"),
        (SubprotocolEntry("t."), ("Sec-WebSocket-Protocol", "t.a.b.c"), "a.b.c"),
        (SubprotocolEntry(), ("Sec-WebSocket-Protocol", "chat"), None),
        (Cookie(), ("Cookie", "x=1; wireroom_token=a.b.c"), "a.b.c"),
        (Cookie("x"), ("Cookie", "x=1; wireroom_token=a.b.c"), "1"),
        (Cookie(), ("Cookie", "wireroom_token="), None),
    ],
)
def test_places_in_a_request(source: Any, header: tuple[str, str], token: str | None) -> None:
    assert source.find(request(header)) == token
    assert source.find(request()) is None


# -- the gate -----------------------------------------------------------------------------------


class Door:
    """A server with a gate, in virtual time."""

    def __init__(self, **options: Any) -> None:
        app = App()
        self.chat = app.module("/chat", subprotocols=["chat"])
        self.admitted: list[str] = []
        gate = TokenGate(
            TokenVerifier(secret=SECRET, leeway_s=LEEWAY_S),
            clock=lambda: EPOCH + self.simulation.now,
            **options,
        )

        @self.chat.command("who")
        def who(ctx: Context) -> str:
            return str(ctx.user)

        gate.install(app, self.chat, admitted=self._admitted)
        self.simulation = Simulation(app)
        self.simulation.hub.start(now=0.0)

    def _admitted(self, session: Session) -> None:
        claims = claims_of(session)
        assert claims is not None
        self.admitted.append(claims.subject)

    def token(self, subject: str = "ann", **options: Any) -> str:
        return issuer(**options).issue(subject, now=EPOCH + self.simulation.now)

    def open(self, *headers: tuple[str, str], **options: Any) -> Peer:
        encoded = tuple((name.encode(), value.encode()) for name, value in headers)
        return self.simulation.open("/chat", headers=encoded, **options)

    def bearer(self, token: str) -> Peer:
        return self.open(("Authorization", f"Bearer {token}"))


def send(peer: Peer, kind: str, **fields: str) -> Any:
    """Send a message; gives the answer."""
    before = len(peer.messages)
    peer.send(msgspec.json.encode({"type": kind, **fields}).decode())
    return answer(peer) if len(peer.messages) > before else None


def answer(peer: Peer) -> Any:
    last = peer.messages[-1]
    return msgspec.json.decode(last) if last.startswith("{") else last  # type: ignore[arg-type]


def closed(peer: Peer) -> int | None:
    return None if peer.close_frame is None else int(peer.close_frame.code)


def test_who_has_a_token_in_the_handshake_is_let_in() -> None:
    door = Door()
    peer = door.bearer(door.token())
    assert door.admitted == ["ann"]
    assert send(peer, "who") == "ann"
    assert [session.user for session in door.simulation.hub.user("ann").sessions] == ["ann"]


def test_the_subprotocol_that_is_answered_is_not_the_token() -> None:
    door = Door()
    token = door.token()
    peer = door.open(subprotocols=(f"wireroom.token.{token}", "chat"))
    assert peer.accepted is not None
    assert peer.accepted.subprotocol == "chat"
    assert token.encode() not in bytes(peer.received)
    peer = door.open(subprotocols=(f"wireroom.token.{token}",))
    assert peer.accepted is not None
    assert peer.accepted.subprotocol is None
    assert door.admitted == ["ann", "ann"]


def test_others_get_401_and_are_told_why_by_rfc_6750() -> None:
    door = Door()
    for peer, challenge in [
        (door.open(), b"Bearer"),
        (door.bearer("a.b.c"), b'Bearer error="invalid_token"'),
        (door.bearer(door.token(secret=SECRET * 2)), b'Bearer error="invalid_token"'),
    ]:
        assert peer.rejected is not None
        assert peer.rejected.status_code == 401
        assert dict(peer.rejected.headers)[b"www-authenticate"] == challenge
    assert door.admitted == []


def test_the_first_source_that_has_a_token_decides() -> None:
    door = Door(sources=(BearerHeader(), Cookie()))
    cookie = ("Cookie", f"wireroom_token={door.token('bob')}")
    assert send(door.open(cookie), "who") == "bob"
    assert door.open(cookie, ("Authorization", "Bearer a.b.c")).rejected is not None


def test_pages_of_any_origin_may_not_come_by_cookie() -> None:
    gate = TokenGate(TokenVerifier(secret=SECRET), sources=[Cookie()])
    for app, origins in ((App(origins="*"), None), (App(), "*")):
        module: Any = app.module("/", origins=origins)
        with pytest.raises(ConfigurationError, match="origins"):
            gate.install(app, module)


def test_a_browser_is_refused_by_a_close_code() -> None:
    door = Door(refuse_by="close")
    token = door.token()
    assert closed(door.open()) == UNAUTHENTICATED_CODE
    assert closed(door.bearer("a.b.c")) == UNAUTHENTICATED_CODE
    door.simulation.advance(LIFETIME_S + LEEWAY_S)
    assert closed(door.bearer(token)) == TOKEN_EXPIRED_CODE
    assert door.admitted == []


def test_a_session_ends_with_its_token() -> None:
    door = Door()
    peer = door.bearer(door.token())
    door.simulation.advance(LIFETIME_S + LEEWAY_S - 1.0)
    assert closed(peer) is None
    door.simulation.advance(2.0)
    assert closed(peer) == TOKEN_EXPIRED_CODE
    assert not door.simulation.hub.sessions()


def test_a_new_token_lets_it_go_on() -> None:
    door = Door()
    peer = door.bearer(door.token())
    door.simulation.advance(LIFETIME_S - 60)
    reply = send(peer, "authenticate", token=door.token())
    expires_at = EPOCH + 2 * LIFETIME_S - 60
    assert reply == {"type": "authenticated", "subject": "ann", "expires_at": expires_at}
    door.simulation.advance(LIFETIME_S)
    assert send(peer, "who") == "ann"
    door.simulation.advance(LEEWAY_S + 1)
    assert closed(peer) == TOKEN_EXPIRED_CODE
    assert door.admitted == ["ann"]


def test_a_shorter_token_counts_from_when_it_is_given() -> None:
    door = Door()
    peer = door.bearer(door.token())
    send(peer, "authenticate", token=door.token(lifetime_s=5))
    door.simulation.advance(5 + LEEWAY_S + 1)
    assert closed(peer) == TOKEN_EXPIRED_CODE


def test_a_new_token_that_is_not_accepted_changes_nothing() -> None:
    door = Door()
    peer = door.bearer(door.token())
    assert send(peer, "authenticate", token="a.b.c")["code"] == "invalid_token"
    assert send(peer, "authenticate", token=door.token("bob"))["code"] == "wrong_subject"
    assert send(peer, "who") == "ann"
    door.simulation.advance(LIFETIME_S + LEEWAY_S + 1)
    assert closed(peer) == TOKEN_EXPIRED_CODE


def test_the_first_message_may_have_the_token() -> None:
    door = Door(first_message_s=5.0)
    peer = door.open()
    assert door.admitted == []
    assert send(peer, "who")["code"] == "unauthenticated"
    assert send(peer, "authenticate", token=door.token())["subject"] == "ann"
    assert door.admitted == ["ann"]
    assert send(peer, "who") == "ann"
    assert len(door.simulation.hub.user("ann").sessions) == 1
    door.simulation.advance(LIFETIME_S + LEEWAY_S + 1)
    assert closed(peer) == TOKEN_EXPIRED_CODE


def test_a_first_message_that_does_not_come_in_time() -> None:
    door = Door(first_message_s=5.0)
    peer = door.open()
    door.simulation.advance(4.0)
    assert closed(peer) is None
    door.simulation.advance(2.0)
    assert closed(peer) == UNAUTHENTICATED_CODE


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (lambda door: "a.b.c", UNAUTHENTICATED_CODE),
        (lambda door: issuer().issue("ann", now=EPOCH - 2 * LIFETIME_S), TOKEN_EXPIRED_CODE),
    ],
)
def test_a_first_token_that_is_not_accepted(token: Callable[[Door], str], code: int) -> None:
    door = Door(first_message_s=5.0)
    peer = door.open()
    send(peer, "authenticate", token=token(door))
    assert closed(peer) == code
    assert door.admitted == []


def test_the_user_may_be_more_than_the_subject() -> None:
    door = Door(user_of=lambda claims: claims.subject.upper(), first_message_s=5.0)
    late = door.open()
    send(late, "authenticate", token=door.token("eve"))
    for peer in (late, door.bearer(door.token("eve"))):
        assert send(peer, "who") == "EVE"
    assert door.admitted == ["eve", "eve"]
    assert not door.simulation.failures


def test_those_who_have_gone_are_forgotten() -> None:
    door = Door()
    for _ in range(200):
        door.bearer(door.token()).lose()
    staying = door.bearer(door.token())
    door.simulation.advance(1.0)
    assert len(door.simulation.hub.service(_Ends).deadlines) == 1
    door.simulation.advance(LIFETIME_S + LEEWAY_S + 1)
    assert closed(staying) == TOKEN_EXPIRED_CODE


def test_a_gate_that_cannot_work() -> None:
    verifier = TokenVerifier(secret=SECRET)
    with pytest.raises(ConfigurationError):
        TokenGate(verifier, refuse_by="silence")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        TokenGate(verifier, first_message_s=0)
