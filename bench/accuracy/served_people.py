"""Photos of labelled people, sent to the running service by several clients at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import numpy as np

from bench.accuracy.joining import Clustering, judge
from bench.accuracy.people import LabelledFace, Labels
from bench.http.service import running_service

CLIENTS = 12
_SEED = 1
_OVERLOADED = 429


@dataclass(frozen=True, slots=True)
class Served:
    """The resulting clusters.

    clustering: over the labelled faces, by the clusters of the answers. photos_per_s: with
    everything on one machine. unmatchable: labelled faces below `quality.min_for_matching`.
    unfound: labelled faces that are in no answer.
    """

    clustering: Clustering
    photos_per_s: float
    unmatchable: int
    unfound: int


async def insert_people(
    models: Path, compatible: bool, faces: Sequence[LabelledFace], people: Labels
) -> Served:
    """Insert the photos of some faces, in random order, into one tenant of a new service.

    Args:
        models: the folder of the models that the service uses.
        compatible: whether in compatible mode.
        people: int64 [n], whose face each is.
    """
    order = np.random.default_rng(_SEED).permutation(len(faces)).tolist()
    answers: dict[int, Any] = {}
    waiting = iter(order)
    environment = {
        "FACETTE_PATHS_MODELS_DIR": str(models),
        "FACETTE_DETECTION_COMPATIBLE": str(compatible).lower(),
    }
    with running_service(environment) as service:
        async with service.async_client() as client:
            path = f"/insert-image?tenant_id={uuid4().hex}"

            async def one_after_another() -> None:
                for number in waiting:
                    answers[number] = await _insert(client, path, faces[number].path)

            began = time.perf_counter()
            await asyncio.gather(*(one_after_another() for _ in range(CLIENTS)))
            took_s = time.perf_counter() - began
    names: dict[str, int] = {}
    clusters = np.full(len(faces), -1, np.int64)
    unmatchable = 0
    for number, face in enumerate(faces):
        labelled = _labelled(answers[number], face)
        if labelled is not None:
            clusters[number] = names.setdefault(labelled["cluster_id"], len(names))
            unmatchable += not labelled["is_matchable"]
    found = clusters >= 0
    return Served(
        judge(clusters[found], people[found]),
        len(faces) / took_s,
        unmatchable,
        int((~found).sum()),
    )


async def _insert(client: httpx.AsyncClient, path: str, photo: Path) -> Any:
    data = await asyncio.to_thread(photo.read_bytes)
    while True:
        answer = await client.post(path, files={"image": (photo.name, data, "image/jpeg")})
        if answer.status_code != _OVERLOADED:
            break
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    answer.raise_for_status()
    return answer.json()


def _labelled(answer: Any, face: LabelledFace) -> Any:
    """The face of an answer whose centre is in the labelled face's box, and nearest to its own."""
    box = face.detection.box
    middle = np.array([box.x1 + box.x2, box.y1 + box.y2]) / 2

    def off(found: Any) -> float:
        there = found["box"]
        centre = np.array([there["x1"] + there["x2"], there["y1"] + there["y2"]]) / 2
        return float(np.linalg.norm(centre - middle))

    best = min(answer["faces"], key=off, default=None)
    return best if best is not None and off(best) < (box.x2 - box.x1) / 2 else None
