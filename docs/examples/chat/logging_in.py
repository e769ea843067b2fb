"""ws /accounts: registering and logging in, for a token."""

from __future__ import annotations

import time
from typing import Final

from accounts import Accounts, Passwords
from guesses import Guesses
from protocol import LoggedIn, LogIn, Register
from rate_limits import RateLimits, site_of
from rates import Rate
from records import Account
from refusals import refusing
from store import Store
from wireroom.core import App, ConfigurationError, Context, blocking
from wireroom.transports.tokens import TokenIssuer, TokenVerifier

AUDIENCE: Final = "wireroom-chat"  # of the tokens, which we issue ourselves


def new_issuer(secret: str, lifetime_s: float) -> TokenIssuer:
    """What makes the chat's tokens."""
    return TokenIssuer(secret=secret, issuer=AUDIENCE, audience=AUDIENCE, lifetime_s=lifetime_s)


def new_verifier(secret: str) -> TokenVerifier:
    """What believes them. Raises `ConfigurationError`."""
    try:
        return TokenVerifier(secret=secret, issuer=AUDIENCE, audience=AUDIENCE)
    except ConfigurationError as error:
        raise ConfigurationError("JWT_SECRET", str(error)) from error


def issue(issuer: TokenIssuer, account: Account) -> LoggedIn:
    """A token for an account, from now on."""
    now = time.time()
    token = issuer.issue(str(account.id), now=now, claims={"name": account.name})
    return LoggedIn(token, now + issuer.lifetime_s, account)


@blocking
@refusing
def register(
    ctx: Context, data: Register, store: Store, passwords: Passwords, issuer: TokenIssuer
) -> LoggedIn:
    return issue(issuer, Accounts(store, passwords).register(data.name, data.password))


@blocking
@refusing
def log_in(
    ctx: Context,
    data: LogIn,
    store: Store,
    passwords: Passwords,
    issuer: TokenIssuer,
    guesses: Guesses,
) -> LoggedIn:
    with guesses.counted(data.name, site_of(ctx.session.address), ctx.hub.now):
        account = Accounts(store, passwords).log_in(data.name, data.password)
    return issue(issuer, account)


def add_accounts(app: App, wrong_passwords: Rate) -> None:
    """Serve them, to each address so often; and so often the wrong password of a name."""
    app.provide(Guesses, lambda: Guesses(wrong_passwords))
    module = app.module("/accounts", messages=Register | LogIn)
    module.middleware(RateLimits.of_addresses)
    module.handler(register)
    module.handler(log_in)
