"""Opens the tracing that is configured."""

from __future__ import annotations

from service.domain.errors import ConfigError
from service.telemetry.tracing import Tracing


def open_tracing(endpoint: str, sample_ratio: float) -> Tracing:
    """Tracing to a collector that takes OTLP over HTTP; an empty endpoint for none.

    Args:
        endpoint: URL, e.g. http://localhost:4318/v1/traces.
        sample_ratio: share of the traces begun here that is kept, 0 to 1; in a trace begun
            elsewhere the caller's decision holds.

    Raises:
        ConfigError: the extra facette[tracing] is not installed.
    """
    if not endpoint:
        return Tracing.off()
    try:
        # The SDK is large, and of no use to a service without a collector.
        from service.telemetry.otlp import OtlpTracing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError(
            "tracing.endpoint is set, but OpenTelemetry is not installed: "
            "pip install 'facette[tracing]'"
        ) from error
    return OtlpTracing(endpoint, sample_ratio)
