"""What the program tells whoever runs it: lines on stderr, or objects where logs are JSON."""

from __future__ import annotations

import logging

import click

from wireroom.operations.logs import JsonFormatter


def report(event: str, text: str, **fields: object) -> None:
    """Say it, whatever the level of the logs is. `event` and `fields` are for programs."""
    formatter = next(
        (
            each.formatter
            for each in logging.getLogger().handlers
            if isinstance(each.formatter, JsonFormatter)
        ),
        None,
    )
    if formatter is None:
        click.echo(text, err=True)
        return
    record = logging.makeLogRecord(
        {
            "name": "wireroom.cli",
            "levelname": "INFO",
            "levelno": logging.INFO,
            "msg": text,
            "event": event,
            **fields,
        }
    )
    click.echo(formatter.format(record), err=True)
