"""One connection: HTTP by uvicorn, with bounds on what comes before a request is served."""

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
from service.process.places import Places
from service.telemetry import Metrics

_logger = logging.getLogger(__name__)
_request_logger = logging.getLogger("facette.request")

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
MAX_PIPELINED = 16
# The parser is fed with no more at once, so that a head is noticed to be too large soon.
_PIECE_BYTES = 16 * 1024
# How long a caller may take none of the answers that wait for it.
_UNREAD_S = 60.0
# What a refused caller still sends is thrown away for this long: closing the connection at once
# would reset it, and lose the answer.
_LINGER_S = 2.0
_NONE = "(none)"


class ConnectionState(ServerState):
    """What all connections share.

    Args:
        operations: what serves the connections of the operations port, and `operations_places`
            those that there are for them.

    Attributes:
        ending: true once each connection should be told that it ends.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        places: Places,
        operations: ASGIApp,
        operations_places: Places,
        head_timeout_s: float,
    ) -> None:
        super().__init__()
        self.places = places
        self.operations = operations
        self.operations_places = operations_places
        self.head_timeout_s = head_timeout_s
        self.ending = False
        self._metrics = metrics
        self._refusals: Counter[str] = Counter()

    def note_refusal(self, reason: str) -> None:
        """Count a connection that was turned away or given up."""
        self._metrics.connection_refusals.labels(reason).inc()
        self._refusals[reason] += 1

    def log_refusals(self) -> None:
        """Say in one line which there were since the last time, if there were any."""
        if self._refusals:
            _logger.warning(
                "connections were refused or given up", extra={"fields": dict(self._refusals)}
            )
            self._refusals.clear()

    def note_answer(self, error: FacetteError, status: int, request_id: str) -> None:
        """Count and log an error answer as the boundary does those that it gives."""
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
    """Leaves the parser from one of its callbacks."""


class _Flow(FlowControl):
    """Reads no further while a request waits behind another one, or a refusal does."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if not self._connection.has_enough:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection that can be brought to its end between two requests, with bounds on both.

    A head has at most `MAX_HEAD_BYTES` and `MAX_HEADERS`. Behind a request that is not answered yet
    at most `MAX_PIPELINED` wait, and what they have in common is no more than one head may have.
    Trailers of a chunked body count with the head, and are dropped. What is beyond that, or is no
    HTTP, is answered with an error in the place where its answer would have stood, and the
    connection is closed.
    """

    server_state: ConnectionState

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._running: RequestResponseCycle | None = None
        self._last: RequestResponseCycle | None = None
        self._reading_head = False
        self._reading_body = False
        # Of the head that is read, and of those that wait.
        self._head_bytes = 0
        self._headers = 0
        # Fed since the parser last told anything: what it keeps, or skips.
        self._untold_bytes = 0
        self._broken: FacetteError | None = None
        self._refusal: FacetteError | None = None
        self._head_due = math.inf
        self._read_due = math.inf
        self._unread_bytes = 0
        self._close_due = math.inf

    @property
    def idle(self) -> bool:
        """Whether nothing of a request was read that is not answered yet."""
        return self._answered and not self._reading_head

    @property
    def has_enough(self) -> bool:
        """Whether nothing more should be read until what was read is answered."""
        return bool(self.pipeline) or (self._refusal is not None and not self._answered)

    @property
    def places(self) -> Places:
        """Those that this connection takes one of."""
        return self.server_state.places

    def end(self) -> None:
        """Make the answer to what was read last the connection's last one."""
        if not self.idle and not self._reading_head and self._refusal is None:
            self._announce_end()

    def give_up_head(self) -> None:
        """Refuse a request of which only a part of the head has come; the service stops."""
        if self._reading_head:
            self._refuse(StoppingError("The service is shutting down."), "stopping")

    def displace(self) -> None:
        """Go at once: another connection has the place."""
        self.transport.abort()

    def expire(self, now: float) -> None:
        """End what has waited too long; called again and again.

        Args:
            now: `time.monotonic()`.
        """
        if self.transport.is_closing() and self._read_due == math.inf:
            self._expect_reading(now)  # what was answered is still on its way
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

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        if self.places.take(self, self.client[0] if self.client else ""):
            self._head_due = time.monotonic() + self.server_state.head_timeout_s
            return
        # Without a place it has no time either: whether the answer arrives is left to chance.
        self._refusal = OverloadedError("Too many connections are open; try again shortly.")
        self.transport.write(self._render(self._refusal, uuid4().hex))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        running = self._running
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which would keep what a reset one holds
        self.places.leave(self)
        if running is not None and not running.response_complete:
            running.disconnected = True  # it is not the last one where others wait behind it
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
            self._expect(self.timeout_keep_alive)  # the rest of a body that nobody wanted
        elif self._answered:
            self._keep_alive()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading(time.monotonic())
        self.places.wait(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_due = math.inf
        if not self._answered:
            self.places.work(self)

    # What the parser calls

    def on_message_begin(self) -> None:
        self._untold_bytes = 0
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
        self._untold_bytes = 0
        former = self.cycle
        super().on_headers_complete()
        self._reading_head, self._reading_body = False, True
        self._head_due = math.inf
        if self.server_state.ending:
            if former is not None and former is self._last and not former.response_started:
                former.keep_alive = True  # this one was sent behind it, and is answered too
            self._announce_end()

    def on_body(self, body: bytes) -> None:
        self._untold_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._untold_bytes = 0
        self._reading_body = False
        if self._answered:
            self._head_due = math.inf
        super().on_message_complete()

    # What a request's cycle calls

    def on_response_complete(self) -> None:
        answered = self._running
        super().on_response_complete()
        if answered is not None:
            self._forget(answered)
        if self._answered:
            self.places.wait(self)
            self._send_refusal()
        elif not self.transport.is_closing():
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self.places.work(self)
        super()._start_asgi_task(cycle, app)

    def _forget(self, answered: RequestResponseCycle) -> None:
        """Let go of what was read for it: nobody asks for it again, and a connection idles long."""
        answered.body = bytearray()
        answered.scope = {}  # type: ignore[typeddict-item]
        if self.cycle is answered and not self._reading_head:
            self.scope, self.headers, self.url = answered.scope, [], b""

    @property
    def _answered(self) -> bool:
        """Whether every request whose head was read is answered, or nobody waits for its answer."""
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
        """Give the caller its time to take some of what is answered."""
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._read_due = now + _UNREAD_S

    def _give_up_unread(self, now: float) -> None:
        if self.transport.get_write_buffer_size() < self._unread_bytes:
            self._expect_reading(now)  # it reads, if slowly
            return
        self.server_state.note_refusal("unread")
        self.transport.abort()

    def _expect(self, seconds: float) -> None:
        """Give what has begun to come so long from now, unless it has its time already."""
        self._head_due = min(self._head_due, time.monotonic() + seconds)

    def _feed(self, piece: memoryview) -> None:
        while len(piece):
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                # It is not taken up: what follows is the next request.
                piece = piece[upgrade.args[0] :]
                continue
            except httptools.HttpParserError:
                error = self._broken or MalformedRequestError()
                self._refuse(error, _REASONS[type(error)])
                return
            break
        self._untold_bytes += len(piece)
        if self._head_bytes + self._untold_bytes > MAX_HEAD_BYTES + _PIECE_BYTES:
            error = self._excess()
            self._refuse(error, _REASONS[type(error)])

    def _count(self, size: int) -> None:
        """Count what the parser tells of a head."""
        self._untold_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or self._headers > MAX_HEADERS:
            self._stop_parsing(self._excess())

    def _excess(self) -> FacetteError:
        """The error of more bytes or headers than may be read now."""
        return _too_long() if self.pipeline else _too_large()

    def _stop_parsing(self, error: FacetteError) -> None:
        self._broken = error
        raise _Unacceptable

    def _refuse(self, error: FacetteError, reason: str) -> None:
        """Answer with an error once all that came before is answered, and read nothing more."""
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
        """Forget the request whose body is broken; False when its answer has begun, or was given.

        Then another answer would be taken for that to the next request.
        """
        self._reading_body = False
        broken = self.cycle
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
            return True
        begun = broken.response_started
        broken.disconnected = True
        broken.message_event.set()
        self.places.wait(self)
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
    def places(self) -> Places:
        """Others than the callers have, so that they keep no operator out."""
        return self.server_state.operations_places


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
        f"Behind a request that is not answered yet may wait {MAX_PIPELINED} more, with "
        f"{MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers in all their heads."
    )


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]
