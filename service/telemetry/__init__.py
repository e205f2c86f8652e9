"""The service's telemetry: metrics, stage times, log lines and traces."""

from service.telemetry.audit import Audit, open_audit
from service.telemetry.clock import StageClock
from service.telemetry.logs import LogFormatter, configure_logging
from service.telemetry.metrics import Metrics
from service.telemetry.opening import open_tracing
from service.telemetry.shared_metrics import (
    forget_process,
    remove_shared_metrics,
    shared_metrics_environment,
)
from service.telemetry.tracing import RequestSpan, Tracing

__all__ = [
    "Audit",
    "LogFormatter",
    "Metrics",
    "RequestSpan",
    "StageClock",
    "Tracing",
    "configure_logging",
    "forget_process",
    "open_audit",
    "open_tracing",
    "remove_shared_metrics",
    "shared_metrics_environment",
]
