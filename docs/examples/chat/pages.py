"""The page and what belongs to it, over plain HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from wireroom.core import App, Request, Response

HERE: Final = Path(__file__).parent

_STRICT: Final = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "no-cache"}


def add_pages(app: App) -> None:
    """Serve the page at `/`, with its script and style."""
    page = (HERE / "page.html").read_bytes()
    script = (HERE / "page.js").read_bytes()
    style = (HERE / "page.css").read_bytes()

    @app.http("/")
    def index(request: Request) -> Response:
        return Response(200, page, _STRICT, content_type="text/html; charset=utf-8")

    @app.http("/page.js")
    def page_script(request: Request) -> Response:
        return Response(200, script, _STRICT, content_type="text/javascript; charset=utf-8")

    @app.http("/page.css")
    def page_style(request: Request) -> Response:
        return Response(200, style, _STRICT, content_type="text/css; charset=utf-8")
