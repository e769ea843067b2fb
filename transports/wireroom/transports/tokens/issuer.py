"""Issuing tokens.

issuer = TokenIssuer(secret=settings.jwt_secret, issuer="chat", audience="chat", lifetime_s=3600)
token = issuer.issue("ann", now=time.time())
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from math import ceil, inf
from typing import Any, Final, final

import jwt

from wireroom.core import ConfigurationError

from .keys import KeyFile, private_key, secret_key

logger: Final = logging.getLogger("wireroom.tokens")

_OWN: Final = frozenset(("sub", "exp", "iat", "iss", "aud", "jti"))


@final
class TokenIssuer:
    """Makes tokens that last `lifetime_s` seconds.

    Give `secret` (HS256) or `key_file`, a private key in PEM (RS256, ES256, ES384, EdDSA). `key_id`
    is the `kid` that a JWKS has its public half under. Raises `ConfigurationError`.
    """

    __slots__ = ("_algorithm", "_audience", "_header", "_issuer", "_key", "lifetime_s")

    def __init__(
        self,
        *,
        secret: str | bytes | None = None,
        key_file: KeyFile | None = None,
        algorithm: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        lifetime_s: float = 3600.0,
        key_id: str | None = None,
    ) -> None:
        if (secret is None) == (key_file is None):
            raise ConfigurationError("secret, key_file", "exactly one of them has to be given")
        if not 0 < lifetime_s < inf:
            raise ConfigurationError("lifetime_s", f"must be some seconds, not {lifetime_s!r}")
        if secret is not None:
            key = secret_key(secret)
        else:
            assert key_file is not None
            key = private_key(key_file)
        key = key.restricted(None if algorithm is None else (algorithm,), "algorithm")
        self._key = key.value
        self._algorithm = key.algorithms[0]
        self._header = {} if key_id is None else {"kid": key_id}
        self._issuer = issuer
        self._audience = audience
        self.lifetime_s = lifetime_s

    def issue(self, subject: str, *, now: float, claims: Mapping[str, Any] | None = None) -> str:
        """A token about `subject`, from `now` on, in Unix seconds, with further claims.

        Raises `ValueError` for claims that are said by this itself.
        """
        said = dict(claims or {})
        if not _OWN.isdisjoint(said):
            raise ValueError(f"claims of the issuer's own: {sorted(_OWN & said.keys())}")
        said |= {
            "sub": subject,
            "iat": int(now),
            "exp": ceil(now + self.lifetime_s),
            "jti": secrets.token_urlsafe(12),
        }
        if self._issuer is not None:
            said["iss"] = self._issuer
        if self._audience is not None:
            said["aud"] = self._audience
        return jwt.encode(said, self._key, algorithm=self._algorithm, headers=self._header)


def secret_or_random(secret: str | None) -> str:
    """The secret of the settings (JWT_SECRET), or one for this run, with a warning."""
    if secret:
        return secret
    logger.warning(
        "JWT_SECRET is not set: a random secret is used for this run. Tokens end with the process,"
        " and no other process accepts them"
    )
    return secrets.token_urlsafe(48)
