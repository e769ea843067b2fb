"""A chat service: accounts, rooms, history, moderation; see README.md.

    make run                                 from the repository
    python docs/examples/chat/server.py      with wireroom[chat] installed

Then open http://127.0.0.1:8301 in two tabs. Settings come from the environment (`chat_settings`).
`--transport` chooses what serves it; the application is the same on each.
"""

from __future__ import annotations

import argparse
import logging
import sys
from concurrent.futures import wait
from typing import Any, Final

from accounts import Passwords
from chat_settings import ChatSettings
from logging_in import add_accounts, new_issuer, new_verifier
from messages import add_messages
from moderation import add_moderation
from pages import add_pages
from people import Operators, account_of
from presence import add_presence
from protocol import Request as ChatRequest
from rate_limits import RateLimits
from rooms import add_rooms
from store import Store
from unannounced import add_unannounced
from wireroom import operations
from wireroom.core import App, ConfigurationError, History, WebSocket
from wireroom.operations import logs
from wireroom.transports.tokens import (
    BearerHeader,
    Cookie,
    SubprotocolEntry,
    TokenGate,
    TokenIssuer,
    secret_or_random,
)

FIRST_MESSAGE_S: Final = 10.0  # to authenticate in
RESTARTING: Final = 1012  # what sessions are closed with (IANA's registry of close codes)


def make_app(settings: ChatSettings | None = None) -> App:
    """The whole application; it knows no transport. None: settings from the environment.

    Each hub that runs it has a `Store`, which is to be closed after it: `close_store(hub)`.
    """
    settings = settings or ChatSettings.from_environment()
    secret = secret_or_random(settings.jwt_secret)
    app = App(trusted_proxies=settings.trusted_proxies)
    stores: list[Store] = []

    def new_store() -> Store:
        stores.append(_started_store(settings))
        return stores[-1]

    app.provide(Store, new_store)
    app.provide(Passwords, Passwords)
    app.provide(TokenIssuer, lambda: new_issuer(secret, settings.chat_token_lifetime_s))
    app.provide(Operators, lambda: Operators(settings.operators))
    app.provide(RateLimits, lambda: RateLimits(settings))
    add_pages(app)
    operations.install(
        app,
        required_checks={"store": lambda: _problem(stores)},
        console_token=settings.console_token,
    )
    add_accounts(app, settings.rate("wrong_passwords"))
    chat = app.module(
        "/chat",
        subprotocols=["chat"],
        messages=ChatRequest,
        presence=True,
        history=History(
            settings.chat_history_messages, settings.chat_history_s, settings.chat_history_bytes
        ),
    )
    gate = TokenGate(
        new_verifier(secret),
        sources=(BearerHeader(), SubprotocolEntry(), Cookie()),
        first_message_s=FIRST_MESSAGE_S,
        refuse_by="close",
        user_of=account_of,
    )
    gate.install(app, chat)
    chat.middleware(RateLimits.of_users)
    add_rooms(chat)
    add_messages(chat)
    add_moderation(app, chat)
    add_presence(app, chat)
    add_unannounced(app)

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    return app


def _started_store(settings: ChatSettings) -> Store:
    """The store, with the rooms that are always there; if the database is away, it comes later."""
    rooms = settings.rooms
    store = Store(settings.store_url)
    if store.start():
        made = [store.create_room(room) for room in rooms]
        wait(made, timeout=10.0)  # there is one already, most often
    return store


def _unjoined(hub: Any) -> str | None:
    """What is wrong with the link to other nodes."""
    return None if hub.is_backplane_connected else "Redis cannot be reached"


def close_store(hub: Any) -> None:
    """Write what waits, and end the store's threads."""
    hub.service(Store).close()


def _problem(stores: list[Store]) -> str | None:
    """What is wrong with them."""
    if all(store.is_available for store in stores):
        return None
    return "the database cannot be reached"


def serve_asyncio(app: App, host: str, port: int, **options: Any) -> None:
    from wireroom.transports.asyncio import run

    run(app, host, port, **options)


def serve_trio(app: App, host: str, port: int, **options: Any) -> None:
    from wireroom.transports.trio import run

    run(app, host, port, **options)


def serve_blocking(app: App, host: str, port: int, **options: Any) -> None:
    from wireroom.transports.blocking import serve

    serve(app, host, port, **options)


TRANSPORTS: Final = {
    "asyncio": serve_asyncio,
    "trio": serve_trio,
    "blocking": serve_blocking,
}


def main() -> None:
    """The program: status 2, and what to change, if it cannot start."""
    try:
        _serve()
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _serve() -> None:
    settings = ChatSettings.from_environment()
    parser = argparse.ArgumentParser(description="A chat service, by Wireroom.")
    parser.add_argument("--host", default=settings.ws_host)
    parser.add_argument("--port", type=int, default=settings.ws_port)
    parser.add_argument("--transport", choices=TRANSPORTS, default="asyncio")
    arguments = parser.parse_args()
    logs.configure("info", settings.log_format)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    app = make_app(settings)
    servers: list[Any] = []

    def ready(server: Any) -> None:
        servers.append(server)
        installed = operations.operations_of(app)
        if installed is not None and settings.redis_url:
            installed.health.add_check("backplane", lambda: _unjoined(server.hub))
        host, port = server.addresses[0][:2]
        print(f"Wireroom serves a chat on http://{host}:{port}  (Ctrl+C ends it)", flush=True)
        print(f"  ws://{host}:{port}/echo     any WebSocket client")
        print(f"  http://{host}:{port}/healthz", flush=True)

    options: dict[str, Any] = {"on_ready": ready, "close_code": RESTARTING}
    if settings.redis_url:
        from wireroom.backplanes.redis import RedisBackplane

        options["backplane"] = RedisBackplane(settings.redis_url)
    serve = TRANSPORTS[arguments.transport]
    try:
        serve(app, arguments.host, arguments.port, **options)
    finally:
        for server in servers:
            close_store(server.hub)


if __name__ == "__main__":
    main()
