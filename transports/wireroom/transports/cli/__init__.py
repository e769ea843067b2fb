"""The command line: `wireroom serve`, `wireroom connect` and `wireroom routes`.

    pip install wireroom[cli]
    wireroom serve server:app
    python -m wireroom.transports.cli serve server:app      the same

What each does, and its exit statuses, are in docs/command-line.md and in `--help`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

EXIT_CANNOT_START: Final = 2  # usage, configuration, or an app that cannot be loaded


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments`, or those of this process; ends with SystemExit."""
    try:
        import click  # noqa: F401 # whether it is there
    except ImportError:
        sys.stderr.write("wireroom: the command line needs click: pip install wireroom[cli]\n")
        raise SystemExit(EXIT_CANNOT_START) from None
    from .commands import wireroom

    given = list(sys.argv[1:] if arguments is None else arguments)
    wireroom.main(args=given, prog_name="wireroom", obj=given)
