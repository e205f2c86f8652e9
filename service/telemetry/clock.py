"""The stage timer: measures each duration once, for the metric, the header and the span."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.telemetry.metrics import Metrics
from service.telemetry.tracing import current_request


class StageClock:
    """Times the stages of one request."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block; the times of a stage that is entered again are added."""
        with current_request.get().stage(name):
            started = time.perf_counter()
            try:
                yield
            finally:
                elapsed = time.perf_counter() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
                if self._metrics is not None:
                    self._metrics.stage_seconds.labels(name).observe(elapsed)

    def server_timing(self) -> str:
        """The value of a Server-Timing header (W3C), durations in milliseconds."""
        return ", ".join(f"{name};dur={value * 1e3:.2f}" for name, value in self.seconds.items())
