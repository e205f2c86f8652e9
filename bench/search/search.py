"""The search for near faces, for tenants of 10 to 500,000 faces that live in one database.

It is compared with the layout of the first release: all vectors under one HNSW index, which is
filtered by tenant. Exact search gives the correct answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.common.crowd import RULE, SPACE, Crowd, Vectors, crowd, load, number_of
from bench.common.measure import percentile
from bench.common.result import Effort, Result
from bench.search import insert_rate, plain_index
from bench.search.tables import builds_table, search_table
from service.app.settings import index_settings
from service.config import MatchConfig, VectorIndexConfig
from service.domain.matching import ClusterQuery
from service.domain.types import TenantId
from service.store.database.database import Database, DatabaseSettings
from service.store.database.statements import SQL
from service.store.embedded.server import embedded_server
from service.store.embedded.settings import EmbeddedSettings
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings, vector_indexes
from service.store.face.search import ClusterSearch, SearchSettings, vector_index_name

# The indexes and the tables fit in: both ways are compared at their best.
_SERVER = EmbeddedSettings(shared_buffers_mb=6144)
_SIZES = (10, 1_000, 10_000, 100_000, 500_000)
_QUERIES = 400
_EXACT_QUERIES = 20
_NEIGHBOURS = 10
# Half-precision vectors: two distances closer than this are one.
_TIE = 5e-5


@dataclass
class _Found:
    """What one way of searching found for one tenant: milliseconds and shares of the neighbours."""

    ms: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)

    def take(self, ms: float, similar: Vectors, best: Vectors, found: Sequence[int]) -> None:
        """Judge one answer. best: the cosines of the true neighbours, nearest first."""
        self.ms.append(ms)
        cosines = similar[list(found)]
        self.first.append(float(cosines.max(initial=-1.0) >= best[0] - _TIE))
        self.all.append(float((cosines >= best[-1] - _TIE).sum()) / len(best))

    def document(self) -> dict[str, float]:
        """Recall at 1 and at 10, and milliseconds."""
        return {
            "recall_at_1": float(np.mean(self.first)),
            "recall_at_10": float(np.mean(self.all)),
            "p50_ms": percentile(self.ms, 0.5),
            "p99_ms": percentile(self.ms, 0.99),
        }


async def run(effort: Effort) -> Result:
    """Measure recall, latencies, builds and inserts; `effort.scale` makes every tenant smaller."""
    scale = 0.002 if effort.quick else effort.scale
    sizes = [max(_NEIGHBOURS, round(size * scale)) for size in _SIZES]
    settings = index_settings(MatchConfig(), VectorIndexConfig())
    if scale < 1:  # what is large at full scale is large here, too
        most = max(1, round(settings.exact_max_faces * scale))
        settings = dataclasses.replace(settings, exact_max_faces=most)
    with (
        tempfile.TemporaryDirectory(prefix="facette-bench-") as folder,
        embedded_server(Path(folder), _SERVER) as address,
    ):
        database = await Database.open(
            DatabaseSettings(
                address.socket_dir, address.port, address.dbname, address.user, "", 8, 30.0, 600.0
            )
        )
        try:
            crowds = await _load(database, sizes)
            builds = await _build(database, Indexer(database, settings), settings)
            codes = CodeCache(database)
            builds["binary codes, in memory"] = await _read_codes(database, codes, crowds)
            rows = [
                await _search_tenant(database, codes, tenant, people, effort.quick)
                for tenant, people in crowds.items()
            ]
            largest = rows[-1]["exact_p50_ms"] / rows[-1]["ours"]["p50_ms"]
            inserts = await insert_rate.measure(
                database,
                codes,
                settings,
                [*crowds][-1],
                crowds[[*crowds][-1]],
                Path(folder),
                effort,
            )
        finally:
            await database.close()
    ours = [row["ours"] for row in rows]
    # Of tiny tenants, as in a quick run, the planner has no use for the plain index.
    served = [row for row in rows if row["plain_path"] == "index"] or rows
    return Result(
        unit="inserts/s",
        rates=inserts.rates,
        compared={"insert_500k_vs_empty": (insert_rate.LARGE, insert_rate.EMPTY)},
        other_ratios={
            "min_recall_at_1": min(each["recall_at_1"] for each in ours),
            "min_recall_at_10": min(each["recall_at_10"] for each in ours),
            "p50_vs_plain_index": max(
                row["ours"]["p50_ms"] / row["plain"]["p50_ms"] for row in served
            ),
            "speedup_vs_exact_500k": largest,
        },
        details={
            "tables": {"search": search_table(rows), "builds": builds_table(builds)},
            "search": rows,
            "builds": builds,
        },
        configuration={
            "scale": scale,
            "settings": {
                **dataclasses.asdict(settings),
                "ef_search": SearchSettings().ef_search,
                "shared_buffers_mb": _SERVER.shared_buffers_mb,
            },
            "models": {},
        },
        notes=[
            *_notes(sum(sizes), settings.exact_max_faces),
            *inserts.notes,
        ],
    )


def _notes(faces: int, exact_max_faces: int) -> list[str]:
    return [
        (
            f"{faces:,} made-up vectors in one database. Queries are new faces of the tenant's "
            f"people, {_QUERIES} for each tenant, {_NEIGHBOURS} neighbours each. A tenant of up to "
            f"{exact_max_faces:,} faces is searched exactly. The plain index has "
            f"m = {plain_index.M} and ef_construction = {plain_index.EF_CONSTRUCTION} and is "
            "searched with iterative scans; both use ef_search = "
            f"{SearchSettings().ef_search}. If the "
            "planner expects few faces of a tenant, it compares all of them without the plain "
            "index; `p50_vs_plain_index` covers the other tenants."
        ),
        (
            "A query is a transaction. Its time begins when the transaction is open, and includes "
            "all statements of the search: Facette's read the state of the tenant's index, set "
            "parameters, search, and reset them. Matching is the search of an insert: the nearest "
            "face, by binary codes if there is an index. Indexed searches also compare the faces "
            "that the codes select."
        ),
    ]


async def _load(database: Database, sizes: Sequence[int]) -> dict[TenantId, Crowd]:
    """One tenant of each size, in the product's tables and in the plain one."""
    crowds: dict[TenantId, Crowd] = {}
    async with database.maintenance() as connection:
        await plain_index.make_table(connection)
    for number, size in enumerate(sizes):
        tenant = TenantId(f"tenant {number + 1}, of {size} faces")
        crowds[tenant] = people = await asyncio.to_thread(crowd, size, number)
        began = time.monotonic()
        # A connection keeps the plans by which it checks foreign keys, also when tables have grown.
        async with database.maintenance() as connection:
            await load(connection, tenant, people)
            await plain_index.load(connection, tenant, people)
        print(f"  loaded {tenant} in {time.monotonic() - began:.0f} s", flush=True)
    async with database.maintenance() as connection:
        await connection.execute("CREATE INDEX ON plain_face (tenant_id)")
        await connection.execute("VACUUM (ANALYZE)")
    return crowds


async def _build(
    database: Database, indexer: Indexer, settings: IndexSettings
) -> dict[str, dict[str, float]]:
    """Build the tenants' indexes, and then the plain one with the same memory and processes."""
    builds: dict[str, dict[str, float]] = {}
    began = time.monotonic()
    await indexer.round()
    seconds = time.monotonic() - began
    async with database.maintenance() as connection:
        indexes = await vector_indexes(connection)
        builds["one HNSW index a large tenant"] = {
            "seconds": seconds,
            "mb": sum(each.size_bytes for each in indexes) / 1e6,
            "indexes": len(indexes),
        }
        builds["one plain HNSW index"] = await plain_index.build(connection, settings)
    for name, build in builds.items():
        print(f"  {name}: {build['seconds']:.0f} s, {build['mb']:.0f} MB", flush=True)
    return builds


async def _read_codes(
    database: Database, codes: CodeCache, crowds: Mapping[TenantId, Crowd]
) -> dict[str, float]:
    """Read the codes of every tenant that has an index, as a first search makes the service do."""
    began, indexes = time.monotonic(), 0
    for tenant in crowds:
        async with database.transaction(tenant) as connection:
            name = vector_index_name(tenant, SPACE)
            state = await connection.fetchrow(SQL["search_state"], tenant, name, False)
        if state["has_index"]:
            indexes += 1
            await codes.refresh(tenant, SPACE)
    seconds = time.monotonic() - began
    print(f"  codes: {seconds:.1f} s, {codes.size_bytes / 1e6:.0f} MB", flush=True)
    return {"seconds": seconds, "mb": codes.size_bytes / 1e6, "indexes": indexes}


async def _search_tenant(
    database: Database,
    codes: CodeCache,
    tenant: TenantId,
    people: Crowd,
    quick: bool,
) -> dict[str, Any]:
    """Ask for the neighbours of new faces of the tenant's people, one way and then the other."""
    count = 20 if quick else _QUERIES
    queries = people.more_faces(count, np.random.default_rng(count))
    similar = queries @ people.faces.T
    best = -np.sort(-similar, axis=1)[:, :_NEIGHBOURS]
    search_settings = SearchSettings()
    ours, plain, matching = _Found(), _Found(), _Found()
    exact_ms: list[float] = []
    async with database.transaction(tenant) as connection:
        index = vector_index_name(tenant, SPACE)
        state = await connection.fetchrow(SQL["search_state"], tenant, index, False)
        by_index = state["has_index"]
    plain_is_used = await plain_index.is_used(
        database, tenant, queries[0], _NEIGHBOURS, SearchSettings().ef_search
    )
    for number, query in enumerate(queries):
        # A transaction for each query: its settings count as a part of it.
        async with database.transaction(tenant) as connection:
            search = ClusterSearch(connection, tenant, search_settings, codes)
            began = time.perf_counter()
            found = (await search.nearest_faces([query], SPACE, _NEIGHBOURS))[0]
            ms = (time.perf_counter() - began) * 1e3
            ours.take(ms, similar[number], best[number], [number_of(f.face_id) for f in found])
        async with database.transaction(tenant) as connection:
            search = ClusterSearch(connection, tenant, search_settings, codes)
            began = time.perf_counter()
            finds = await search.look_up(ClusterQuery((query,), SPACE, RULE))
            ms = (time.perf_counter() - began) * 1e3
            (nearest,) = finds.near
            found_faces = [number_of(face.face_id) for face in nearest]
            matching.take(ms, similar[number], best[number][:1], found_faces)
        async with database.transaction(tenant) as connection:
            began = time.perf_counter()
            faces = await plain_index.search(
                connection, tenant, query, _NEIGHBOURS, SearchSettings().ef_search
            )
            ms = (time.perf_counter() - began) * 1e3
            plain.take(ms, similar[number], best[number], faces)
        if number < _EXACT_QUERIES:
            async with database.transaction(tenant) as connection:
                search = ClusterSearch(connection, tenant, search_settings, codes)
                began = time.perf_counter()
                await search.nearest_faces([query], SPACE, _NEIGHBOURS, exactly=True)
                exact_ms.append((time.perf_counter() - began) * 1e3)
    row = {
        "faces": len(people.faces),
        "path": "index" if by_index else "exact",
        "ours": ours.document(),
        "matching": matching.document(),
        "plain_path": "index" if plain_is_used else "exact",
        "plain": plain.document(),
        "exact_p50_ms": percentile(exact_ms, 0.5),
    }
    print(f"  {row}", flush=True)
    return row
