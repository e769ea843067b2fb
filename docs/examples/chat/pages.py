"""The page and what belongs to it, over plain HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from wireroom.browser import PAGE_HEADERS, add_client, add_file
from wireroom.core import App

HERE: Final = Path(__file__).parent


def add_pages(app: App) -> None:
    """Serve the page at `/`, and beside it its scripts, its style, its icon and the client."""
    add_file(app, "/", HERE / "page.html", headers=PAGE_HEADERS)
    for pattern in ("page*.js", "page.css", "page.svg"):
        for file in sorted(HERE.glob(pattern)):
            add_file(app, f"/{file.name}", file, headers=PAGE_HEADERS)
    add_client(app)
