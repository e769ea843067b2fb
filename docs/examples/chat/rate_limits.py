"""Rate limits: middleware that answers who is too fast with when to try again."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any, Final, final

from chat_settings import ChatSettings
from rates import Rates, too_fast
from wireroom.core import Context, ErrorReply
from wireroom.core.wire.request import Address

# What others are shown.
_MESSAGES: Final = frozenset(("chat_message", "direct_message", "edit_message", "create_room"))


@final
class RateLimits:
    """One hub's. Raises `ConfigurationError` for settings that are none."""

    def __init__(self, settings: ChatSettings) -> None:
        self.messages = Rates(settings.rate("messages"))
        self.requests = Rates(settings.rate("requests"))
        self.log_ins = Rates(settings.rate("log_ins"))

    @staticmethod
    def of_users(ctx: Context, call_next: Callable[[], Any]) -> Any:
        """Middleware of /chat: a user's requests, over all sessions, and messages among them.
        Who has not said who they are is counted alone, lest strangers keep each other out."""
        limits = ctx.hub.service(RateLimits)
        session, now = ctx.session, ctx.hub.now
        key = (session.generation,) if session.user_id is None else session.user_id
        wait_s = limits.requests.take(key, now)
        if not wait_s and ctx.command in _MESSAGES:
            wait_s = limits.messages.take(key, now)
        return _refuse(wait_s) if wait_s else call_next()

    @staticmethod
    def of_addresses(ctx: Context, call_next: Callable[[], Any]) -> Any:
        """Middleware of /accounts: what comes from an address."""
        key = site_of(ctx.session.address)
        wait_s = ctx.hub.service(RateLimits).log_ins.take(key, ctx.hub.now)
        return _refuse(wait_s) if wait_s else call_next()


def site_of(address: Address) -> str | None:
    """What an address is counted by: itself, or the /64 network of IPv6, of which one site has all;
    None for a Unix socket."""
    host = address[0] if isinstance(address, tuple) else ""
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return host or None
    if isinstance(ip, IPv4Address):
        return str(ip)
    mapped = ip.ipv4_mapped
    return str(IPv6Network((ip, 64), strict=False)) if mapped is None else str(mapped)


def _refuse(wait_s: float) -> ErrorReply:
    return ErrorReply("rate_limited", too_fast(wait_s))
