"""POST /insert-image over HTTP next to the analysis in this process, with its time by part."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.common.harness import by_callers, default_settings, running_analyzer
from bench.common.measure import interleave_rated
from bench.common.photos import LONG_SIDE, Photo, load, source
from bench.common.result import Effort, Result
from bench.http.service import (
    CONNECTIONS,
    INSERT,
    ProcessorTime,
    Scrape,
    by_label,
    describe_service,
    measure,
    photo_calls,
    processor_time,
    running_service,
    scrape,
)
from bench.load import Outcome, Phase
from service.batching import free_ticket
from service.domain.types import AnalyzedPhoto
from service.machine.cpu import usable_cores
from service.telemetry import StageClock

_SECONDS = 10.0
_QUICK_SECONDS = 1.0
_HTTP = f"HTTP, {CONNECTIONS} connections"
_IN_PROCESS = f"analysis in process, {CONNECTIONS} callers"


async def run(effort: Effort) -> Result:
    """Measure photos a second, and the processor time of each part."""
    seconds = _QUICK_SECONDS if effort.quick else _SECONDS
    settings = default_settings()
    photos = load(LONG_SIDE, 4 if effort.quick else 24)
    found: list[tuple[Outcome, _Parts]] = []
    with running_service() as service:
        idle_mb = service.resident_mb
        async with running_analyzer(settings) as analyzer:

            async def analyze(photo: Photo) -> AnalyzedPhoto:
                return await analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket())

            async def in_process() -> float:
                started, count = time.perf_counter(), 0
                # Whole rounds of the photos: some take longer than others.
                while (taken := time.perf_counter() - started) < seconds:
                    count += await by_callers(photos, analyze, CONNECTIONS)
                return count / taken

            async def over_http() -> float:
                before = _Parts.now(scrape(service), processor_time(service))
                outcome = await measure(
                    service,
                    Phase(
                        kind="closed",
                        connections=CONNECTIONS,
                        calls=photo_calls(photos),
                        seconds=seconds,
                        label=_HTTP,
                    ),
                )
                after = _Parts.now(scrape(service), processor_time(service))
                found.append((outcome, after.since(before)))
                return outcome.goodput_per_s

            rates = await interleave_rated(
                {_HTTP: over_http, _IN_PROCESS: in_process}, effort.rounds
            )
        after_mb = service.resident_mb
        configuration = describe_service(service, settings)
    measured = found[1:]  # without the warm-up
    shares = _shares(measured)
    return Result(
        unit="photos/s",
        rates=rates,
        compared={"insert_http_vs_analysis": (_HTTP, _IN_PROCESS)},
        details={
            "latency_ms": {_HTTP: measured[-1][0].latency_ms},
            "memory_mb": {
                "the service's process, idle": round(idle_mb),
                "the service's process, after the inserts": round(after_mb),
            },
            "shares": shares,
            "tables": {"shares": _shares_table(shares), "stages": _stages_table(shares)},
        },
        configuration={
            "path": INSERT,
            "seconds": seconds,
            "photos": len(photos),
            "long_side": LONG_SIDE,
            **configuration,
        },
        notes=[
            (
                f"{len(photos)} JPEG files in turn, longer side {LONG_SIDE} px, as forms, for a "
                "new tenant each round. Client, service and embedded PostgreSQL share "
                "the cores; the analysis in process runs while the service has nothing to do."
            ),
            (
                "Processor time is the operating system's count for processes and threads. That of "
                "the workers is divided among the stages in proportion to the time of their calls. "
                "Latency is that of the last round."
            ),
        ],
    )


class _Parts:
    """Processor time of the parts, so far or over an interval."""

    def __init__(
        self, photos: float, stages: dict[str, float], waits: dict[str, float], cpu: ProcessorTime
    ) -> None:
        self.photos = photos
        self.stages = stages
        self.waits = waits
        self.cpu = cpu

    @classmethod
    def now(cls, metrics: Scrape, cpu: ProcessorTime) -> _Parts:
        return cls(
            photos=metrics.get(("facette_stage_seconds_count", "decode"), 0.0),
            stages=by_label(metrics, {}, "facette_batch_run_seconds_sum"),
            waits=by_label(metrics, {}, "facette_stage_seconds_sum"),
            cpu=cpu,
        )

    def since(self, earlier: _Parts) -> _Parts:
        return _Parts(
            self.photos - earlier.photos,
            {name: value - earlier.stages.get(name, 0) for name, value in self.stages.items()},
            {name: value - earlier.waits.get(name, 0) for name, value in self.waits.items()},
            self.cpu.since(earlier.cpu),
        )


def _shares(measured: list[tuple[Outcome, _Parts]]) -> dict[str, Any]:
    """Milliseconds a photo of every part, over all rounds."""
    photos = sum(parts.photos for _, parts in measured)
    rate = sum(outcome.goodput_per_s for outcome, _ in measured) / len(measured)

    def a_photo(seconds: float) -> float:
        return round(seconds / photos * 1e3, 3)

    def stages(of: str) -> dict[str, float]:
        found = [getattr(parts, of) for _, parts in measured]
        return {name: a_photo(sum(each[name] for each in found)) for name in found[-1]}

    client = sum(outcome.client_cpu_share for outcome, _ in measured) / len(measured)
    return {
        "cores_ms_a_photo": round(usable_cores() * 1e3 / rate, 3),
        "workers_ms_a_photo": stages("stages"),
        "elapsed_ms_a_photo": stages("waits"),
        "processor_ms_a_photo": {
            "event_loop": a_photo(sum(parts.cpu.event_loop for _, parts in measured)),
            "workers": a_photo(sum(parts.cpu.workers for _, parts in measured)),
            "database": a_photo(sum(parts.cpu.database for _, parts in measured)),
            "client": round(client / rate * 1e3, 3),
        },
    }


def _shares_table(shares: Mapping[str, Any]) -> dict[str, Any]:
    whole = shares["cores_ms_a_photo"]
    stages, processor = shares["workers_ms_a_photo"], shares["processor_ms_a_photo"]
    # The workers' processor time is divided among the stages in proportion to their wall time.
    scale = processor["workers"] / sum(stages.values())
    rows = [
        *((f"service, workers: {name}", value * scale) for name, value in stages.items()),
        ("service, event loop: HTTP, batching, storing", processor["event_loop"]),
        ("PostgreSQL", processor["database"]),
        ("the client", processor["client"]),
        ("none of these", whole - sum(processor.values())),
        ("all cores", whole),
    ]
    return {
        "head": ["processor time", "ms a photo", "share of the cores"],
        "rows": [[name, f"{value:.2f}", f"{value / whole:.1%}"] for name, value in rows],
    }


def _stages_table(shares: Mapping[str, Any]) -> dict[str, Any]:
    elapsed = shares["elapsed_ms_a_photo"]
    whole = sum(elapsed.values())
    return {
        "head": [f"time of one photo among {CONNECTIONS}", "ms", "share"],
        "rows": [[name, f"{value:.1f}", f"{value / whole:.1%}"] for name, value in elapsed.items()],
    }
