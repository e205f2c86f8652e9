"""Keys: listed, made, rotated, revoked. The secret of a key is given once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

from starlette.responses import Response

from service.api.render import Json
from service.api.services import ApiServices
from service.api.v1.cursors import decode_cursor, encode_cursor
from service.api.v1.models import KeysPage, NewKeyRequest, RotateRequest
from service.api.v1.operation import V1Call
from service.api.v1.requests import idempotency_key
from service.domain.keys import AccessKey, IssuedKey, KeyId, KeyPosition, NewKey, Scope
from service.domain.types import TenantId


async def list_keys(api: ApiServices, call: V1Call) -> Response:
    """GET /keys: the keys that the caller may manage, newest first."""
    query = call.queried(KeysPage)
    tenant = None if query.tenant_id is None else TenantId(query.tenant_id)
    of_list = f"keys {call.principal.tenant_id} {tenant}"
    after = None
    if query.cursor is not None:
        at, key_id = decode_cursor(query.cursor, of_list, [datetime, str])
        after = KeyPosition(cast(datetime, at), KeyId(cast(str, key_id)))
    page = await api.keys.list_keys(
        call.principal, limit=query.limit, after=after, tenant_id=tenant
    )
    following = None
    if page.following is not None:
        following = encode_cursor(of_list, page.following.created_at, page.following.key_id)
    return Json({"items": [_key(key) for key in page.keys], "next": following})


async def create_key(api: ApiServices, call: V1Call) -> Response:
    """POST /keys: make a key."""
    body = call.sent(NewKeyRequest)
    tenant = None if body.tenant_id is None else TenantId(body.tenant_id)
    scopes = frozenset(Scope(scope) for scope in body.scopes)
    issued = await api.keys.create(
        call.principal,
        NewKey(body.name, scopes, tenant, body.expires_at),
        idempotency_key=idempotency_key(call),
    )
    api.audit.write(
        call.principal, call.call.request_id, tenant, "key.create", made_key_id=issued.key.key_id
    )
    return Json(_issued(issued), 201, headers={"Cache-Control": "no-store"})


async def get_key(api: ApiServices, call: V1Call) -> Response:
    """GET /keys/{key_id}: one key, without its secret."""
    return Json(_key(await api.keys.get(call.principal, KeyId(call.ids["key_id"]))))


async def revoke_key(api: ApiServices, call: V1Call) -> Response:
    """DELETE /keys/{key_id}: make a key invalid for good."""
    key = await api.keys.revoke(call.principal, KeyId(call.ids["key_id"]))
    api.audit.write(
        call.principal,
        call.call.request_id,
        key.tenant_id,
        "key.revoke",
        revoked_key_id=key.key_id,
    )
    return Json(_key(key))


async def rotate_key(api: ApiServices, call: V1Call) -> Response:
    """POST /keys/{key_id}/rotate: give a key a new secret."""
    keep = timedelta(seconds=call.sent(RotateRequest).keep_former_s)
    issued = await api.keys.rotate(
        call.principal,
        KeyId(call.ids["key_id"]),
        keep_former=keep,
        idempotency_key=idempotency_key(call),
    )
    api.audit.write(
        call.principal,
        call.call.request_id,
        issued.key.tenant_id,
        "key.rotate",
        rotated_key_id=issued.key.key_id,
    )
    return Json(_issued(issued), headers={"Cache-Control": "no-store"})


def _key(key: AccessKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "name": key.name,
        "scopes": sorted(key.scopes, key=list(Scope).index),
        "tenant_id": key.tenant_id,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }


def _issued(issued: IssuedKey) -> dict[str, Any]:
    return {**_key(issued.key), "key": issued.text}
