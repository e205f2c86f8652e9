"""POST /insert-image with small photos, into new tenants and a large one, next to the analysis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from bench.common.crowd import crowd, load
from bench.common.database import address
from bench.common.harness import by_callers, default_settings, running_analyzer
from bench.common.measure import interleave_rated
from bench.common.photos import Photo, people_folder, photo_paths, source
from bench.common.photos import load as load_photos
from bench.common.result import Effort, Result
from bench.common.server import ServiceProcess
from bench.http.service import (
    CONNECTIONS,
    INSERT,
    describe_service,
    measure,
    photo_calls,
    running_service,
)
from bench.load import Phase
from service.app.settings import index_settings
from service.batching import free_ticket
from service.config import MatchConfig, VectorIndexConfig
from service.domain.types import AnalyzedPhoto, ModelSpace, TenantId
from service.store.database.database import Database, DatabaseSettings
from service.store.database.statements import SQL
from service.store.face.indexer import Indexer
from service.telemetry import StageClock

_SIDE = 250
_PHOTOS, _QUICK_PHOTOS = 4_500, 8
_SECONDS, _QUICK_SECONDS = 8.0, 1.0
_FACES, _QUICK_FACES = 100_000, 1_000
# Questions are looked for beside the inserts, and for the rest of them once these have ended.
_ASK_INTERVAL_S = "5"
_LONGEST_ASKING_S = 600.0
_NEW = f"HTTP, a new tenant, {CONNECTIONS} connections"
_LARGE = "HTTP, a tenant of {:,} faces, the same"
_IN_PROCESS = f"analysis in process, {CONNECTIONS} callers"


async def run(effort: Effort) -> Result:
    """Measure photos a second."""
    seconds = _QUICK_SECONDS if effort.quick else _SECONDS
    faces = _QUICK_FACES if effort.quick else _FACES
    settings = default_settings()
    photos = _Turn(_small_photos(_QUICK_PHOTOS if effort.quick else _PHOTOS))
    large = _LARGE.format(faces)
    with running_service({"FACETTE_MATCH_ASK_INTERVAL_S": _ASK_INTERVAL_S}) as service:
        async with running_analyzer(settings) as analyzer, _database_of(service) as database:
            tenant = await _filled(database, faces, ModelSpace(analyzer.embedding.space))

            async def analyze(photo: Photo) -> AnalyzedPhoto:
                return await analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket())

            async def in_process() -> float:
                await _all_asked(database)
                started, count = time.perf_counter(), 0
                while (taken := time.perf_counter() - started) < seconds:
                    count += await by_callers(
                        photos.following(10 * CONNECTIONS), analyze, CONNECTIONS
                    )
                return count / taken

            def over_http(tenant: str | None, label: str) -> Callable[[], Awaitable[float]]:
                async def insert() -> float:
                    calls = photo_calls(photos.all(), form=False, tenant=tenant)
                    phase = Phase(
                        kind="closed",
                        connections=CONNECTIONS,
                        calls=calls,
                        seconds=seconds,
                        label=label,
                    )
                    rate = (await measure(service, phase)).goodput_per_s
                    photos.following(round(rate * (seconds + phase.warmup_s)) + CONNECTIONS)
                    return rate

                return insert

            rates = await interleave_rated(
                {
                    _NEW: over_http(None, _NEW),
                    large: over_http(tenant, large),
                    _IN_PROCESS: in_process,
                },
                effort.rounds,
            )
        configuration = describe_service(service, settings)
    return Result(
        unit="photos/s",
        rates=rates,
        compared={
            "small_http_vs_analysis": (_NEW, _IN_PROCESS),
            "small_http_large_tenant_vs_analysis": (large, _IN_PROCESS),
        },
        configuration={
            "path": INSERT,
            "seconds": seconds,
            "photos": len(photos),
            "long_side": _SIDE,
            "faces_of_the_large_tenant": faces,
            **configuration,
        },
        notes=[
            (
                f"{len(photos):,} JPEG files with a side of {_SIDE} px in turn, as raw bodies; new "
                f"tenants are new each round, the large one begins with {faces:,} faces of made-up "
                "people. Client, service and embedded PostgreSQL share the cores. The service "
                f"looks for questions every {_ASK_INTERVAL_S} s; the analysis in process runs "
                "once it has looked for all, and has nothing to do."
            )
        ],
    )


class _Turn:
    """Photos that are taken in turn, so that one comes again as late as possible."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self._photos = list(photos)

    def __len__(self) -> int:
        return len(self._photos)

    def all(self) -> list[Photo]:
        """Every photo, the next one first."""
        return list(self._photos)

    def following(self, count: int) -> list[Photo]:
        """The next photos, or all; the turn goes on behind them."""
        count = min(count, len(self._photos))
        taken = self._photos[:count]
        self._photos = self._photos[count:] + taken
        return taken


def _small_photos(most: int) -> list[Photo]:
    """Photos of people, one of each person first; without a folder of them the reference photos."""
    if not people_folder().is_dir():
        return load_photos(_SIDE, min(most, 24))
    people = [list(paths) for paths in photo_paths(people_folder()).values()]
    turns = max(map(len, people))
    paths = [each[turn] for turn in range(turns) for each in people if turn < len(each)]
    return [_read(path) for path in paths[:most]]


def _read(path: Path) -> Photo:
    jpeg = path.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    return Photo(path.stem, np.asarray(pixels, np.uint8), jpeg)


@asynccontextmanager
async def _database_of(service: ServiceProcess) -> AsyncIterator[Database]:
    host, port = address(service)
    database = await Database.open(
        DatabaseSettings(host, port, "postgres", "postgres", "", 2, 30.0, 600.0)
    )
    try:
        yield database
    finally:
        await database.close()


async def _filled(database: Database, faces: int, space: ModelSpace) -> str:
    """A tenant of made-up people, with the index that the service builds as a tenant grows."""
    tenant = TenantId(f"large-{uuid4().hex}")
    people = await asyncio.to_thread(crowd, faces, 1)
    async with database.maintenance() as connection:
        await load(connection, tenant, people, space)
        # Questions were looked for as it grew.
        await connection.execute(
            "UPDATE tenant SET asked_change = changes, asked_seq ="
            " (SELECT max(seq) FROM face WHERE tenant_id = $1) WHERE tenant_id = $1",
            tenant,
        )
        await connection.execute("VACUUM (ANALYZE)")
    settings = index_settings(MatchConfig(), VectorIndexConfig())
    await Indexer(database, settings).round([tenant])
    async with database.maintenance() as connection:
        await connection.execute("CHECKPOINT")  # else it writes all of that meanwhile
    return tenant


async def _all_asked(database: Database) -> None:
    """Wait until the service has looked for the questions of all that was stored.

    Raises:
        TimeoutError: it has not for ten minutes.
    """
    async with asyncio.timeout(_LONGEST_ASKING_S), database.maintenance() as connection:
        while await connection.fetch(SQL["tenants_to_ask"]):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
