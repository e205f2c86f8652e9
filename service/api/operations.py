"""What operators and their tools ask: alive, ready, metrics. None of it needs a token."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.api.render import Json
from service.api.services import ApiServices


async def healthz(api: ApiServices) -> Response:
    """GET /healthz: the process answers."""
    return Json({"status": "alive"})


async def readyz(api: ApiServices) -> Response:
    """GET /readyz: the models are warm (or nothing is served yet) and the database answers."""
    await api.ready()
    return Json({"status": "ready"})


async def metrics(api: ApiServices) -> Response:
    """GET /metrics: Prometheus's text format."""
    return Response(await api.exposition(), media_type=CONTENT_TYPE_LATEST)
