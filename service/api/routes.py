"""The list of all routes, and the steps that authenticated routes have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.api import legacy, v1
from service.api import operations as ops
from service.api.intake import Intake
from service.api.pace import Pace
from service.api.params import Call, Parameters, parameters
from service.api.services import ApiServices, Lease
from service.domain.addresses import network_of

# Answers a second on the routes that ask for no token.
_OPEN_PER_S = 250

Handler = Callable[[ApiServices, Parameters], Awaitable[Response]]
OpenHandler = Callable[[ApiServices], Awaitable[Response]]


def build_routes(lease: Lease) -> list[Route]:
    """All routes; each request leases the services, which a reload may replace meanwhile."""
    return [*caller_routes(lease), *operations_routes(lease)]


def caller_routes(lease: Lease) -> list[Route]:
    """The routes that need the token."""

    def guarded(path: str, **handlers: Handler) -> Route:
        return Route(path, _Endpoint(partial(_guarded, lease, handlers)), methods=list(handlers))

    # The router tries them in this order.
    return [
        guarded("/v1/embed", POST=v1.embed),
        guarded("/v1/detect", POST=v1.detect),
        guarded("/v1/merge-clusters", POST=v1.merge_clusters),
        guarded("/insert-image", POST=legacy.insert_image),
        guarded("/image", GET=legacy.get_image, DELETE=legacy.delete_image),
        guarded("/face", GET=legacy.get_face, DELETE=legacy.delete_face),
        guarded("/faces", GET=legacy.get_faces),
        guarded("/cluster", GET=legacy.get_cluster, DELETE=legacy.delete_cluster),
        guarded("/tenant", DELETE=legacy.delete_tenant),
        guarded("/review-pending", GET=legacy.get_review, DELETE=legacy.delete_review),
        guarded("/review-pending-list", GET=legacy.list_reviews),
        guarded("/update-face-cluster", POST=legacy.update_face_cluster),
    ]


def operations_routes(lease: Lease) -> list[Route]:
    """The routes that need no token."""

    pace = Pace(per_s=_OPEN_PER_S, burst=_OPEN_PER_S)

    def open_to_all(path: str, handler: OpenHandler) -> Route:
        return Route(path, _Endpoint(partial(_open, lease, pace, handler)), methods=["GET"])

    return [
        open_to_all("/healthz", ops.healthz),
        open_to_all("/readyz", ops.readyz),
        open_to_all("/metrics", ops.metrics),
    ]


class _Endpoint:
    """The ASGI application of a route.

    Starlette would wrap a function in a layer that handles exceptions, which the boundary does.
    """

    def __init__(self, respond: Callable[[Request], Awaitable[Response]]) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive, send))
        await response(scope, receive, send)


async def _guarded(lease: Lease, handlers: Mapping[str, Handler], request: Request) -> Response:
    """Check the token and take a permit before the body is read."""
    with lease() as api:
        api.guard.check(request.headers)
        handler = handlers["GET" if request.method == "HEAD" else request.method]
        call = Call.of(request, api.request_timeout_s)
        address = network_of(request.client.host) if request.client else ""
        with api.limiter.acquire(call.body_bytes, call.tenant, address) as permit:
            intake = Intake(
                request, permit, timeout_s=api.upload_timeout_s, max_bytes=api.max_body_bytes
            )
            async with parameters(request, call, intake) as given:
                if tenant := given.optional("tenant_id"):
                    permit.assign_to(tenant)
                return await handler(api, given)


async def _open(lease: Lease, pace: Pace, handler: OpenHandler, request: Request) -> Response:
    await pace.turn()
    with lease() as api:
        return await handler(api)
