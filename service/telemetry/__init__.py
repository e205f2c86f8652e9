"""What the service tells of itself: metrics, stage times and log lines."""

from service.telemetry.clock import StageClock
from service.telemetry.logs import LogFormatter, configure_logging
from service.telemetry.metrics import Metrics, forget_process

__all__ = ["LogFormatter", "Metrics", "StageClock", "configure_logging", "forget_process"]
