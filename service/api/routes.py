"""The one visible list of routes, and what every authenticated route has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api import legacy, ops
from service.api.auth import TokenGuard
from service.api.boundary import PermitOffice
from service.api.params import Parameters, parameters
from service.telemetry import Metrics
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto


@dataclass(frozen=True, slots=True)
class ApiServices:
    """What handlers reach."""

    ingest: IngestPhoto
    curate: Curate
    guard: TokenGuard
    permits: PermitOffice
    metrics: Metrics
    upload_timeout_s: float
    ready: Callable[[], Awaitable[None]]


Handler = Callable[[ApiServices, Parameters], Awaitable[Response]]
OpenHandler = Callable[[ApiServices], Awaitable[Response]]


def build_routes(services: Callable[[], ApiServices]) -> list[Route]:
    """Every route; `services` is asked at each request, since they are made at start-up."""

    def guarded(path: str, **handlers: Handler) -> Route:
        return Route(path, partial(_guarded, services, handlers), methods=list(handlers))

    def open_to_all(path: str, handler: OpenHandler) -> Route:
        return Route(path, partial(_open, services, handler), methods=["GET"])

    return [
        guarded("/insert-image", POST=legacy.insert_image),
        guarded("/image", GET=legacy.get_image, DELETE=legacy.delete_image),
        guarded("/face", GET=legacy.get_face, DELETE=legacy.delete_face),
        guarded("/faces", GET=legacy.get_faces),
        guarded("/cluster", GET=legacy.get_cluster, DELETE=legacy.delete_cluster),
        guarded("/tenant", DELETE=legacy.delete_tenant),
        guarded("/review-pending", GET=legacy.get_review, DELETE=legacy.delete_review),
        guarded("/review-pending-list", GET=legacy.list_reviews),
        guarded("/update-face-cluster", POST=legacy.update_face_cluster),
        open_to_all("/healthz", ops.healthz),
        open_to_all("/readyz", ops.readyz),
        open_to_all("/metrics", ops.metrics),
    ]


async def _guarded(
    services: Callable[[], ApiServices], handlers: Mapping[str, Handler], request: Request
) -> Response:
    """Token and permit first; only then is the body read."""
    api = services()
    api.guard.check(request.headers)
    handler = handlers["GET" if request.method == "HEAD" else request.method]
    with api.permits:
        async with parameters(request, api.upload_timeout_s) as given:
            return await handler(api, given)


async def _open(
    services: Callable[[], ApiServices], handler: OpenHandler, request: Request
) -> Response:
    return await handler(services())
