"""The files of the console, which need no key: what they show comes from the API."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.api.errors import RouteNotFoundError
from service.api.services import ApiServices

_INDEX: Final = "index.html"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


# Made once; the files are small, and are sent to browsers that do not have them.
_LEVEL: Final = 9


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is and compressed by gzip, each with an entity tag of its own."""

    body: bytes
    etag: str
    compressed: bytes
    compressed_etag: str
    media_type: str


async def get_page(_api: ApiServices, request: Request) -> Response:
    """GET /console and the paths below it: one page, whose script shows what the path names."""
    return _answer(request, _files()[_INDEX])


async def get_file(_api: ApiServices, request: Request) -> Response:
    """GET /console/static/{path}: a file of the page."""
    found = _files().get(request.path_params["path"])
    if found is None:
        raise RouteNotFoundError
    return _answer(request, found)


@cache
def _files() -> dict[str, _File]:
    """All files by their paths; they do not change while the process runs."""
    return dict(_walk(files("service.api.console") / "static", ""))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found: list[tuple[str, _File]] = []
    for each in folder.iterdir():
        path = prefix + each.name
        if each.is_dir():
            found += _walk(each, path + "/")
            continue
        body = each.read_bytes()
        suffix = "." + each.name.rpartition(".")[2]
        kind = _TYPES.get(suffix) or mimetypes.guess_type(each.name)[0] or "text/plain"
        digest = hashlib.sha256(body).hexdigest()[:32]
        compressed = gzip.compress(body, _LEVEL, mtime=0)
        found.append((path, _File(body, f'"{digest}"', compressed, f'"{digest}-gzip"', kind)))
    return found


def _answer(request: Request, file: _File) -> Response:
    is_compressed = "gzip" in request.headers.get("accept-encoding", "")
    etag = file.compressed_etag if is_compressed else file.etag
    headers = {**HEADERS, "ETag": etag, "Vary": "Accept-Encoding"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    body = file.compressed if is_compressed else file.body
    return Response(body, media_type=file.media_type, headers=headers)
