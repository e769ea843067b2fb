"""`wireroom routes`: what an app serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from .described import describe
from .loading import load_app
from .problems import explained


@click.command(short_help="Show the paths and commands of an app.")
@click.argument("app", metavar="APP", envvar="WIREROOM_APP")
@click.option("--json", "as_json", is_flag=True, help="For programs, with a JSON Schema a command.")
def routes(app: str, as_json: bool) -> None:
    """Show what APP serves: paths, their kinds, and commands with the types of their data.

    \b
      wireroom routes server:app
      wireroom routes server:make_app --json | jq '.[].path'

    A kind is module, function, view or http. The app is checked as at a start: what cannot work
    is said, with exit status 2.
    """
    with explained({}):
        loaded = load_app(app)
        loaded.check()
    described = describe(loaded)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(described)).decode())
        return
    for route in described:
        for line in _lines(route):
            click.echo(line)


def _lines(route: dict[str, Any]) -> Iterator[str]:
    handler = route.get("handler")
    yield f"{route['path']}  {route['kind']}" + (f"  {handler}" if handler else "")
    if route.get("subprotocols"):
        yield f"  subprotocols: {', '.join(route['subprotocols'])}"
    if route["kind"] != "module":
        return
    yield f"  messages: {route['messages']}" + (
        f" by {route['parser']}" if route["commands"] else ""
    )
    for event, where in route["handlers"].items():
        yield f"  on_{event}: {where}"
    for name in ("handshake_middleware", "middleware"):
        if route[name]:
            yield f"  {name.replace('_', ' ')}: {', '.join(route[name])}"
    if route["stages"] is not None:
        changes = ", ".join(
            f"{before} -> {' or '.join(after)}"
            for before, after in route["stages"]["transitions"].items()
            if after
        )
        yield f"  stages: {route['stages']['initial']} first; {changes}"
    for command in route["commands"]:
        yield from _command_lines(command)


def _command_lines(command: dict[str, Any]) -> Iterator[str]:
    data = command["data"]
    what = command["name"] or "(any other)"
    yield f"  command {what}" + (f": {data['type']}" if data else "") + f"  {command['handler']}"
    for field in data["fields"] if data else ():
        default = "" if field["default"] is None else f" = {field['default']}"
        optional = "" if field["required"] or default else " (may be left out)"
        yield f"    {field['name']}: {field['type']}{default}{optional}"
    for name in ("services", "stages", "middleware"):
        if command[name]:
            yield f"    {name}: {', '.join(command[name])}"
