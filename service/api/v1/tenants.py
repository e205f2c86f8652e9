"""Tenants: listed, made, limited, erased."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from starlette.responses import Response

from service.api.render import Json
from service.api.services import ApiServices
from service.api.v1.cursors import decode_cursor, encode_cursor
from service.api.v1.models import NewTenant, Page, TenantEdit
from service.api.v1.operation import V1Call
from service.api.v1.rendering import receipt_json, tenant_json
from service.api.v1.requests import answer, once_of
from service.domain.errors import ForbiddenError, NotFoundError
from service.domain.people import TenantFacts, TenantLimits
from service.domain.types import TenantId

_LIST = "tenants"


async def list_tenants(api: ApiServices, call: V1Call) -> Response:
    """GET /tenants: the tenants that the key reaches."""
    query, own = call.queried(Page), call.principal.tenant_id
    if own is not None:
        return Json({"items": await _own(api, own), "next": None})
    behind = ""
    if query.cursor is not None:
        (value,) = decode_cursor(query.cursor, _LIST, [str])
        behind = cast(str, value)
    found = await api.tenants.page(behind, query.limit + 1)
    page = found[: query.limit]
    following = encode_cursor(_LIST, page[-1].tenant_id) if len(found) > len(page) else None
    return Json({"items": [tenant_json(tenant) for tenant in page], "next": following})


async def create_tenant(api: ApiServices, call: V1Call) -> Response:
    """POST /tenants: make a tenant."""
    body = call.sent(NewTenant)
    call.principal.require_tenant(body.id)
    limits = (body.max_images, body.max_faces, body.requests_per_minute)
    if call.principal.tenant_id is not None and limits != (None, None, None):
        raise _not_its_own()
    facts = TenantFacts(body.id, datetime.now(UTC), 0, 0, 0, *limits)
    made = await api.tenants.create(facts, once_of(call, _created))
    if isinstance(made, TenantFacts):
        tenant_id = TenantId(body.id)
        api.rates.forget(tenant_id)
        api.audit.write(call.principal, call.call.request_id, tenant_id, "tenant.create")
    return answer(made, _created)


async def get_tenant(api: ApiServices, call: V1Call) -> Response:
    """GET /tenants/{tenant_id}: counts and limits."""
    return Json(tenant_json(await api.tenants.tenant(call.tenant_id)))


async def change_tenant(api: ApiServices, call: V1Call) -> Response:
    """PATCH /tenants/{tenant_id}: change limits, by a key of all tenants."""
    if call.principal.tenant_id is not None:
        raise _not_its_own()
    body = call.sent(TenantEdit)
    limits = TenantLimits(**{name: getattr(body, name) for name in body.model_fields_set})
    facts = await api.tenants.limit(call.tenant_id, limits)
    api.rates.forget(call.tenant_id)
    call.record(api, "tenant.change")
    return Json(tenant_json(facts))


async def delete_tenant(api: ApiServices, call: V1Call) -> Response:
    """DELETE /tenants/{tenant_id}: erase all data of a tenant."""
    receipt = await api.curate.delete_tenant(call.tenant_id)
    api.rates.forget(call.tenant_id)
    call.record(api, "tenant.delete")
    return Json(receipt_json(receipt))


async def _own(api: ApiServices, tenant_id: TenantId) -> list[dict[str, object]]:
    """The tenant of a key, which may not be made yet."""
    try:
        return [tenant_json(await api.tenants.tenant(tenant_id))]
    except NotFoundError:
        return []


def _not_its_own() -> ForbiddenError:
    return ForbiddenError("The limits of a tenant are set by keys that reach all tenants.")


def _created(tenant: TenantFacts) -> Response:
    return Json(tenant_json(tenant), 201)
