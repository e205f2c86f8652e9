"""Inserts a second into a large tenant and into an empty one: embeddings given, no inference."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from bench.common.crowd import RULE, SPACE, Crowd
from bench.common.harness import by_callers
from bench.common.measure import Samples, interleave_rated
from bench.common.photos import source
from bench.common.result import Effort
from service.batching import Ticket, free_ticket
from service.domain.types import (
    AnalyzedPhoto,
    Box,
    DetectedPhoto,
    Detection,
    EmbeddedFace,
    Embedding,
    FaceQuality,
    PhotoSource,
    TenantId,
)
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto

LARGE, EMPTY = "into the largest tenant", "into an empty tenant"

_CALLERS = 8
_FACES_A_ROUND = 300


@dataclass(frozen=True, slots=True)
class InsertRates:
    """Inserts a second, a figure a round, with notes on them."""

    rates: Mapping[str, Samples]
    notes: list[str]


class Given:
    """An analyzer that answers each photo with the face laid down for it."""

    def __init__(self) -> None:
        self._photos: dict[bytes, AnalyzedPhoto] = {}

    def add(self, embedding: Embedding) -> bytes:
        """The bytes of a photo that shows this face alone."""
        data = uuid4().bytes
        detection = Detection(
            Box(10.0, 20.0, 50.0, 70.0), tuple((15.0 + k, 30.0 + k) for k in range(5)), 0.99
        )
        quality = FaceQuality(1.0, 40.0, 60.0, 120.0, 50.0, 0.0, 0.0)
        face = EmbeddedFace(detection, embedding, quality)
        self._photos[data] = AnalyzedPhoto("jpeg", 640, 480, "0" * 16, (face,))
        return data

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto:
        return self._photos.pop(await read())

    async def detect(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> DetectedPhoto:
        raise NotImplementedError

    async def embed_crop(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> Embedding:
        raise NotImplementedError


async def measure(
    database: Database,
    codes: CodeCache,
    settings: IndexSettings,
    largest: TenantId,
    people: Crowd,
    folder: Path,
    effort: Effort,
) -> InsertRates:
    """Insert new faces of the large tenant's people here and there, round by round.

    The empty tenant is another one each time. The large tenant's index is looked after between the
    rounds, when as many faces wait as the service would let wait, and timed by itself.
    """
    taken: list[int] = []
    took_s = 0.0
    indexer = Indexer(database, settings, on_taken=taken.append)
    given = Given()
    ingest = IngestPhoto(
        given,
        Repository(database, SearchSettings(), codes=codes),
        FolderBlobStore(folder / "uploads"),
        space=SPACE,
        rule=RULE,
        on_face=lambda matched: None,
    )
    count = 20 if effort.quick else _FACES_A_ROUND
    seeds = itertools.count()

    async def rate(tenant: TenantId) -> float:
        nonlocal took_s
        faces = people.more_faces(count, np.random.default_rng(next(seeds)))

        async def insert(photo: bytes) -> None:
            await ingest(tenant, source(photo), StageClock(), free_ticket())

        photos = [given.add(face) for face in faces]
        began = time.perf_counter()
        await by_callers(photos, insert, _CALLERS)
        ended = time.perf_counter()
        if tenant == largest:
            await indexer.round([largest])
            took_s += time.perf_counter() - ended
        return count / (ended - began)

    reading = asyncio.create_task(codes.run())  # as in the service: new faces get their codes
    try:
        rates = await interleave_rated(
            {LARGE: lambda: rate(largest), EMPTY: lambda: rate(TenantId(uuid4().hex))},
            effort.rounds,
        )
    finally:
        reading.cancel()
        await asyncio.wait([reading])
    moved = sum(taken)
    each = f"{took_s / moved * 1e3:.1f} ms of one core each" if moved else "none, with so few"
    return InsertRates(
        rates,
        [
            (
                f"Inserts: {count} photos of one face a round, {_CALLERS} at once, through the use "
                "case with its blob folder, embeddings given. What the large tenant's index costs "
                f"comes on top, in the background: between the rounds it took in {moved} faces, "
                f"{each}."
            ),
        ],
    )
