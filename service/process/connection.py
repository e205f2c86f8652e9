"""One connection: uvicorn's HTTP protocol, with limits on request heads, pipelining and time."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httptools
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.api.errors import (
    HeadTimeoutError,
    HeadTooLargeError,
    MalformedRequestError,
    PipelineTooLongError,
    error_response,
    status_of,
)
from service.domain.errors import FacetteError, OverloadedError, StoppingError
from service.process.connection_limiter import ConnectionLimiter
from service.telemetry import Metrics

_logger = logging.getLogger(__name__)
_request_logger = logging.getLogger("facette.request")

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
MAX_PIPELINED = 16
# The parser gets at most this much at once, so that the limit on a head holds closely.
_PIECE_BYTES = 16 * 1024
# A client that reads none of its waiting answers for this long is disconnected.
_UNREAD_S = 60.0
# After a refusal, input is discarded for this long: closing at once would reset the connection,
# and the client would lose the answer.
_LINGER_S = 2.0
_NONE = "(none)"


class ConnectionState(ServerState):
    """State that all connections share.

    Args:
        limiter: gives slots to the connections of the main port.
        operations: ASGI application of the operations port.
        operations_limiter: gives slots to the connections of the operations port.
        head_timeout_s: time that a request head may take to arrive.

    Attributes:
        ending: whether each response announces that its connection ends.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        limiter: ConnectionLimiter,
        operations: ASGIApp,
        operations_limiter: ConnectionLimiter,
        head_timeout_s: float,
    ) -> None:
        super().__init__()
        self.limiter = limiter
        self.operations = operations
        self.operations_limiter = operations_limiter
        self.head_timeout_s = head_timeout_s
        self.ending = False
        self._metrics = metrics
        self._refusals: Counter[str] = Counter()

    def announce_end(self) -> None:
        """Announce in each response from now on that its connection ends."""
        self.ending = True

    def note_refusal(self, reason: str) -> None:
        """Count a connection or a request that was refused, or a connection that was closed."""
        self._metrics.connection_refusals.labels(reason).inc()
        self._refusals[reason] += 1

    def log_refusals(self) -> None:
        """Log the refusals since the last call in one line, if there were any."""
        if self._refusals:
            _logger.warning(
                "connections were refused or given up", extra={"fields": dict(self._refusals)}
            )
            self._refusals.clear()

    def note_answer(self, error: FacetteError, status: int, request_id: str) -> None:
        """Count and log an error answer in the same way as the boundary does."""
        self._metrics.errors.labels(error.code).inc()
        self._metrics.requests.labels(_NONE, _NONE, str(status)).inc()
        fields = {
            "request_id": request_id,
            "method": _NONE,
            "route": _NONE,
            "status": status,
            "code": error.code,
        }
        _request_logger.info("request", extra={"fields": fields})


class _Unacceptable(Exception):  # noqa: N818
    """Aborts the parser from one of its callbacks."""


class _Flow(FlowControl):
    """Pauses reading while a pipelined request or a refusal waits for earlier answers."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if not self._connection.has_enough:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection with limits, which ends between two requests.

    A request head has at most `MAX_HEAD_BYTES` bytes and `MAX_HEADERS` headers. At most
    `MAX_PIPELINED` requests wait behind the one in progress, and their heads together have the
    same limits as one head. Trailers of a chunked body count as part of the head, and are dropped.

    A request beyond a limit, and input that is not HTTP, get an error answer after the answers to
    all earlier requests. Then the connection is closed.
    """

    server_state: ConnectionState

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._running: RequestResponseCycle | None = None
        self._last: RequestResponseCycle | None = None
        self._reading_head = False
        self._reading_body = False
        # Totals of the head that is read and of the heads of waiting requests.
        self._head_bytes = 0
        self._headers = 0
        # Bytes fed since the parser's last callback: it buffers or skips them.
        self._unreported_bytes = 0
        self._broken: FacetteError | None = None
        self._refusal: FacetteError | None = None
        self._head_due = math.inf
        self._read_due = math.inf
        self._unread_bytes = 0
        self._close_due = math.inf

    @property
    def idle(self) -> bool:
        """Whether all input was answered, and no further request has begun to arrive."""
        return self._answered and not self._reading_head

    @property
    def has_enough(self) -> bool:
        """Whether reading should pause until earlier requests are answered."""
        return bool(self.pipeline) or (self._refusal is not None and not self._answered)

    @property
    def limiter(self) -> ConnectionLimiter:
        """The limiter that this connection gets its slot from."""
        return self.server_state.limiter

    def end(self) -> None:
        """Close the connection after the answer to the last request that was read."""
        if not self.idle and not self._reading_head and self._refusal is None:
            self._announce_end()

    def give_up_head(self) -> None:
        """Refuse a request whose head is incomplete, because the service stops."""
        if self._reading_head:
            self._refuse(StoppingError("The service is shutting down."), "stopping")

    def evict(self) -> None:
        """Close at once: another connection gets the slot."""
        self.transport.abort()

    def expire(self, now: float) -> None:
        """Close or refuse where a time limit has passed; called periodically.

        Args:
            now: `time.monotonic()`.
        """
        if self.transport.is_closing() and self._read_due == math.inf:
            self._expect_reading(now)  # the answer is not sent completely yet
        if now >= self._read_due:
            self._give_up_unread(now)
        elif self.transport.is_closing():
            return
        elif now >= self._close_due:
            self.transport.close()
        elif now >= self._head_due:
            self._head_due = math.inf
            if self._reading_head:
                self._refuse(HeadTimeoutError(), "head_timeout")
            else:
                self.server_state.note_refusal("silent")
                self.transport.close()

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        if self.limiter.acquire(self, self.client[0] if self.client else ""):
            self._head_due = time.monotonic() + self.server_state.head_timeout_s
            return
        # Without a slot, nothing waits for the answer to arrive: the connection may be reset first.
        self._refusal = OverloadedError("Too many connections are open; try again shortly.")
        self.transport.write(self._render(self._refusal, uuid4().hex))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        running = self._running
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # the timer would keep a reset connection in memory
        self.limiter.release(self)
        if running is not None and not running.response_complete:
            running.disconnected = True  # uvicorn tells the newest request alone
            running.message_event.set()
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        for piece in _pieces(data):
            if self._refusal is not None:
                return
            self._feed(piece)
        if self._refusal is not None:
            return
        if self._reading_head:
            self._expect(self.server_state.head_timeout_s)
        elif self._answered and self._reading_body:
            self._expect(self.timeout_keep_alive)  # the rest of a body that was answered early
        elif self._answered:
            self._keep_alive()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading(time.monotonic())
        self.limiter.mark_idle(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_due = math.inf
        if not self._answered:
            self.limiter.mark_busy(self)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        self._unreported_bytes = 0
        if not self.pipeline:
            self._head_bytes = self._headers = 0
        elif len(self.pipeline) >= MAX_PIPELINED:
            self._stop_parsing(_too_long())
        super().on_message_begin()
        self._reading_head = True

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._reading_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unreported_bytes = 0
        former = self.cycle
        super().on_headers_complete()
        self._reading_head, self._reading_body = False, True
        self._head_due = math.inf
        if self.server_state.ending:
            if former is not None and former is self._last and not former.response_started:
                former.keep_alive = True  # the request just read is answered too
            self._announce_end()

    def on_body(self, body: bytes) -> None:
        self._unreported_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unreported_bytes = 0
        self._reading_body = False
        if self._answered:
            self._head_due = math.inf
        super().on_message_complete()

    # Callbacks of a request's cycle

    def on_response_complete(self) -> None:
        answered = self._running
        super().on_response_complete()
        if answered is not None:
            self._forget(answered)
        if self._answered:
            self.limiter.mark_idle(self)
            self._send_refusal()
        elif not self.transport.is_closing():
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self.limiter.mark_busy(self)
        super()._start_asgi_task(cycle, app)

    def _forget(self, answered: RequestResponseCycle) -> None:
        """Free the input of an answered request: the connection may stay idle for long."""
        answered.body = bytearray()
        answered.scope = {}  # type: ignore[typeddict-item]
        if self.cycle is answered and not self._reading_head:
            self.scope, self.headers, self.url = answered.scope, [], b""

    @property
    def _answered(self) -> bool:
        """Whether every request that was read is answered, or its client has gone."""
        running = self._running
        over = running is None or running.response_complete or running.disconnected
        return over and not self.pipeline

    def _announce_end(self) -> None:
        if self.cycle.keep_alive:
            self.cycle.keep_alive = False
            self._last = self.cycle

    def _keep_alive(self) -> None:
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _expect_reading(self, now: float) -> None:
        """Begin the time in which the client must read some of its answers."""
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._read_due = now + _UNREAD_S

    def _give_up_unread(self, now: float) -> None:
        if self.transport.get_write_buffer_size() < self._unread_bytes:
            self._expect_reading(now)  # the client reads, but slowly
            return
        self.server_state.note_refusal("unread")
        self.transport.abort()

    def _expect(self, seconds: float) -> None:
        """Set the deadline of the input that has begun to arrive, unless an earlier one is set."""
        self._head_due = min(self._head_due, time.monotonic() + seconds)

    def _feed(self, piece: memoryview) -> None:
        while len(piece):
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                # Upgrades are ignored: the rest of the input is the next request.
                piece = piece[upgrade.args[0] :]
                continue
            except httptools.HttpParserError:
                error = self._broken or MalformedRequestError()
                self._refuse(error, _REASONS[type(error)])
                return
            break
        self._unreported_bytes += len(piece)
        if self._head_bytes + self._unreported_bytes > MAX_HEAD_BYTES + _PIECE_BYTES:
            error = self._excess()
            self._refuse(error, _REASONS[type(error)])

    def _count(self, size: int) -> None:
        """Count bytes that the parser reports of a head."""
        self._unreported_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or self._headers > MAX_HEADERS:
            self._stop_parsing(self._excess())

    def _excess(self) -> FacetteError:
        """The error for too many bytes or headers."""
        return _too_long() if self.pipeline else _too_large()

    def _stop_parsing(self, error: FacetteError) -> None:
        self._broken = error
        raise _Unacceptable

    def _refuse(self, error: FacetteError, reason: str) -> None:
        """Answer with an error after the answers to all earlier requests; read nothing more."""
        self.server_state.note_refusal(reason)
        self._refusal = error
        self._head_due = math.inf
        self._reading_head = False
        if self._reading_body and not self._drop_request():
            self.transport.close()
        elif self._answered:
            self._send_refusal()
        else:
            self.flow.pause_reading()

    def _drop_request(self) -> bool:
        """Drop the request whose body is broken; returns whether it can still be answered.

        It cannot once its answer has begun: the client would take a second answer for the answer
        to its next request.
        """
        self._reading_body = False
        broken = self.cycle
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
            return True
        begun = broken.response_started
        broken.disconnected = True
        broken.message_event.set()
        self.limiter.mark_idle(self)
        return not begun

    def _send_refusal(self) -> None:
        if self._refusal is None or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        request_id = uuid4().hex
        self.transport.write(self._render(self._refusal, request_id))
        self.transport.write_eof()
        self._close_due = time.monotonic() + _LINGER_S
        self.flow.resume_reading()
        self.server_state.note_answer(self._refusal, status_of(self._refusal), request_id)

    def _render(self, error: FacetteError, request_id: str) -> bytes:
        response = error_response(error)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        status = HTTPStatus(response.status_code)
        lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
        lines += [b"%s: %s" % header for header in headers]
        return b"\r\n".join([*lines, b"", bytes(response.body)])


class OperationsConnection(Connection):
    """A connection of the operations port."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = self.server_state.operations

    @property
    def limiter(self) -> ConnectionLimiter:
        """Slots of its own, so that callers on the main port keep no operator out."""
        return self.server_state.operations_limiter


_REASONS: dict[type[FacetteError], str] = {
    MalformedRequestError: "malformed",
    HeadTooLargeError: "head_too_large",
    PipelineTooLongError: "pipeline",
}


def _too_large() -> FacetteError:
    return HeadTooLargeError(
        f"The head of a request may have {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers."
    )


def _too_long() -> FacetteError:
    return PipelineTooLongError(
        f"At most {MAX_PIPELINED} requests may wait behind one that is not answered yet, and all "
        f"their heads together may have {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers."
    )


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]
