"""The routes for operators and their tools: liveness, readiness, metrics. None needs a token."""

from __future__ import annotations

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from service.api.flat_models import ProbeAnswer
from service.api.open import OpenOperation
from service.api.render import Json
from service.api.services import ApiServices
from service.domain.errors import UnavailableError


async def healthz(_api: ApiServices, _request: Request) -> Response:
    """GET /healthz: answers while the process runs."""
    return Json({"status": "alive"})


async def readyz(api: ApiServices, _request: Request) -> Response:
    """GET /readyz: the service can serve requests.

    The models are warm, the database answers, no background task is dead, and the service does not
    stop.
    """
    await api.ready()
    return Json({"status": "ready"})


async def metrics(api: ApiServices, _request: Request) -> Response:
    """GET /metrics: all metrics in the text format of Prometheus."""
    return Response(await api.exposition(), media_type=CONTENT_TYPE_LATEST)


PROBES: Final[tuple[OpenOperation, ...]] = (
    OpenOperation(
        "/healthz", healthz, "getHealth", "operations",
        "200 while the process lives", (ProbeAnswer,),
    ),
    OpenOperation(
        "/readyz", readyz, "getReadiness", "operations",
        "200 while requests can be served", (ProbeAnswer,), errors=(UnavailableError,),
    ),
    OpenOperation(
        "/metrics", metrics, "getMetrics", "operations",
        "All metrics, in the text format of Prometheus", ("text/plain",),
    ),
)  # fmt: skip
"""The operations, as the router and the contract take them."""
