"""Serves the operations of the contract: checks a request, reads it, and calls the handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from service.api.boundary import NETWORK
from service.api.intake import Intake
from service.api.limiter import Permit
from service.api.params import Call, parameters
from service.api.services import ApiServices
from service.api.v1.operation import BodyKind, BodyStream, Operation, V1Call
from service.api.v1.requests import check_ids, parse_query, read_json
from service.domain.acting import ACTING_KEY
from service.domain.errors import ParameterError
from service.domain.keys import Principal

_JSON_TYPES = ("application/json", "+json")


def bodies_of(operations: Sequence[Operation]) -> Callable[[str, str], int]:
    """Tells how many bodies of the largest size a request may have as one, by method and path."""
    longer = [
        (operation.method, compile_path(operation.path)[0], operation.parts)
        for operation in operations
        if operation.parts > 1
    ]

    def bodies(method: str, path: str) -> int:
        for of_method, pattern, parts in longer:
            if method == of_method and pattern.match(path):
                return parts
        return 1

    return bodies


async def serve(
    api: ApiServices, operation: Operation, principal: Principal, request: Request
) -> Response:
    """Serve a request of an authenticated caller.

    Scope and tenant are checked before anything of the request is read, and before the database is
    asked: what a key may not reach looks alike whether it exists or not.
    """
    principal.require(operation.scope)
    ids: Mapping[str, str] = request.path_params
    tenant = ids.get("tenant_id") or principal.tenant_id
    if "tenant_id" in ids:
        principal.require_tenant(ids["tenant_id"])
    check_ids(ids, request.scope["raw_path"])
    call = Call.of(request, principal, api.request_timeout_s)
    if tenant is not None:
        await api.rates.check(tenant)
    ACTING_KEY.set(principal.key_id)
    # The parts of a stream are given back while others arrive, and find room one by one.
    body_bytes = None if operation.body is BodyKind.STREAM else call.body_bytes
    with api.limiter.acquire(body_bytes, tenant, request.scope[NETWORK]) as permit:
        return await _handle(api, operation, call, permit, request)


async def _handle(
    api: ApiServices, operation: Operation, call: Call, permit: Permit, request: Request
) -> Response:
    headers, ids = request.headers, request.path_params
    network = request.scope[NETWORK]
    takes_json = operation.body is BodyKind.JSON or (
        operation.body is BodyKind.PHOTO_OR_JSON and _is_json(headers.get("content-type", ""))
    )
    query = None
    # The query of a photo may stand in its form.
    if takes_json or operation.body in (BodyKind.NONE, BodyKind.STREAM):
        if operation.query is not None:
            query = parse_query(operation.query, call.query)
        elif call.query:
            name = next(iter(call.query))
            raise ParameterError(name, f"There is no parameter '{name[:64]}'.")
    intake = Intake(request, permit, timeout_s=api.upload_timeout_s, max_bytes=api.max_body_bytes)
    if operation.body is BodyKind.NONE:
        return await operation.handler(
            api, V1Call(call, operation.path, network, headers, ids, query)
        )
    if operation.body is BodyKind.STREAM:
        stream = BodyStream(request, permit)
        streamed = V1Call(call, operation.path, network, headers, ids, query, stream=stream)
        return await operation.handler(api, streamed)
    if takes_json:
        assert operation.takes is not None  # the operation says so
        body, raw = await read_json(operation.takes, intake, headers)
        made = V1Call(call, operation.path, network, headers, ids, query, body, raw_body=raw)
        return await operation.handler(api, made)
    async with parameters(request, call, intake) as given:
        if operation.query is not None:
            query = parse_query(operation.query, given.texts(except_for="image"))
        return await operation.handler(
            api, V1Call(call, operation.path, network, headers, ids, query, form=given)
        )


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.endswith(_JSON_TYPES)
