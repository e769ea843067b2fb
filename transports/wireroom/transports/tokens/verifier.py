"""Verifying tokens: JSON Web Tokens (RFC 7519) signed by a secret or a key (RFC 7515).

verifier = TokenVerifier(secret=settings.jwt_secret, issuer="chat", audience="chat")
claims = verifier.verify(token, now=time.time())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, final

import jwt

from wireroom.core import ConfigurationError

from .claims import Claims, InvalidTokenError
from .keys import Key, KeyFile, jwks_keys, public_key, secret_key

TOKEN_BYTES_MAX: Final = 8192  # looked at, at most

# What PyJWT is asked for: the signature, issuer and audience. Times are compared here, with `now`.
_OPTIONS: Final[Any] = {
    "require": ["exp", "sub"],
    "verify_signature": True,
    "verify_iss": True,
    "verify_aud": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


@final
class TokenVerifier:
    """Says whom a token is about, or that it is not to be believed.

    Give one of `secret` (HS256, at least 32 bytes), `key_file` (PEM; RS256, ES256, ES384 or EdDSA,
    as the key is) and `jwks_file` (the key is chosen by the token's `kid`). `algorithms` are those
    that may be used, if not the key's usual one. A token without an expiry is refused, and so is
    one of another issuer, or for another audience (any, if `audience` is None: RFC 7519 section
    4.1.3). `leeway_s` is how far clocks may be apart.
    Raises `ConfigurationError`.
    """

    __slots__ = (
        "_algorithms",
        "_audience",
        "_issuer",
        "_jwks_file",
        "_key_file",
        "_keys",
        "_secret",
        "leeway_s",
    )

    def __init__(
        self,
        *,
        secret: str | bytes | None = None,
        key_file: KeyFile | None = None,
        jwks_file: KeyFile | None = None,
        algorithms: Sequence[str] | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: float = 10.0,
    ) -> None:
        if sum(each is not None for each in (secret, key_file, jwks_file)) != 1:
            raise ConfigurationError(
                "secret, key_file, jwks_file", "exactly one of them has to be given"
            )
        if isinstance(algorithms, str) or (algorithms is not None and not algorithms):
            raise ConfigurationError("algorithms", f"must be a list, not {algorithms!r}")
        if not 0 <= leeway_s < 3600:
            raise ConfigurationError("leeway_s", f"must be some seconds, not {leeway_s!r}")
        self._secret = secret
        self._key_file = key_file
        self._jwks_file = jwks_file
        self._algorithms = None if algorithms is None else tuple(algorithms)
        self._issuer = issuer
        self._audience = audience
        self.leeway_s = leeway_s
        self._keys = self._load()

    def reload(self) -> None:
        """Read the file again, after keys were renewed; in any thread. If it raises
        `ConfigurationError`, the keys are those of before."""
        self._keys = self._load()

    def _load(self) -> list[Key]:
        if self._secret is not None:
            return [secret_key(self._secret).restricted(self._algorithms, "algorithms")]
        if self._key_file is not None:
            return [public_key(self._key_file).restricted(self._algorithms, "algorithms")]
        assert self._jwks_file is not None
        keys = []
        for key in jwks_keys(self._jwks_file):
            try:
                keys.append(key.restricted(self._algorithms, "algorithms"))
            except ConfigurationError:  # of another kind than is wanted
                continue
        if not keys:
            raise ConfigurationError("algorithms", "the JWKS has no key for them")
        return keys

    def verify(self, token: str, *, now: float) -> Claims:
        """What a token says, at `now` in Unix seconds. Raises `InvalidTokenError`."""
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidTokenError(f"the token has more than {TOKEN_BYTES_MAX} bytes")
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key = self._key_for(header)
            payload = jwt.decode(
                token,
                key.value,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options=_OPTIONS,
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise InvalidTokenError(f"the token is not valid: {error}") from error
        return self._check_times(payload, now)

    def _key_for(self, header: Mapping[str, Any]) -> tuple[str, Key]:
        """The token's algorithm, if it is one of ours, and the key that it has to be of."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if "crit" in header:  # RFC 7515 section 4.1.11: none of them is understood
            raise InvalidTokenError("the token has critical extensions")
        usable = [key for key in self._keys if algorithm in key.algorithms]
        chosen = [key for key in usable if kid is not None and key.id == kid]
        if not chosen:
            # One without an id fits any key id, but there must be no doubt about which it is.
            chosen = [key for key in usable if key.id is None or kid is None]
        if len(chosen) != 1:
            raise InvalidTokenError(f"no key for algorithm {algorithm!r:.20} and kid {kid!r:.80}")
        return str(algorithm), chosen[0]

    def _check_times(self, payload: Mapping[str, Any], now: float) -> Claims:
        expires_at = _seconds(payload, "exp")
        if expires_at is None:
            raise InvalidTokenError("the token has no expiry")
        not_before = _seconds(payload, "nbf")
        issued_at = _seconds(payload, "iat")
        if now >= expires_at + self.leeway_s:
            raise InvalidTokenError("the token has expired", is_expired=True)
        for name, moment in (("nbf", not_before), ("iat", issued_at)):
            if moment is not None and moment > now + self.leeway_s:
                raise InvalidTokenError(f"the token is not valid yet ({name})")
        subject = payload["sub"]
        if not isinstance(subject, str) or not subject:
            raise InvalidTokenError("the token has no subject")
        return Claims(subject, expires_at, payload)


def _seconds(payload: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2). Raises `InvalidTokenError`."""
    value = payload.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isfinite(value):
            raise InvalidTokenError(f"{name} is no time")
        return float(value)
    except (TypeError, OverflowError) as error:
        raise InvalidTokenError(f"{name} is no time") from error
