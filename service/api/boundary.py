"""The middleware around every route: request id, body limit, errors, metrics and log line."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from secrets import token_hex
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.early_answer import answer_early
from service.api.errors import (
    MethodNotAllowedError,
    RouteNotFoundError,
    error_response,
    has_problems,
    routing_error,
)
from service.api.pace import AddressPaces
from service.domain.addresses import TrustedProxies, network_of
from service.domain.errors import (
    AccessError,
    BodyTooLargeError,
    DeadlineError,
    FacetteError,
    ForbiddenError,
    KeysUnavailableError,
    OverloadedError,
    RateLimitError,
    StoppingError,
    WithdrawnError,
    WrongTokenError,
)
from service.telemetry import Metrics, RequestSpan, Tracing

_logger = logging.getLogger("facette.request")

_UNMATCHED = "(none)"
_MAX_THROWN_AWAY_BYTES = 1 << 20
# Counted and logged, never sent: the client disconnected before its answer.
_CLIENT_GONE = 499
# Answers a second and address to requests without a valid token, each well below a millisecond of
# work.
_UNAUTHORISED_PER_S = 250
_UNAUTHORISED = (AccessError, MethodNotAllowedError, RouteNotFoundError)
# The same for requests with a wrong token, which somebody may be guessing.
_FAILED_PER_S = 10
_FAILED_BURST = 50
_FAILED = (WrongTokenError, KeysUnavailableError)

REQUEST_ID: Final = "facette.request_id"
"""Key of the ASGI scope: the id of the request, which its answer has in X-Request-Id."""
NETWORK: Final = "facette.network"
"""Key of the ASGI scope: the network address that limits of the client count; empty if unknown."""


class Boundary:
    """ASGI middleware around the router.

    Args:
        app: the router.
        lifespan: creates the context in which the service runs; it logs why it cannot start.
        max_body_bytes: limit on every body; one without an image has a lower limit, which is known
            once its first bytes have arrived.
        proxies: those whose X-Forwarded-For names the client.
        bodies: as many bodies of the largest size are taken together as the one body of a request
            of this method and path.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[None]],
        metrics: Metrics,
        max_body_bytes: int,
        proxies: TrustedProxies,
        tracing: Tracing = Tracing.off(),  # noqa: B008
        bodies: Callable[[str, str], int] = lambda method, path: 1,
    ) -> None:
        self._app = app
        self._lifespan = lifespan
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._tracing = tracing
        self._proxies = proxies
        self._bodies = bodies
        self._pace = AddressPaces(per_s=_UNAUTHORISED_PER_S, burst=_UNAUTHORISED_PER_S)
        self._pace_of_failed = AddressPaces(per_s=_FAILED_PER_S, burst=_FAILED_BURST)

    def limit_bodies(self, max_body_bytes: int) -> None:
        """Refuse longer bodies of requests that begin from now on."""
        self._max_body_bytes = max_body_bytes

    def trust(self, proxies: TrustedProxies) -> None:
        """Believe the X-Forwarded-For of these proxies alone from now on."""
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await run_lifespan(self._lifespan(), receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} is served here")
        scope["app"] = self  # makes the router raise where no route matches
        headers = Headers(scope=scope)
        scope[NETWORK] = network = self._network_of(scope, headers)
        bodies = self._bodies(scope["method"], scope["path"])
        exchange = _Exchange(scope, receive, send, bodies * self._max_body_bytes, network)
        scope[REQUEST_ID] = exchange.request_id
        with self._tracing.request(scope["method"], scope["path"], headers) as span:
            await self._serve(scope, exchange, span)

    def _network_of(self, scope: Scope, headers: Headers) -> str:
        if not (client := scope.get("client")):
            return ""
        host = str(client[0])
        if self._proxies:
            host = self._proxies.client_of(host, headers.getlist("x-forwarded-for"))
        return network_of(host)

    async def _serve(self, scope: Scope, exchange: _Exchange, span: RequestSpan) -> None:
        try:
            exchange.check_announced_length()
            await self._app(scope, exchange.receive, exchange.send)
        except WithdrawnError as error:
            exchange.note(_CLIENT_GONE, error.code)
        except FacetteError as error:
            await self._answer_error(exchange, error)
        except HTTPException as error:
            await self._answer_error(exchange, routing_error(error.status_code), error.headers)
        except ClientDisconnect:
            self._metrics.clients_gone.inc()
            exchange.note(_CLIENT_GONE, WithdrawnError.code)
        except asyncio.CancelledError:  # by a shutdown whose timeout has passed
            await self._answer_error(exchange, StoppingError("The service is shutting down."))
        except Exception as error:
            failure = FacetteError("unexpected")
            failure.__cause__ = error
            await self._answer_error(exchange, failure)
        finally:
            self._record(scope, exchange, span)

    async def _answer_error(
        self,
        exchange: _Exchange,
        error: FacetteError,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._metrics.errors.labels(error.code).inc()
        exchange.note(exchange.status, error.code)
        if isinstance(error, _FAILED):
            await self._pace_of_failed.turn(exchange.network)
        elif isinstance(error, _UNAUTHORISED) and not isinstance(error, ForbiddenError):
            await self._pace.turn(exchange.network)
        request_id = exchange.request_id if has_problems(exchange.path) else None
        response = error_response(error, headers, problem_of=request_id)
        if response.status_code == 500:
            _logger.error(
                "request failed",
                exc_info=error,
                extra={"fields": {"request_id": exchange.request_id}},
            )
        stays = isinstance(error, OverloadedError | RateLimitError | DeadlineError)
        await exchange.answer(response, stays=stays)

    def _record(self, scope: Scope, exchange: _Exchange, span: RequestSpan) -> None:
        route = scope.get("route")
        path = getattr(route, "path", _UNMATCHED)
        # Methods that no route takes need no token, and each would add series of its own.
        is_taken = route is not None and exchange.code != MethodNotAllowedError.code
        method = scope["method"] if is_taken else _UNMATCHED
        elapsed = exchange.elapsed()
        span.finish(
            "" if route is None else path, exchange.status, exchange.code, exchange.request_id
        )
        self._metrics.requests.labels(method, path, str(exchange.status)).inc()
        self._metrics.request_seconds.labels(method, path).observe(elapsed)
        if not _logger.isEnabledFor(logging.INFO):
            return
        fields = {
            "request_id": exchange.request_id,
            "method": scope["method"],
            "route": path,
            "status": exchange.status,
            "ms": f"{elapsed * 1e3:.1f}",
        }
        if exchange.code:
            fields["code"] = exchange.code
        _logger.info("request", extra={"fields": fields})


class _Exchange:
    """One request and its answer; counts the body as it arrives."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int, network: str
    ) -> None:
        self.started = time.perf_counter()
        self.request_id = token_hex(16)
        self.network = network
        self.status = 0
        self.code = ""
        self.body_complete = False
        self.path: str = scope["path"]
        self._headers = Headers(scope=scope)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._announced: float = math.inf
        self._received = 0
        self._answered = 0.0

    def note(self, status: int, code: str) -> None:
        """Take note of the outcome, for metrics and the log."""
        self.status, self.code = status, code

    def check_announced_length(self) -> None:
        """Check Content-Length before the body is read.

        Raises:
            BodyTooLargeError: the announced length is above the limit.
        """
        announced = self._headers.get("content-length")
        if announced is not None:
            self._announced = int(announced)
            self.body_complete = not self._announced
        elif "transfer-encoding" not in self._headers:
            self.body_complete = True
        if announced is not None and self._announced > self._max_body_bytes:
            raise BodyTooLargeError(self._max_body_bytes)

    async def receive(self) -> Message:
        """The next message.

        Raises:
            BodyTooLargeError: the body is longer than the limit.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._max_body_bytes:
                raise BodyTooLargeError(self._max_body_bytes)
            self.body_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a message; the head of the answer gets the request id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # No answer has one of its own, which Starlette would look for.
            own = (b"x-request-id", self.request_id.encode())
            message = {**message, "headers": [*message["headers"], own]}
        await self._send(message)

    async def answer(self, response: Response, *, stays: bool) -> None:
        """Send an error answer, unless an answer has begun.

        The rest of a refused body is not used. With `stays`, the connection stays open where
        little of the body is left, which the server discards: the client will retry. Otherwise the
        connection is closed, as `answer_early` does.
        """
        if self.status:
            return
        left = self._announced - self._received
        # A client that sent Expect: 100-continue may never send the body. Its next request would be
        # taken for the body.
        stays = stays and left <= _MAX_THROWN_AWAY_BYTES and "expect" not in self._headers
        if self.body_complete or stays:
            await response(self._scope, self._receive, self.send)
            return
        await answer_early(
            response,
            self._scope,
            self._receive,
            self.send,
            max_bytes=self._max_body_bytes,
            on_answered=self._note_answered,
        )

    def elapsed(self) -> float:
        """Seconds from the head of the request to the end of its answer, or to now."""
        return (self._answered or time.perf_counter()) - self.started

    def _note_answered(self) -> None:
        self._answered = time.perf_counter()


async def run_lifespan(
    running: AbstractAsyncContextManager[None], receive: Receive, send: Send
) -> None:
    """Enter `running` when the server starts, and leave it when the server stops.

    Args:
        running: raises where the service cannot start, after it has logged the reason.
    """
    await receive()
    try:
        await running.__aenter__()
    except Exception:
        await send({"type": "lifespan.startup.failed"})
        return
    await send({"type": "lifespan.startup.complete"})
    try:
        await receive()
    finally:
        await running.__aexit__(None, None, None)
    await send({"type": "lifespan.shutdown.complete"})
