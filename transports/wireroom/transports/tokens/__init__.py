"""Tokens: verified, issued, and asked for at the door. Needs `wireroom[tokens]`."""

from __future__ import annotations

from .claims import Claims, InvalidTokenError
from .gate import (
    TOKEN_EXPIRED_CODE,
    UNAUTHENTICATED_CODE,
    Authenticate,
    Authenticated,
    TokenGate,
    claims_of,
)
from .issuer import TokenIssuer, secret_or_random
from .sources import BearerHeader, Cookie, SubprotocolEntry, TokenSource
from .verifier import TokenVerifier

__all__ = [
    "Authenticate",
    "Authenticated",
    "BearerHeader",
    "Claims",
    "Cookie",
    "InvalidTokenError",
    "SubprotocolEntry",
    "TOKEN_EXPIRED_CODE",
    "TokenGate",
    "TokenIssuer",
    "TokenSource",
    "TokenVerifier",
    "UNAUTHENTICATED_CODE",
    "claims_of",
    "secret_or_random",
]
