"""Memory of the service at rest, after many photos of random sizes over HTTP."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from bench.common.harness import MODELS, by_callers, default_settings, describe, sessions
from bench.common.photos import Photo, load
from bench.common.result import Effort, Result
from bench.common.server import ServiceProcess

_PHOTOS = 2000
_FEW_PHOTOS = 20
_CLIENTS = 8
_ORIGINALS = 24
# Longer side in pixels, and how much of either side is cut away.
_LONG_SIDES = (200, 2000)
_MAX_CUT = 0.4
# Longer than the service waits before it gives free memory back.
_SETTLE_S = 3.0
_SEED = 2000


async def run(effort: Effort) -> Result:
    """Measure resident MB idle, after a tenth of the photos and after all of them."""
    photos = _FEW_PHOTOS if effort.quick else _PHOTOS
    settle_s = 0.0 if effort.quick else _SETTLE_S
    some = photos // 10
    originals = load(_LONG_SIDES[1], 2 if effort.quick else _ORIGINALS)
    random = np.random.default_rng(_SEED)
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as folder:
        service = ServiceProcess(Path(folder), MODELS, {"FACETTE_SERVER_LOG_LEVEL": "warning"})
        service.start()
        try:
            async with service.async_client() as client:
                tenant = uuid4().hex

                async def insert(_: int) -> None:
                    answer = await client.post(
                        "/insert-image",
                        data={"tenant_id": tenant},
                        files={"image": _random_size(originals, random)},
                    )
                    answer.raise_for_status()

                async def at_rest(count: int) -> float:
                    await by_callers(range(count), insert, _CLIENTS)
                    await asyncio.sleep(settle_s)
                    return service.resident_mb

                idle = await at_rest(0)
                early = await at_rest(some)
                late = await at_rest(photos - some)
        finally:
            service.stop()
    settings = default_settings()
    return Result(
        unit="",
        rates={},
        compared={},
        other_ratios={"memory_early_vs_late": early / late},
        details={
            "memory_mb": {
                "idle": round(idle),
                f"early, after {some:,} photos": round(early),
                f"late, after {photos:,} photos": round(late),
            }
        },
        configuration={
            "photos": photos,
            "long_sides": _LONG_SIDES,
            "clients": _CLIENTS,
            **describe(settings, sessions(settings)),
        },
        notes=[
            (
                f"Resident memory of the service's process at rest, without PostgreSQL. {photos:,} "
                f"photos of random cuts, longer side {_LONG_SIDES[0]} to {_LONG_SIDES[1]} px, "
                f"{_CLIENTS} clients."
            )
        ],
    )


def _random_size(photos: list[Photo], random: np.random.Generator) -> bytes:
    """A JPEG of a random cut of a random photo at a random size."""
    pixels = photos[int(random.integers(len(photos)))].pixels
    height, width = (int(n * (1 - random.uniform(0, _MAX_CUT))) for n in pixels.shape[:2])
    scale = random.uniform(*_LONG_SIDES) / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = cv2.resize(pixels[:height, :width], size, interpolation=cv2.INTER_AREA)
    encoded, jpeg = cv2.imencode(".jpg", image[:, :, ::-1])
    assert encoded
    return jpeg.tobytes()
