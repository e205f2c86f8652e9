"""The pages on the contract: the document itself, a page to read it, and the front page.

None asks for a token. Nothing on them comes from elsewhere, and no script runs.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.accept import preferred
from service.api.contract.document import build
from service.api.contract.front import front_page
from service.api.contract.reading import reading_page
from service.api.contract.style import STYLE
from service.api.flat import FLAT_OPERATIONS
from service.api.open import OpenOperation
from service.api.operations import PROBES
from service.api.render import Json
from service.api.services import ApiServices
from service.api.v1.operations import OPERATIONS

HTML: Final = "text/html"
CONTRACT_PATH: Final = "/openapi.json"
READING_PATH: Final = "/docs"

_SHEET: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_SHEET}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class ContractAnswer(BaseModel):
    """The contract: a document by the OpenAPI Specification."""

    model_config = ConfigDict(extra="allow")

    openapi: str


class FrontAnswer(BaseModel):
    """What this is, and where to read more."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: str
    contract: str
    documentation: str


def document() -> dict[str, Any]:
    """The contract of all routes."""
    return build(OPERATIONS, FLAT_OPERATIONS, (*PROBES, *PAGES))


@dataclass(frozen=True, slots=True)
class _Rendered:
    """What does not change while the process runs."""

    body: bytes
    etag: str
    media_type: str


@cache
def _contract() -> _Rendered:
    return _rendered(orjson.dumps(document()), Json.media_type)


@cache
def _reading() -> _Rendered:
    return _rendered(reading_page(document()).encode(), HTML)


def _rendered(body: bytes, media_type: str) -> _Rendered:
    return _Rendered(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', media_type)


async def get_contract(_api: ApiServices, request: Request) -> Response:
    """GET /openapi.json: the contract."""
    return _kept(request, _contract(), {"X-Content-Type-Options": "nosniff"})


async def get_reading(_api: ApiServices, request: Request) -> Response:
    """GET /docs: a page to read the contract."""
    return _kept(request, _reading(), _PAGE_HEADERS)


async def get_front(_api: ApiServices, request: Request) -> Response:
    """GET /: what this is; for a browser as a page, else as JSON."""
    headers = {**_PAGE_HEADERS, "Vary": "Accept", "Cache-Control": "no-store"}
    accept = ", ".join(request.headers.getlist("accept"))
    if preferred(accept, (Json.media_type, HTML)) == HTML:
        page = front_page(str(request.base_url).rstrip("/"))
        return Response(page, media_type=HTML, headers=headers)
    facts = FrontAnswer(
        name="Facette", version=__version__, contract=CONTRACT_PATH, documentation=READING_PATH
    )
    return Json(facts.model_dump(), headers=headers)


def _kept(request: Request, rendered: _Rendered, headers: dict[str, str]) -> Response:
    """The answer, or 304 where the client has it already."""
    headers = {**headers, "ETag": rendered.etag, "Cache-Control": "no-cache"}
    known = ",".join(request.headers.getlist("if-none-match"))
    if known.strip() == "*" or rendered.etag in (
        tag.strip().removeprefix("W/") for tag in known.split(",")
    ):
        return Response(status_code=304, headers=headers)
    return Response(rendered.body, media_type=rendered.media_type, headers=headers)


PAGES: Final[tuple[OpenOperation, ...]] = (
    OpenOperation(
        CONTRACT_PATH, get_contract, "getContract", "contract",
        "The contract, by the OpenAPI Specification 3.1", (ContractAnswer,), headers=("ETag",),
    ),
    OpenOperation(
        READING_PATH, get_reading, "readContract", "contract",
        "The contract as a page", (HTML,), headers=("ETag",),
    ),
    OpenOperation(
        "/", get_front, "getFront", "contract",
        "What this is, and where to begin", (FrontAnswer, HTML),
    ),
)  # fmt: skip
"""The pages, as the router and the contract take them."""
