"""Who somebody is: from a token to an account, and who may moderate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from names import name_key
from records import Account, Room
from wireroom.transports.tokens import Claims


def account_of(claims: Claims) -> Account:
    """The account that a token of ours is about: a session's user."""
    return Account(int(claims.subject), str(claims.all["name"]))


@final
class Operators:
    """Who may moderate every room, by name; others may moderate those they made."""

    def __init__(self, names: Iterable[str]) -> None:
        self._keys = frozenset(map(name_key, names))

    def __contains__(self, account: object) -> bool:
        return isinstance(account, Account) and name_key(account.name) in self._keys

    def may_moderate(self, account: Account, room: Room) -> bool:
        """Whether somebody may moderate a room."""
        return room.created_by == account.id or account in self
