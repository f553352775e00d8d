"""The one page, `/`: the figures in a browser. Its files are in `static/`, used as they are.

The page asks the same questions as any client, so nothing is computed here. Invariants:
nothing comes from elsewhere, and the browser has to keep it so; addresses are relative, so that
the page works behind a proxy that adds a path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper.http.caching import is_known

PAGE = "index.html"
TYPES = {
    PAGE: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "feed.js": "text/javascript; charset=utf-8",
    "graph.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
        " object-src 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_METHODS = ["GET", "HEAD"]


def router() -> APIRouter:
    """The page and what it is made of."""
    routes = APIRouter(include_in_schema=False)
    routes.add_api_route("/", _sender(PAGE), methods=_METHODS)
    for name in TYPES:
        if name != PAGE:
            routes.add_api_route(f"/static/{name}", _sender(name), methods=_METHODS)
    return routes


def _sender(name: str) -> Callable[[Request], Awaitable[Response]]:
    """What sends one file, unless the client has it already."""
    content = files("tallykeeper.http").joinpath("static", name).read_bytes()
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {**HEADERS, "etag": tag}

    async def send(request: Request) -> Response:
        if is_known(tag, request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, TYPES[name])

    return send
