"""`wireroom connect`: a client in a terminal."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import click

from wireroom.core import ConfigurationError, LocalProtocolError

from ..clients.options import ConnectOptions
from ..tls import client_context
from .conversation import Wishes, converse
from .problems import CannotStartError, explained, option_names


def _headers(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for each in given:
        name, colon, value = each.partition(":")
        if not colon:
            raise click.BadParameter(f"must be 'Name: value', not {each!r}")
        headers.append((name.strip(), value.strip()))
    return headers


@click.command(short_help="Talk to a server: send lines, see what comes.")
@click.argument("url", metavar="URL", envvar="WIREROOM_URL")
@click.option("-m", "--message", metavar="TEXT", help="Send this, show the first reply, and end.")
@click.option("--once", is_flag=True, help="The same with the first line of stdin.")
@click.option("--binary", is_flag=True, help="Lines are hexadecimal, and sent as binary messages.")
@click.option("--raw", is_flag=True, help="Show received messages only, as they are.")
@click.option(
    "--ping",
    is_flag=True,
    help="Send a Ping a second and show the round trips; nothing is read from stdin.",
)
@click.option(
    "-H",
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    callback=_headers,
    help="Of the handshake. Repeatable.",
)
@click.option("--origin", metavar="ORIGIN", help="The handshake's Origin, as a web page has it.")
@click.option(
    "--subprotocol",
    "subprotocols",
    metavar="NAME",
    multiple=True,
    help="To offer; the first one is preferred. Repeatable.",
)
@click.option("--unix", metavar="PATH", help="Connect to a Unix socket, not to the URL's host.")
@click.option("--ca", metavar="FILE", help="Trust these authorities (PEM), not the system's.")
@click.option("--insecure", is_flag=True, help="Trust any certificate.")
@click.option(
    "--certfile", metavar="FILE", help="A certificate (PEM) for servers that ask for one."
)
@click.option("--keyfile", metavar="FILE", help="Its private key; by default in the same file.")
@click.option(
    "--timeout-s",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="For the handshake, for a Pong, and for the reply with -m and --once.",
)
@click.option(
    "--linger-s",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="After the end of a file or pipe: how much silence ends the connection.",
)
@click.pass_context
def connect(
    context: click.Context,
    url: str,
    message: str | None,
    once: bool,
    binary: bool,
    raw: bool,
    ping: bool,
    headers: list[tuple[str, str]],
    origin: str | None,
    subprotocols: tuple[str, ...],
    unix: str | None,
    ca: str | None,
    insecure: bool,
    certfile: str | None,
    keyfile: str | None,
    timeout_s: float,
    linger_s: float,
) -> None:
    """Connect to URL (ws:// or wss://), send each line of stdin as a text message, and show what
    comes.

    \b
      wireroom connect ws://127.0.0.1:8301/echo
      wireroom connect ws://127.0.0.1:8301/echo -m hello --raw
      wireroom connect wss://127.0.0.1:8301/echo --ca ca.pem -H 'Authorization: Bearer x' < lines
      wireroom connect ws://127.0.0.1:8301/echo --ping

    \b
    A line for each message: direction, seconds since the opening, kind, size, content.
      >     0.004 s  text         5 B  hello
      <     0.005 s  text         5 B  hello

    Binary messages are shown in hexadecimal. How it opened and closed is told on stderr.
    Ctrl+D or Ctrl+C closes with 1000.

    Exit status: 0 if it was closed by us, or by the server with 1000, 1001 or no code; 1 if it was
    refused, lost or closed with another code, or there was no reply with -m and --once; 2 for
    wrong usage, and for lines that could not be sent.
    """
    wishes = Wishes(
        message=message,
        once=once or message is not None,
        binary=binary,
        ping=ping,
        raw=raw,
        timeout_s=timeout_s,
        linger_s=linger_s,
    )
    names = option_names(context.command) | {"url": "URL", "open_timeout_s": "--timeout-s"}
    with explained(names):
        if ping and message is not None:
            raise ConfigurationError("ping, message", "exclude each other: give only one of them")
        options: ConnectOptions = {
            "headers": headers,
            "subprotocols": subprotocols,
            "origin": origin,
            "unix_path": unix,
            "open_timeout_s": timeout_s,
        }
        tls = _tls(url, insecure=insecure, ca=ca, certfile=certfile, keyfile=keyfile)
        if tls is not None:
            options["ssl"] = tls
        try:
            status = asyncio.run(converse(url, wishes, options))
        except LocalProtocolError as error:  # headers that cannot be sent
            raise CannotStartError(str(error)) from error
    raise SystemExit(status)


def _tls(url: str, *, insecure: bool, **files: str | None) -> ssl.SSLContext | None:
    """None for the usual. Raises `ConfigurationError`."""
    given: dict[str, Any] = {name: value for name, value in files.items() if value is not None}
    if not given and not insecure:
        return None
    if not url.lower().startswith("wss:"):
        setting = ", ".join(given) or "insecure"
        raise ConfigurationError(setting, f"is for wss:// URLs, not {url}")
    if insecure and "ca" in given:
        raise ConfigurationError("insecure, ca", "exclude each other: give only one of them")
    context = client_context(**given)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
