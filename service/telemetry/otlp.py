"""Spans by the OpenTelemetry SDK; imported where tracing is configured.

No personal data is recorded: no tenant, no id of an image, face or cluster, no path, no query, and
no message of an exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import StatusCode

from service import __version__
from service.telemetry.tracing import RequestSpan, Tracing, current_request

# Polled every few seconds: their spans would outnumber all others.
_UNTRACED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
# Other methods are recorded as _OTHER, as the HTTP semantic conventions ask.
_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_EXPORT_TIMEOUT_S: Final = 5.0


class OtlpTracing(Tracing):
    """Sends spans to a collector in batches, from a background thread."""

    def __init__(self, endpoint: str, sample_ratio: float) -> None:
        self._exporter = _ImpatientExporter(
            OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
        )
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=Resource.create({"service.name": "facette", "service.version": __version__}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("facette", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
        """A context for serving one request, with its span as the current one."""
        if path in _UNTRACED:
            yield RequestSpan()
            return
        known = method if method in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            _name(known),
            context=self._propagator.extract(headers, Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": known, "url.scheme": "http"},
        )
        request = _RecordedRequest(self._tracer, span, known)
        token = current_request.set(request)
        try:
            yield request
        finally:
            current_request.reset(token)
            span.end()

    def close(self) -> None:
        """Send the remaining spans; blocks for ten seconds at most where the collector is away."""
        self._exporter.hurry()
        self._provider.shutdown()


class _RecordedRequest(RequestSpan):
    """The span of one request."""

    def __init__(self, tracer: Tracer, span: Span, method: str) -> None:
        self._tracer = tracer
        self._span = span
        self._method = method
        self._inside = set_span_in_context(span, Context())

    @property
    def trace_id(self) -> str:
        return format_trace_id(self._span.get_span_context().trace_id)

    def finish(self, route: str, status: int, code: str = "", request_id: str = "") -> None:
        span = self._span
        if status:
            span.set_attribute("http.response.status_code", status)
        if route:
            span.set_attribute("http.route", route)
            span.update_name(f"{_name(self._method)} {route}")
        if request_id:
            span.set_attribute("facette.request_id", request_id)
        if code:
            span.set_attribute("facette.error_code", code)
        if status >= 500:
            span.set_attribute("error.type", code or str(status))
            span.set_status(StatusCode.ERROR)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        span = self._tracer.start_span(name, context=self._inside)
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.end()


def _name(method: str) -> str:
    return "HTTP" if method == "_OTHER" else method


class _ImpatientExporter(SpanExporter):
    """Exports spans; after `hurry`, it stops at the first failure."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._hurried = False
        self._failed = False

    def hurry(self) -> None:
        """Stop exporting once an export fails: the service stops, and must not wait."""
        self._hurried = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._hurried and self._failed:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        self._failed = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
