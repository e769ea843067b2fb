"""`python -m wireroom.transports.cli`."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main()
