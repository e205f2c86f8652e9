"""The choice of tracing by the configuration."""

from __future__ import annotations

from service.domain.errors import ConfigError
from service.telemetry.tracing import Tracing


def open_tracing(endpoint: str, sample_ratio: float) -> Tracing:
    """Tracing to a collector by OTLP over HTTP; an empty endpoint turns tracing off.

    Args:
        endpoint: URL, e.g. http://localhost:4318/v1/traces.
        sample_ratio: share of the traces begun here that is kept, 0 to 1. For a trace that the
            client began, its decision holds.

    Raises:
        ConfigError: the extra facette[tracing] is not installed.
    """
    if not endpoint:
        return Tracing.off()
    try:
        # Imported on demand: the SDK is large, and optional.
        from service.telemetry.otlp import OtlpTracing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError(
            "tracing.endpoint is set, but OpenTelemetry is not installed: "
            "pip install 'facette[tracing]'"
        ) from error
    return OtlpTracing(endpoint, sample_ratio)
