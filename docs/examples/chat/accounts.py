"""Accounts: registering and logging in with a password. To be called in blocking handlers.

    @blocking
    def log_in(ctx: Context, data: LogIn, accounts: Accounts) -> LoggedIn:
        account = accounts.log_in(data.name, data.password)

A password costs a hash of some ten milliseconds and 64 MiB by design, so it is never computed in
the hub's thread, and only by so many threads at a time.
"""

from __future__ import annotations

import os
import threading
import unicodedata
from typing import Final, final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from records import Account, InvalidError
from store import Store
from store_results import StoreBusyError, StoreError

PASSWORD_CHARACTERS_MIN: Final = 8
PASSWORD_CHARACTERS_MAX: Final = 256

_WAIT_S: Final = 10.0  # for the store, or for another's hash


class WrongPasswordError(StoreError):
    """The name or the password is wrong; which, is not said."""

    code = "wrong_password"


@final
class Passwords:
    """Argon2id, with the parameters of `hasher` (RFC 9106's second choice, if it is None), by at
    most `threads_max` threads at a time."""

    def __init__(
        self, hasher: PasswordHasher | None = None, *, threads_max: int | None = None
    ) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = threading.BoundedSemaphore(threads_max or os.cpu_count() or 1)
        self._nobodys = self._hasher.hash(os.urandom(16).hex())

    def hash(self, password: str) -> str:
        """A hash of a new password. Raises `InvalidError`, and `StoreBusyError` when too many are
        being hashed."""
        if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
            raise InvalidError(
                f"password: must have {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX}"
                " characters"
            )
        data = _normal(password)
        self._enter()
        try:
            return self._hasher.hash(data)
        finally:
            self._threads.release()

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether a hash is the password's; None, for who has no account, takes as long."""
        if len(password) > PASSWORD_CHARACTERS_MAX:
            return False  # whoever has an account has a shorter one
        try:
            data = _normal(password)
        except InvalidError:
            return False
        self._enter()
        try:
            self._hasher.verify(self._nobodys if password_hash is None else password_hash, data)
        except (VerificationError, InvalidHashError):
            return False
        finally:
            self._threads.release()
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether a hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(password_hash)

    def _enter(self) -> None:
        if not self._threads.acquire(timeout=_WAIT_S):
            raise StoreBusyError("too many are logging in")


def _normal(password: str) -> bytes:
    """The same bytes however a keyboard composes the characters (NIST SP 800-63B, 5.1.1.2)."""
    try:
        return unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError as error:
        raise InvalidError("password: has characters that no text has") from error


@final
class Accounts:
    """Who may log in. Both methods take long."""

    def __init__(self, store: Store, passwords: Passwords | None = None) -> None:
        self._store = store
        self._passwords = passwords or Passwords()

    def register(self, name: str, password: str) -> Account:
        """Make an account. Raises `StoreError`: `TakenError`, `InvalidError` …"""
        return self._store.create_account(name, self._passwords.hash(password)).result(_WAIT_S)

    def log_in(self, name: str, password: str) -> Account:
        """The account of a name and its password. Raises `WrongPasswordError`, and `StoreError`.

        A hash that was made with other parameters is replaced.
        """
        found = self._store.find_account(name).result(_WAIT_S)
        account, password_hash = found or (None, None)
        if not self._passwords.verify(password_hash, password) or account is None:
            raise WrongPasswordError("the name or the password is wrong")
        if password_hash is not None and self._passwords.is_outdated(password_hash):
            new_hash = self._passwords.hash(password)
            self._store.set_password_hash(account, new_hash).result(_WAIT_S)
        return account
