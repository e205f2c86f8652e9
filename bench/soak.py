"""Does the service's memory stay what it was? Photos of random sizes over HTTP, watched at rest."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np

from bench.harness import MODELS, by_callers
from bench.photos import Photo, load
from bench.server import ServiceProcess

_CLIENTS = 8
_ORIGINALS = 24
# Longer side in pixels, and how much of either side is cut away.
_LONG_SIDES = (200, 2000)
_MAX_CUT = 0.4
# Longer than the service waits before it gives free memory back.
_SETTLE_S = 3.0
_SEED = 2000


async def run(photos: int) -> dict[str, Any]:
    """Resident megabytes idle, after a tenth of the photos and after all of them."""
    originals = load(_LONG_SIDES[1], _ORIGINALS)
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
                    await asyncio.sleep(_SETTLE_S)
                    return service.resident_mb

                megabytes = {
                    "idle": await at_rest(0),
                    "early": await at_rest(photos // 10),
                    "late": await at_rest(photos - photos // 10),
                }
        finally:
            service.stop()
    return {
        "memory_mb": megabytes,
        "ratios": {"memory_early_vs_late": megabytes["early"] / megabytes["late"]},
        "notes": f"the service's process, without PostgreSQL; {photos} photos, longer side "
        f"{_LONG_SIDES[0]} to {_LONG_SIDES[1]} px at random, {_CLIENTS} clients; early is after "
        f"{photos // 10} of them, late after all",
    }


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
