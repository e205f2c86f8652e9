"""The routes for operators and their tools: liveness, readiness, metrics. None needs a token."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.api.render import Json
from service.api.services import ApiServices


async def healthz(api: ApiServices) -> Response:
    """GET /healthz: answers while the process runs."""
    return Json({"status": "alive"})


async def readyz(api: ApiServices) -> Response:
    """GET /readyz: the service can serve requests.

    The models are warm, the database answers, no background task is dead, and the service does not
    stop.
    """
    await api.ready()
    return Json({"status": "ready"})


async def metrics(api: ApiServices) -> Response:
    """GET /metrics: all metrics in the text format of Prometheus."""
    return Response(await api.exposition(), media_type=CONTENT_TYPE_LATEST)
