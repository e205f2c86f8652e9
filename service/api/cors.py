"""Cross-origin requests: the web pages whose scripts may call the service from a browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.auth import TOKEN_HEADERS
from service.api.errors import OriginNotAllowedError, error_response
from service.api.pace import Pace
from service.api.params import PRIORITY_HEADER, TIMEOUT_HEADER
from service.telemetry import Metrics

# Answers a second to preflight requests, which have no token.
_PREFLIGHTS_PER_S: Final = 250
_METHODS: Final = ("GET", "POST", "PATCH", "DELETE")
_SENT: Final = (
    "Authorization", *TOKEN_HEADERS, TIMEOUT_HEADER, PRIORITY_HEADER, "traceparent",
    "Idempotency-Key", "If-Match", "If-None-Match", "Range", "If-Range", "Last-Event-ID",
)  # fmt: skip
_EXPOSED: Final = (
    "X-Request-Id", "Server-Timing", "Retry-After", "X-Model-Space", "X-Embedding-Shape",
    "ETag", "Idempotency-Replayed", "Content-Range", "Accept-Ranges",
)  # fmt: skip


class CrossOrigin:
    """ASGI middleware that answers preflight requests, and names the allowed origins to browsers.

    It is off while no origin is allowed. Cookies are never allowed: the token is in a header, which
    only the page itself can set.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, origins: Sequence[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._pace = Pace(per_s=_PREFLIGHTS_PER_S, burst=_PREFLIGHTS_PER_S)
        self.allow(origins)

    def allow(self, origins: Sequence[str]) -> None:
        """Allow these origins, and no others, from now on; "*" allows every origin."""
        self._front = _Preflight(self._app, self._metrics, origins) if origins else self._app
        self._is_on = bool(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._is_on and scope["type"] == "http" and scope["method"] == "OPTIONS":
            await self._pace.turn()
        await self._front(scope, receive, send)


class _Preflight(CORSMiddleware):
    """Starlette's middleware, whose refusals have the shape of all other errors."""

    def __init__(self, app: ASGIApp, metrics: Metrics, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=_EXPOSED,
        )
        self._metrics = metrics

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != 200:
            kept = {k: v for k, v in answer.headers.items() if not k.startswith("content-")}
            answer = error_response(OriginNotAllowedError(), kept)
            self._metrics.errors.labels(OriginNotAllowedError.code).inc()
        self._metrics.requests.labels("OPTIONS", "(preflight)", str(answer.status_code)).inc()
        return answer
