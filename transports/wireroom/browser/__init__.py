"""The browser client, and files over HTTP as pages need them.

    from wireroom.browser import PAGE_HEADERS, add_client, add_file

    add_client(app)                                        # GET /wireroom.js, /wireroom.d.ts
    add_file(app, "/", HERE / "page.html", headers=PAGE_HEADERS)

`wireroom.js` is one ES module that needs no build step; `SCRIPT` and `TYPES` are where it and its
types lie, for whoever serves or bundles them otherwise. See docs/browser.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from wireroom.core import App, Request, Response

SCRIPT: Final = Path(__file__).with_name("wireroom.js")
TYPES: Final = Path(__file__).with_name("wireroom.d.ts")

PAGE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
            " object-src 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)
"""For pages: nothing but what this server gives, nothing inline, and in nobody's frame."""

CONTENT_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".png": "image/png",
        ".ico": "image/x-icon",
        ".webmanifest": "application/manifest+json",
        ".ts": "text/plain; charset=utf-8",
    }
)


def add_client(app: App, path: str = "/wireroom.js") -> None:
    """Serve the client at `path`, and its types beside it (`.d.ts` for `.js`)."""
    add_file(app, path, SCRIPT)
    add_file(app, path.removesuffix(".js") + ".d.ts", TYPES)


def add_file(
    app: App,
    path: str,
    file: Path,
    *,
    headers: Mapping[str, str] = MappingProxyType({}),
    content_type: str | None = None,
) -> None:
    """Serve a file as it is now, at a path of the app.

    It is asked for anew each time (`no-cache`), and answered with 304 if the browser has it still
    (by ETag, RFC 9110 section 13.1.2). The type is the suffix's, if it is not given. Raises
    `OSError` for a file that cannot be read, `KeyError` for a suffix that is not in
    `CONTENT_TYPES`.
    """
    kind = content_type or CONTENT_TYPES[file.suffix]
    body = file.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    sent = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        **headers,
    }
    whole, unchanged = Response(200, body, sent, content_type=kind), Response(304, headers=sent)

    @app.http(path)
    def serve_file(request: Request) -> Response:
        return unchanged if _has(request, tag) else whole


def _has(request: Request, tag: str) -> bool:
    """Whether If-None-Match names the tag, by weak comparison."""
    tags = ",".join(request.headers.get_all("if-none-match")).split(",")
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in tags)


__all__ = [
    "CONTENT_TYPES",
    "PAGE_HEADERS",
    "SCRIPT",
    "TYPES",
    "add_client",
    "add_file",
]
