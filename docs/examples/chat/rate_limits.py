"""Rate limits: middleware that answers who is too fast with when to try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from chat_settings import ChatSettings
from rates import Rates, too_fast
from wireroom.core import Context, ErrorReply

_MESSAGES: Final = frozenset(("chat_message", "direct_message"))


@final
class RateLimits:
    """One hub's. Raises `ConfigurationError` for settings that are none."""

    def __init__(self, settings: ChatSettings) -> None:
        self.messages = Rates(settings.rate("messages"))
        self.requests = Rates(settings.rate("requests"))
        self.log_ins = Rates(settings.rate("log_ins"))

    @staticmethod
    def of_users(ctx: Context, call_next: Callable[[], Any]) -> Any:
        """Middleware of /chat: a user's requests, over all sessions, and messages among them."""
        limits = ctx.hub.service(RateLimits)
        key, now = ctx.session.user_id, ctx.hub.now
        wait_s = limits.requests.take(key, now)
        if not wait_s and ctx.command in _MESSAGES:
            wait_s = limits.messages.take(key, now)
        return _refuse(wait_s) if wait_s else call_next()

    @staticmethod
    def of_addresses(ctx: Context, call_next: Callable[[], Any]) -> Any:
        """Middleware of /accounts: what comes from an address."""
        address = ctx.session.address
        key = address[0] if isinstance(address, tuple) else None
        wait_s = ctx.hub.service(RateLimits).log_ins.take(key, ctx.hub.now)
        return _refuse(wait_s) if wait_s else call_next()


def _refuse(wait_s: float) -> ErrorReply:
    return ErrorReply("rate_limited", too_fast(wait_s))
