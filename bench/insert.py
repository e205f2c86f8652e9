"""POST /insert-image over HTTP, next to the same photos analysed in this process."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from bench.common.harness import (
    MODELS,
    by_callers,
    by_threads,
    default_settings,
    describe,
    prepare,
    running_analyzer,
    sessions,
)
from bench.common.measure import interleave, percentile
from bench.common.photos import LONG_SIDE, Photo, load, source
from bench.common.result import Effort, Result
from bench.common.server import ServiceProcess
from bench.inprocess.detect import pyramid
from service.batching import free_ticket
from service.domain.types import AnalyzedPhoto
from service.telemetry import StageClock

_CLIENTS = 16
_SETTLE_S = 3.0


async def run(effort: Effort) -> Result:
    """Measure photos a second, latencies in ms and memory in MB."""
    settings = default_settings()
    photos = load(LONG_SIDE, 4 if effort.quick else 24)
    latencies: dict[int, list[float]] = {1: [], _CLIENTS: []}
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as folder:
        service = ServiceProcess(Path(folder), MODELS, {"FACETTE_SERVER_LOG_LEVEL": "warning"})
        service.start()
        idle_mb = service.resident_mb
        async with service.async_client() as client, running_analyzer(settings) as analyzer:

            async def analyze(photo: Photo) -> AnalyzedPhoto:
                return await analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket())

            async def insert(photo: Photo, clients: int, tenant: str) -> None:
                started = time.perf_counter()
                answer = await client.post(
                    "/insert-image", data={"tenant_id": tenant}, files={"image": photo.jpeg}
                )
                latencies[clients].append((time.perf_counter() - started) * 1e3)
                answer.raise_for_status()

            async def over_http(clients: int) -> int:
                tenant = uuid4().hex
                return await by_callers(
                    photos, lambda photo: insert(photo, clients, tenant), clients
                )

            async def in_process() -> int:
                return await by_callers(photos, analyze, _CLIENTS)

            models = sessions(settings)
            faces = [len((await analyze(photo)).faces) for photo in photos]
            inputs = [
                (
                    pyramid(prepare(photo.pixels), settings.cascade),
                    np.zeros((n, 160, 160, 3), np.uint8),
                )
                for photo, n in zip(photos, faces, strict=True)
            ]

            def networks(photo: tuple[list[NDArray[np.float32]], NDArray[np.uint8]]) -> None:
                for level in photo[0]:
                    models["pnet"].run(level)
                if len(photo[1]):
                    models["embedder"].run(photo[1])

            async def raw() -> int:
                return await by_threads(inputs, networks, settings.workers)

            rates = await interleave(
                {
                    f"HTTP, {_CLIENTS} clients": lambda: over_http(_CLIENTS),
                    "HTTP, one client": lambda: over_http(1),
                    "analysis in process": in_process,
                    "raw P-Net and FaceNet sessions": raw,
                },
                effort.rounds,
            )
        await asyncio.sleep(_SETTLE_S)
        after_mb = service.resident_mb
        service.stop()
    busy = f"HTTP, {_CLIENTS} clients"
    return Result(
        unit="photos/s",
        rates=rates,
        compared={
            "insert_vs_analysis": (busy, "analysis in process"),
            "insert_vs_raw_sessions": (busy, "raw P-Net and FaceNet sessions"),
        },
        details={
            "latency_ms": {
                f"{clients} clients" if clients > 1 else "one client": {
                    f"p{int(share * 100)}": round(percentile(values, share), 1)
                    for share in (0.5, 0.95, 0.99)
                }
                for clients, values in latencies.items()
            },
            "memory_mb": {
                "the service's process, idle": round(idle_mb),
                "the service's process, after the inserts": round(after_mb),
            },
        },
        configuration={
            "photos_a_round": len(photos),
            "faces_a_round": sum(faces),
            "long_side": LONG_SIDE,
            **describe(settings, models),
        },
        notes=[
            (
                f"{len(photos)} JPEG files a round, longer side {LONG_SIDE} px. Client, service "
                "and embedded PostgreSQL share the cores; memory is the service's process alone."
            ),
            (
                f"The raw figure is both networks on the same pixels and {sum(faces)} faces, "
                "nothing else."
            ),
        ],
    )
