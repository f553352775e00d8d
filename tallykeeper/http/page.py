"""The page `/`: a folder `static` of files that a browser loads, sent as they are.

A project's own page is in the package that `page` in [tool.tallykeeper] names. `/tallies`, of this
package, lists the tallies with a chart of each and shows their rows; it is `/` too where the
project has no page, and `/docs` is there where TALLY_SERVE_DOCS says so. A page asks the same
questions as any client, so nothing is computed here. Invariants: nothing comes from elsewhere, and
the browser has to keep it so; addresses are relative, so that a page works behind a proxy that adds
a path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import PurePath

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper.discovery import find_modules_in
from tallykeeper.http.caching import is_known
from tallykeeper.settings import SettingError, project_page, project_root, serve_docs

PAGE = "index.html"
DOCS = "docs.html"
OWN = files("tallykeeper.http") / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is sent of the folder, by the end of a file's name."""

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
    """The pages and what they are made of. Raises SettingError where the project's has no files."""
    routes = APIRouter(include_in_schema=False)

    def add(address: str, name: str, content: bytes) -> None:
        kind = TYPES[PurePath(name).suffix]
        routes.add_api_route(address, _sender(content, kind), methods=_METHODS)

    for file in _files(OWN):
        if not file.name.endswith(".html"):
            add(f"/static/tallies/{file.name}", file.name, file.read_bytes())
    listing = (OWN / PAGE).read_bytes()
    if serve_docs():
        add("/docs", DOCS, (OWN / DOCS).read_bytes())
        listing = listing.replace(b'href="docs" hidden', b'href="docs"')
    add("/tallies", PAGE, listing)
    folder = _folder()
    if folder is None:
        add("/", PAGE, listing)
        return routes
    for file in _files(folder):
        address = "/" if file.name == PAGE else f"/static/{file.name}"
        add(address, file.name, file.read_bytes())
    return routes


def _files(folder: Traversable) -> list[Traversable]:
    return [file for file in folder.iterdir() if PurePath(file.name).suffix in TYPES]


def _folder() -> Traversable | None:
    package = project_page()
    if package is None:
        return None
    find_modules_in(project_root())
    folder = files(package) / "static" if _is_there(package) else None
    if folder is None or not (folder / PAGE).is_file():
        raise SettingError(
            "[tool.tallykeeper]: page",
            f"a package with a folder static, and {PAGE} in it",
            package,
            "correct it, or leave it out for a list of the tallies",
        )
    return folder


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False  # A package that it would be in is not there.


def _sender(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """What sends one file, unless the client has it already."""
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {**HEADERS, "etag": tag}

    async def send(request: Request) -> Response:
        if is_known(tag, request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, kind)

    return send
