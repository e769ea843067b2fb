"""The program `wireroom`, as a group of commands."""

from __future__ import annotations

import click

from .connect import connect
from .routes import routes
from .serve import serve


@click.group(
    context_settings={
        "auto_envvar_prefix": "WIREROOM",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    }
)
@click.version_option(package_name="wireroom", prog_name="wireroom", allow_from_autoenv=False)
def wireroom() -> None:
    """A WebSocket application server: serve an app, talk to one, see what it has.

    \b
      wireroom serve server:app                 on http://127.0.0.1:8301, until Ctrl+C
      wireroom serve server:app --reload        and again whenever a file changes
      wireroom connect ws://127.0.0.1:8301/echo
      wireroom routes server:app

    Options can be set by variables: WIREROOM_SERVE_PORT=8400 is serve's --port 8400.

    \b
    Exit status:
      0   all went well: a server was stopped, a connection closed normally
      1   a connection was refused, lost, or closed with an error; a server failed
      2   it could not start: usage, configuration, or an app that cannot be loaded

    \b
    Completion, for bash (zsh and fish likewise), in ~/.bashrc:
      eval "$(_WIREROOM_COMPLETE=bash_source wireroom)"
    """


wireroom.add_command(serve)
wireroom.add_command(connect)
wireroom.add_command(routes)
