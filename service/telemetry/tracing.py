"""Traces: a span for each request, with a child for each of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Final


class RequestSpan:
    """The span of one request. This class is the span of an untraced one, and records nothing."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty where there is no trace."""
        return ""

    def finish(self, route: str, status: int, code: str = "", request_id: str = "") -> None:
        """Record the outcome of the request.

        Args:
            route: pattern of the path; empty where no route matched.
            status: HTTP status; 0 where there was no answer.
            code: error code; empty where there was no error.
            request_id: value of X-Request-Id.
        """

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Record a block as a child span."""
        return _UNRECORDED


_UNRECORDED: Final = nullcontext()
_NO_REQUEST: Final = RequestSpan()
# The span of the request that the current task serves.
current_request: ContextVar[RequestSpan] = ContextVar("current_request", default=_NO_REQUEST)


class Tracing:
    """Begins the spans of requests. This class records nothing."""

    @staticmethod
    def off() -> Tracing:
        """Tracing that records nothing."""
        return Tracing()

    def request(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[RequestSpan]:
        """A context for serving one request.

        Args:
            headers: of the request, in any case. A W3C traceparent is continued.
        """
        return nullcontext(_NO_REQUEST)

    def close(self) -> None:
        """Send the remaining spans; blocks for ten seconds at most where the collector is away."""
