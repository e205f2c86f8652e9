"""Inserts a second into a large tenant and into an empty one: embeddings given, no inference."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np

from bench.crowd import SPACE, Crowd, Vectors
from bench.harness import by_callers
from bench.measure import Samples, interleave
from bench.photos import source
from bench.result import Effort
from service.batching import Ticket, free_ticket
from service.config import MatchConfig
from service.domain.types import (
    AnalyzedPhoto,
    Box,
    DetectedPhoto,
    Detection,
    EmbeddedFace,
    Embedding,
    PhotoSource,
    TenantId,
)
from service.store.blobs import FolderBlobStore
from service.store.database import Database
from service.store.indexer import Indexer, IndexSettings
from service.store.repository import Repository
from service.store.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto

LARGE, EMPTY = "into the largest tenant", "into an empty tenant"

_CALLERS = 8
_FACES_A_ROUND = 300


@dataclass(frozen=True, slots=True)
class InsertRates:
    """Inserts a second, a figure a round, and what to know about them."""

    rates: Mapping[str, Samples]
    notes: list[str]


class _Given:
    """Answers each photo with the face laid down for it."""

    def __init__(self) -> None:
        self._photos: dict[bytes, AnalyzedPhoto] = {}

    def add(self, embedding: Embedding) -> bytes:
        data = uuid4().bytes
        detection = Detection(
            Box(10.0, 20.0, 50.0, 70.0), tuple((15.0 + k, 30.0 + k) for k in range(5)), 0.99
        )
        face = EmbeddedFace(detection, embedding)
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
    settings: IndexSettings,
    match: MatchConfig,
    largest: TenantId,
    people: Crowd,
    folder: Path,
    effort: Effort,
) -> InsertRates:
    """Insert the same new faces of the large tenant's people here and there, round by round.

    The indexer runs beside as it does in the service. The faces of a round are all new, and the
    empty tenant is another one each time.
    """
    taken: list[int] = []
    indexer = Indexer(database, settings, on_taken=taken.append)
    given = _Given()
    repository = Repository(
        database,
        SearchSettings(match.hnsw_ef_search, match.hnsw_quick_ef_search),
        on_insert=indexer.note_insert,
    )
    ingest = IngestPhoto(
        given,
        repository,
        FolderBlobStore(folder / "uploads"),
        space=SPACE,
        max_distance=0.5,
        on_face=lambda matched: None,
    )
    count = 20 if effort.quick else _FACES_A_ROUND
    numbers = itertools.count()

    def faces() -> Vectors:
        return people.more_faces(count, np.random.default_rng(next(numbers)))

    async def insert(tenant: TenantId, photos: list[bytes]) -> int:
        async def one(photo: bytes) -> None:
            await ingest(tenant, source(photo), StageClock(), free_ticket())

        return await by_callers(photos, one, _CALLERS)

    async def into(tenant: TenantId) -> int:
        return await insert(tenant, [given.add(face) for face in faces()])

    running = asyncio.create_task(indexer.run())
    try:
        rates = await interleave(
            {LARGE: lambda: into(largest), EMPTY: lambda: into(TenantId(uuid4().hex))},
            effort.rounds,
        )
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    began, before = time.perf_counter(), sum(taken)
    at_once = replace(settings, max_waiting=1)
    await Indexer(database, at_once, on_taken=taken.append).round([largest])
    seconds, moved = time.perf_counter() - began, sum(taken) - before
    each = f"{seconds / moved * 1e3:.1f} ms a face" if moved else "none waited at the end"
    return InsertRates(
        rates,
        [
            (
                f"Inserts: {count} photos of one face a round, {_CALLERS} at once, through the use "
                "case with its blob folder, embeddings given. The indexer runs beside them: it "
                f"took {before} faces into the large tenant's index meanwhile. Taking in those "
                f"that still waited, with nothing else to do: {each}."
            ),
        ],
    )
