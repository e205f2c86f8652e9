"""The list of all routes, and the steps that authenticated routes have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.api.boundary import NETWORK
from service.api.console.pages import get_file, get_page
from service.api.console.sessions import end_session, get_session, open_session
from service.api.contract.pages import PAGES
from service.api.flat import FLAT_OPERATIONS, FlatOperation
from service.api.intake import Intake
from service.api.open import OpenHandler, OpenOperation
from service.api.operations import PROBES
from service.api.pace import Pace
from service.api.params import Call, parameters
from service.api.services import ApiServices, Lease
from service.api.v1.operation import Operation
from service.api.v1.operations import OPERATIONS
from service.api.v1.serving import serve
from service.domain.acting import ACTING_KEY
from service.domain.errors import InvalidTokenError, WrongTokenError
from service.domain.keys import Principal
from service.domain.names import is_name

# A wrong token is answered with 401 below this path, and with 403 on the legacy routes.
_PREFIX_OF_V1 = "/v1/"
# Answers a second on the routes that ask for no token.
_OPEN_PER_S = 250
# The console is some thirty files.
_CONSOLE_PER_S = 1000

_Described = TypeVar("_Described", FlatOperation, Operation)


def build_routes(lease: Lease) -> list[Route]:
    """All routes; each request leases the services, which a reload may replace meanwhile."""
    return [*caller_routes(lease), *operations_routes(lease)]


def caller_routes(lease: Lease) -> list[Route]:
    """The routes for callers: the operations, which need a token, and the pages on them.

    Every one is in the contract, which is made of the same lists.
    """
    # The router tries them in this order.
    return [
        *(
            Route(path, _Endpoint(partial(_guarded, lease, methods)), methods=list(methods))
            for path, methods in _by_path(FLAT_OPERATIONS).items()
        ),
        *(
            Route(path, _Endpoint(partial(_operated, lease, methods)), methods=list(methods))
            for path, methods in _by_path(OPERATIONS).items()
        ),
        *_open_routes(lease, PAGES),
    ]


def operations_routes(lease: Lease) -> list[Route]:
    """The routes for operators, which need no token."""
    return _open_routes(lease, PROBES)


def console_routes(lease: Lease) -> list[Route]:
    """The pages of the console and their sessions, which are no part of the contract."""
    pace = Pace(per_s=_CONSOLE_PER_S, burst=_CONSOLE_PER_S)
    served: list[tuple[str, OpenHandler, str]] = [
        ("/console/session", open_session, "POST"),
        ("/console/session", get_session, "GET"),
        ("/console/session", end_session, "DELETE"),
        ("/console/static/{path:path}", get_file, "GET"),
        ("/console", get_page, "GET"),
        ("/console/{page:path}", get_page, "GET"),
    ]
    return [
        Route(path, _Endpoint(partial(_open, lease, pace, handler)), methods=[method])
        for path, handler, method in served
    ]


def _open_routes(lease: Lease, operations: Sequence[OpenOperation]) -> list[Route]:
    pace = Pace(per_s=_OPEN_PER_S, burst=_OPEN_PER_S)
    return [
        Route(each.path, _Endpoint(partial(_open, lease, pace, each.handler)), methods=["GET"])
        for each in operations
    ]


def _by_path(operations: Sequence[_Described]) -> dict[str, dict[str, _Described]]:
    """Operations by path and method; the paths in their order."""
    paths: dict[str, dict[str, _Described]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return paths


class _Endpoint:
    """The ASGI application of a route.

    Starlette would wrap a function in a layer that handles exceptions, which the boundary does.
    """

    def __init__(self, respond: Callable[[Request], Awaitable[Response]]) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive, send))
        await response(scope, receive, send)


async def _guarded(
    lease: Lease, operations: Mapping[str, FlatOperation], request: Request
) -> Response:
    """Check the token, the scope and the tenant, and take a permit, before the body is read."""
    with lease() as api:
        principal = await _authenticated(api, request)
        operation = operations["GET" if request.method == "HEAD" else request.method]
        principal.require(operation.scope)
        call = Call.of(request, principal, api.request_timeout_s)
        if call.tenant is not None:
            principal.require_tenant(call.tenant)
        address = request.scope[NETWORK]
        tenant = call.tenant or principal.tenant_id
        counted = None
        if tenant is not None and is_name(tenant):
            await api.rates.check(counted := tenant)
        with api.limiter.acquire(call.body_bytes, tenant, address) as permit:
            intake = Intake(
                request, permit, timeout_s=api.upload_timeout_s, max_bytes=api.max_body_bytes
            )
            async with parameters(request, call, intake) as given:
                if served := given.tenant_served():
                    permit.assign_to(served)
                    if served != counted:  # the body names it
                        await api.rates.check(served)
                ACTING_KEY.set(principal.key_id)
                return await operation.handler(api, given)


async def _operated(
    lease: Lease, operations: Mapping[str, Operation], request: Request
) -> Response:
    """Serve an operation of the contract."""
    with lease() as api:
        principal = await _authenticated(api, request)
        operation = operations["GET" if request.method == "HEAD" else request.method]
        return await serve(api, operation, principal, request)


async def _authenticated(api: ApiServices, request: Request) -> Principal:
    """The caller of a request.

    Raises:
        AccessError: the token is missing or wrong.
        UnavailableError: keys cannot be checked at the moment.
    """
    is_v1 = request.scope["path"].startswith(_PREFIX_OF_V1)
    try:
        return await api.guard.authenticate(
            request.headers, request.scope[NETWORK], method=request.method if is_v1 else None
        )
    except WrongTokenError:
        if is_v1:
            raise InvalidTokenError from None
        raise


async def _open(lease: Lease, pace: Pace, handler: OpenHandler, request: Request) -> Response:
    await pace.turn()
    with lease() as api:
        return await handler(api, request)
