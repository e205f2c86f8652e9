"""The layout of the first release: one HNSW index for all tenants, filtered by tenant."""

from __future__ import annotations

import time

import asyncpg
import numpy as np
from pgvector import HalfVector

from bench.common.crowd import Crowd, Vectors, id_of, number_of
from service.domain.types import TenantId
from service.store.database.database import Database
from service.store.face.indexer import IndexSettings

# As the first release had it.
M, EF_CONSTRUCTION = 16, 64
_INDEX = "plain_hnsw"

_TABLE = """
CREATE TABLE plain_face (tenant_id text, face_id uuid, embedding halfvec(512));
GRANT SELECT ON plain_face TO facette_service
"""
# Planned for each query: else the plan that is explained need not be the one that is run.
_SETTINGS = """
SELECT set_config('hnsw.ef_search', $1::integer::text, true),
       set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('plan_cache_mode', 'force_custom_plan', true)
"""
_SEARCH = """
SELECT face_id FROM plain_face WHERE tenant_id = $1 ORDER BY embedding <=> $2 LIMIT $3
"""


async def make_table(connection: asyncpg.Connection) -> None:
    """Make the table, on a connection of the tables' owner."""
    await connection.execute(_TABLE)


async def load(connection: asyncpg.Connection, tenant: TenantId, people: Crowd) -> None:
    """Store the vectors of a tenant."""
    await connection.copy_records_to_table(
        "plain_face",
        records=(
            (tenant, id_of(face), HalfVector(vector)) for face, vector in enumerate(people.faces)
        ),
    )


async def build(connection: asyncpg.Connection, settings: IndexSettings) -> dict[str, float]:
    """Build the index, with the memory and the processes of the settings alone."""
    await connection.execute(
        f"SET maintenance_work_mem = '{settings.build_memory_mb}MB';"
        f"SET max_parallel_maintenance_workers = {settings.build_workers}"
    )
    began = time.monotonic()
    await connection.execute(
        f"CREATE INDEX {_INDEX} ON plain_face USING hnsw (embedding halfvec_cosine_ops)"
        f" WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
    )
    seconds = time.monotonic() - began
    size_bytes = await connection.fetchval(f"SELECT pg_relation_size('{_INDEX}')")
    return {"seconds": seconds, "mb": size_bytes / 1e6, "indexes": 1}


async def is_used(
    database: Database, tenant: TenantId, query: Vectors, limit: int, ef_search: int
) -> bool:
    """Whether the planner takes the index for a tenant, and not all of its vectors."""
    async with database.transaction(tenant) as connection:
        await connection.execute(_SETTINGS, ef_search)
        plan = await connection.fetch(f"EXPLAIN {_SEARCH}", tenant, HalfVector(query), limit)
    return _INDEX in str(plan)


async def search(
    connection: asyncpg.Connection, tenant: TenantId, query: Vectors, limit: int, ef_search: int
) -> list[int]:
    """The tenant's faces that are found, nearest first, in a transaction of the tenant's.

    query: float32 [512], a unit vector.
    """
    await connection.execute(_SETTINGS, ef_search)
    rows = await connection.fetch(_SEARCH, tenant, HalfVector(np.asarray(query)), limit)
    return [number_of(str(row["face_id"])) for row in rows]
