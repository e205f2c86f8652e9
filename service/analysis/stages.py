"""Makes the stages of the analysis: batchers that share workers and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from service.batching import BatchPolicy, BatchReport, MicroBatcher, WorkerPool
from service.telemetry import Metrics

T = TypeVar("T")
R = TypeVar("R")


class StageFactory:
    """Makes the stages of one pipeline, first to last.

    Args:
        pool: the workers; a later stage goes first.
        metrics: receives a report of every batch; None for no reports.
    """

    def __init__(self, pool: WorkerPool, metrics: Metrics | None = None) -> None:
        self._pool = pool
        self._metrics = metrics
        self._made: list[MicroBatcher[object, object]] = []

    def make(
        self,
        name: str,
        function: Callable[[Sequence[T]], Sequence[R | BaseException]],
        *,
        latency_function: Callable[[Sequence[T]], Sequence[R | BaseException]] | None = None,
        full: int = 1,
        cost: Callable[[T], int] = lambda _: 1,
        gathered: int = 0,
        apart: bool = False,
    ) -> MicroBatcher[T, R]:
        """Make the next stage.

        Args:
            latency_function: replaces `function` for a single item while all workers are free.
            full: the cost of a full batch.
            gathered: the cost up to which other stages go first.
            apart: whether its requests enter no later stage, and those of other stages not it.
        """
        place = len(self._made) + 1
        report, abandoned = _listeners(self._metrics, name)
        stage: MicroBatcher[T, R] = MicroBatcher(
            function,
            latency_function=latency_function,
            pool=self._pool,
            name=name,
            policy=BatchPolicy(full, gathered_cost=gathered),
            cost=cost,
            after_s=lambda: (
                0.0 if apart else sum(each.fit.predict(1) for each in self._made[place:])
            ),
            report=report,
            on_abandoned=abandoned,
        )
        if not apart:
            self._made.append(stage)  # type: ignore[arg-type]
        return stage


def _listeners(
    metrics: Metrics | None, stage: str
) -> tuple[Callable[[BatchReport], None], Callable[[str], None]]:
    """What takes the reports of a stage to its metrics, and what counts abandoned items."""
    if metrics is None:
        return lambda _: None, lambda _: None
    size, waiting = metrics.batch_size.labels(stage), metrics.batch_waiting.labels(stage)
    queued_s = metrics.batch_queue_seconds.labels(stage)
    run_s = metrics.batch_run_seconds.labels(stage)

    def report(batch: BatchReport) -> None:
        size.observe(batch.cost)
        waiting.set(batch.waiting)
        queued_s.observe(batch.queued_s)
        run_s.observe(batch.run_s)

    def abandoned(reason: str) -> None:
        metrics.abandoned.labels(stage, reason).inc()
        waiting.set(0)

    return report, abandoned
