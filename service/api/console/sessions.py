"""Signing in to the console with a token or a key, and out again."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from service.api.auth import token_headers
from service.api.boundary import NETWORK
from service.api.cookies import check_same_origin, give, session_of, take_back
from service.api.forms import MalformedBodyError
from service.api.intake import UploadTimeoutError
from service.api.render import Json
from service.api.services import ApiServices
from service.domain.errors import InvalidTokenError, MissingTokenError, WrongTokenError
from service.usecases.sessions import SignedIn

_MAX_BODY_BYTES: Final = 4096
# Nobody has shown a key yet, so nobody may keep a request open for long.
_BODY_TIMEOUT_S: Final = 10.0


async def open_session(api: ApiServices, request: Request) -> Response:
    """POST /console/session: sign in with a token or a key."""
    check_same_origin(request.method, request.headers)
    shown = await _shown(request)
    network = request.scope[NETWORK]
    try:
        principal = await api.guard.authenticate(token_headers(shown), network)
    except WrongTokenError:
        raise InvalidTokenError from None
    secret, signed_in = await api.sessions.open(principal, shown)
    answer = Json(_json(signed_in))
    give(answer, secret, is_https=_is_https(request))
    return answer


async def get_session(api: ApiServices, request: Request) -> Response:
    """GET /console/session: who is signed in."""
    secret = session_of(request.headers)
    if secret is None:
        raise MissingTokenError
    try:
        return Json(_json(await api.sessions.find(secret)), headers={"Cache-Control": "no-store"})
    except WrongTokenError:
        raise InvalidTokenError from None


async def end_session(api: ApiServices, request: Request) -> Response:
    """DELETE /console/session: sign out."""
    check_same_origin(request.method, request.headers)
    secret = session_of(request.headers)
    if secret is not None:
        await api.sessions.end(secret)
    answer = Response(status_code=204)
    take_back(answer, is_https=_is_https(request))
    return answer


async def _shown(request: Request) -> str:
    """What a caller signs in with.

    Raises:
        MalformedBodyError: the body is no JSON object with a key.
        UploadTimeoutError: it does not arrive.
    """
    data = b""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for piece in request.stream():
                data += piece
                if len(data) > _MAX_BODY_BYTES:
                    raise MalformedBodyError("The body is too long for a key.")
    except TimeoutError:
        raise UploadTimeoutError("The body took too long to arrive.") from None
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = None
    key = body.get("key") if isinstance(body, dict) else None
    if not isinstance(key, str) or not key.strip().isascii():
        raise MalformedBodyError("The body must be a JSON object with 'key', a token or a key.")
    return key.strip()


def _is_https(request: Request) -> bool:
    """Whether the page came by HTTPS, also where a proxy ends that."""
    return request.headers.get("origin", str(request.url)).startswith("https:")


def _json(signed_in: SignedIn) -> dict[str, object]:
    principal = signed_in.principal
    return {
        "tenant_id": principal.tenant_id,
        "scopes": sorted(principal.scopes),
        "key_id": principal.key_id,
        "name": signed_in.name,
        "expires_at": signed_in.expires_at,
    }
