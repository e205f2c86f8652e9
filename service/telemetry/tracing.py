"""OpenTelemetry traces: a span for each request and one for each of its stages, when configured."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Final


class RequestSpan:
    """The span of one request. This one, of a request that is not traced, records nothing."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty where there is no trace."""
        return ""

    def finish(self, route: str, status: int, code: str = "", request_id: str = "") -> None:
        """Say what the request was, once that is known.

        Args:
            route: the path's pattern; empty where no route took the request.
            status: of the answer; 0 where there was none.
            code: the error's stable code.
            request_id: as told to the caller.
        """

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Record a block as a child."""
        return _UNRECORDED


_UNRECORDED: Final = nullcontext()
_NO_REQUEST: Final = RequestSpan()
# The span of the request that the running task works for.
current_request: ContextVar[RequestSpan] = ContextVar("current_request", default=_NO_REQUEST)


class Tracing:
    """Begins the spans of requests. This one is off: it costs a call."""

    @staticmethod
    def off() -> Tracing:
        """No traces."""
        return Tracing()

    def request(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[RequestSpan]:
        """A context in which one request is served.

        Args:
            headers: of the request, whatever their case; a W3C traceparent is continued.
        """
        return nullcontext(_NO_REQUEST)

    def close(self) -> None:
        """Send what is left, for some ten seconds at most where nobody takes it. It blocks."""
