"""Keys that tokens are signed and verified with: a secret, a PEM file, or a JWKS file.

Which algorithm belongs to a key is said by the key, never by a token: an attacker who signs with
HS256, and a public key as the secret, finds no key that verifies it (RFC 8725 section 3.1).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

from wireroom.core import ConfigurationError

KeyFile: TypeAlias = str | os.PathLike[str]

SECRET_BYTES_MIN: Final = 32  # RFC 7518 section 3.2, for HS256
RSA_BITS_MIN: Final = 2048  # RFC 7518 section 3.3

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
"""Those of an RSA key; the keys of elliptic curves have one each."""


@final
class Key:
    """A key, its id (the `kid` of a JWKS) if it has one, and the algorithms that it may be used
    with, the usual one first."""

    __slots__ = ("algorithms", "id", "value")

    def __init__(self, value: Any, algorithms: tuple[str, ...], id: str | None = None) -> None:
        self.value = value
        self.algorithms = algorithms
        self.id = id

    def restricted(self, wanted: tuple[str, ...] | None, setting: str) -> Key:
        """The same key for no other algorithms than these. Raises `ConfigurationError` if none of
        them is its own."""
        if wanted is None:
            return Key(self.value, self.algorithms[:1], self.id)
        common = tuple(each for each in wanted if each in self.algorithms)
        if not common:
            raise ConfigurationError(
                setting, f"the key is for {', '.join(self.algorithms)}, not {', '.join(wanted)}"
            )
        return Key(self.value, common, self.id)


def secret_key(secret: str | bytes) -> Key:
    """A shared secret. Raises `ConfigurationError` if it is shorter than the hash of HS256."""
    value = secret.encode() if isinstance(secret, str) else secret
    if len(value) < SECRET_BYTES_MIN:
        raise ConfigurationError(
            "secret",
            f"must have at least {SECRET_BYTES_MIN} bytes (RFC 7518 section 3.2), not "
            f'{len(value)}; python -c "import secrets; print(secrets.token_urlsafe(32))" makes one',
        )
    return Key(value, SYMMETRIC)


def public_key(path: KeyFile) -> Key:
    """The public key of a PEM file: a public key, a certificate, or a private key's other half.

    Raises `ConfigurationError`.
    """
    data = _read(path)
    try:
        if b"PRIVATE KEY" in data:
            private: Any = load_pem_private_key(data, password=None)
            return _classified(private.public_key(), path)
        if b"BEGIN CERTIFICATE" in data:
            return _classified(load_pem_x509_certificate(data).public_key(), path)
        return _classified(load_pem_public_key(data), path)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, error) from error


def private_key(path: KeyFile) -> Key:
    """The private key of a PEM file without a password. Raises `ConfigurationError`."""
    try:
        return _classified(load_pem_private_key(_read(path), password=None), path)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, error) from error


def jwks_keys(path: KeyFile) -> list[Key]:
    """The public signature keys of a JWKS file (RFC 7517 section 5).

    Keys for encryption, of kinds not known here, and secrets, which do not belong into such a file,
    are left out. Raises `ConfigurationError` if nothing remains, and for ids given twice.
    """
    data = _read(path)
    try:
        entries = json.loads(data)["keys"]
        usable = [
            each
            for each in entries
            if each.get("kty") in ("RSA", "EC", "OKP") and each.get("use", "sig") == "sig"
        ]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise _unusable(path, error) from error
    keys = [key for each in usable if (key := _jwk(each, path)) is not None]
    ids = [key.id for key in keys if key.id is not None]
    if not keys or len(ids) != len(set(ids)):
        problem = "has two keys of one kid" if keys else "has no public signature key"
        raise ConfigurationError("jwks_file", f"{os.fspath(path)} {problem}")
    return keys


def _jwk(entry: dict[str, Any], path: KeyFile) -> Key | None:
    try:
        loaded: Any = jwt.PyJWK.from_dict(entry).key
        value = loaded.public_key() if hasattr(loaded, "public_key") else loaded
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise _unusable(path, error) from error
    try:
        key = _classified(value, path)
    except ConfigurationError:  # a curve of which nothing is known here
        return None
    own = entry.get("alg")
    algorithms = key.algorithms if own is None else tuple({own} & set(key.algorithms))
    kid = entry.get("kid")
    return Key(value, algorithms, kid if isinstance(kid, str) else None) if algorithms else None


def _classified(value: Any, path: KeyFile) -> Key:
    """With the algorithms that a key of its kind is for."""
    if isinstance(value, RSAPublicKey | RSAPrivateKey):
        if value.key_size < RSA_BITS_MIN:
            raise ConfigurationError(
                "key_file", f"{os.fspath(path)}: an RSA key needs {RSA_BITS_MIN} bits"
            )
        return Key(value, ASYMMETRIC)
    if isinstance(value, EllipticCurvePublicKey | EllipticCurvePrivateKey):
        if isinstance(value.curve, SECP256R1):
            return Key(value, ("ES256",))
        if isinstance(value.curve, SECP384R1):
            return Key(value, ("ES384",))
    if isinstance(value, Ed25519PublicKey | Ed25519PrivateKey):
        return Key(value, ("EdDSA",))
    raise ConfigurationError("key_file", f"{os.fspath(path)} has a key of a kind not known here")


def _read(path: KeyFile) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError("key_file", f"cannot be read: {error}") from error


def _unusable(path: KeyFile, error: Exception) -> ConfigurationError:
    return ConfigurationError("key_file", f"{os.fspath(path)} has no usable key: {error}")
