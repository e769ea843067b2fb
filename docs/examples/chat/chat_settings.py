"""The chat's settings: what every Wireroom service has, and some of its own; see README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from names import room_name
from rates import Rate
from records import InvalidError
from wireroom.core import ConfigurationError
from wireroom.transports.settings import Settings

Messages = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class ChatSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Read from the environment: `chat_folder` from CHAT_FOLDER, and so on."""

    chat_folder: str = ".chat"  # of the database file, unless DATABASE_URL says another
    chat_operators: str = ""  # names, separated by commas, who may moderate every room
    chat_rooms: str = "lobby"  # names, separated by commas, of rooms that are always there
    chat_trusted_proxies: str = ""  # addresses and networks, separated by commas; see `App`
    chat_history_messages: Messages = 500  # of each room, for who comes back, beside the database
    chat_history_s: Seconds = 600.0
    chat_history_bytes: Messages = 2**20
    chat_token_lifetime_s: Seconds = 12 * 3600.0
    chat_messages_per_s: float = 2.0  # of a user's messages
    chat_messages_burst: float = 10.0
    chat_requests_per_s: float = 20.0  # of a user's requests of all kinds
    chat_requests_burst: float = 100.0
    chat_log_ins_per_s: float = 0.5  # from an address
    chat_log_ins_burst: float = 20.0
    chat_wrong_passwords_per_s: float = 0.02  # of an account
    chat_wrong_passwords_burst: float = 10.0

    @property
    def store_url(self) -> str:
        """DATABASE_URL, or a file in the folder, which is made. Raises `ConfigurationError`."""
        if self.database_url:
            return self.database_url
        folder = Path(self.chat_folder)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError("CHAT_FOLDER", f"cannot be made: {error}") from error
        return f"sqlite:///{folder / 'chat.sqlite3'}"

    @property
    def operators(self) -> frozenset[str]:
        """The names."""
        return frozenset(_entries(self.chat_operators))

    @property
    def trusted_proxies(self) -> list[str]:
        """The addresses and networks."""
        return _entries(self.chat_trusted_proxies)

    @property
    def rooms(self) -> list[str]:
        """The names. Raises `ConfigurationError`."""
        try:
            return [room_name(name) for name in _entries(self.chat_rooms)]
        except InvalidError as error:
            raise ConfigurationError("CHAT_ROOMS", str(error)) from error

    def rate(self, name: str) -> Rate:
        """A rate by its name: "messages", "requests", "log_ins" or "wrong_passwords".

        Raises `ConfigurationError`.
        """
        per_s, burst = (getattr(self, f"chat_{name}_{each}") for each in ("per_s", "burst"))
        try:
            return Rate(per_s, burst)
        except ValueError as error:
            raise ConfigurationError(f"CHAT_{name.upper()}_PER_S, _BURST", str(error)) from error


def _entries(listed: str) -> list[str]:
    return list(filter(None, map(str.strip, listed.split(","))))
