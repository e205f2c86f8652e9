"""POST /insert-image over HTTP, next to the same photos analysed in this process."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from bench.detect import pyramid
from bench.harness import (
    MODELS,
    by_callers,
    by_threads,
    default_settings,
    running_analyzer,
    sessions,
)
from bench.measure import interleave, percentile, ratio
from bench.photos import Photo, load, source
from bench.server import ServiceProcess
from service.analysis.detector import PreparedPhoto
from service.domain.types import AnalyzedPhoto
from service.telemetry import StageClock
from service.vision.resample import summed_area_table

UNIT = "photos/s"
_PHOTOS = 24
_LONG_SIDE = 1024
_CLIENTS = 16
_SETTLE_S = 3.0


async def run(rounds: int) -> dict[str, Any]:
    """Measure and return `rates`, `ratios`, latencies in ms and memory in MB."""
    settings = default_settings()
    photos = load(_LONG_SIDE, _PHOTOS)
    latencies: dict[int, list[float]] = {1: [], _CLIENTS: []}
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as folder:
        service = ServiceProcess(Path(folder), MODELS, {"FACETTE_SERVER_LOG_LEVEL": "warning"})
        service.start()
        idle_mb = service.resident_mb
        async with service.async_client() as client, running_analyzer(settings) as analyzer:

            async def analyze(photo: Photo) -> AnalyzedPhoto:
                return await analyzer.analyze(source(photo.jpeg), StageClock())

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
                (pyramid(_prepare(photo), settings.cascade), np.zeros((n, 160, 160, 3), np.uint8))
                for photo, n in zip(photos, faces, strict=True)
            ]

            def networks(photo: tuple[list[NDArray[np.float32]], NDArray[np.uint8]]) -> None:
                for level in photo[0]:
                    models["pnet"].run(level)
                if len(photo[1]):
                    models["facenet"].run(photo[1])

            async def raw() -> int:
                return await by_threads(inputs, networks, settings.workers)

            rates = await interleave(
                {
                    f"HTTP, {_CLIENTS} clients": lambda: over_http(_CLIENTS),
                    "HTTP, one client": lambda: over_http(1),
                    "analysis in process": in_process,
                    "raw P-Net and FaceNet sessions": raw,
                },
                rounds,
            )
        await asyncio.sleep(_SETTLE_S)
        after_mb = service.resident_mb
        service.stop()
    busy, analysis = rates[f"HTTP, {_CLIENTS} clients"], rates["analysis in process"]
    return {
        "rates": rates,
        "ratios": {
            "insert_vs_analysis": ratio(busy, analysis),
            "insert_vs_raw_sessions": ratio(busy, rates["raw P-Net and FaceNet sessions"]),
        },
        "latency_ms": {
            f"{clients} clients": {
                f"p{int(share * 100)}": percentile(values, share) for share in (0.5, 0.95, 0.99)
            }
            for clients, values in latencies.items()
        },
        "memory_mb": {"idle": idle_mb, "after": after_mb},
        "notes": f"{len(photos)} JPEG files a round, longer side {_LONG_SIDE} px; client, service "
        "and embedded PostgreSQL share the cores; memory is the service's process alone; the raw "
        f"figure is both networks on the same pixels and {sum(faces)} faces, nothing else",
    }


def _prepare(photo: Photo) -> PreparedPhoto:
    height, width = photo.pixels.shape[:2]
    return PreparedPhoto(summed_area_table(photo.pixels), width, height)
