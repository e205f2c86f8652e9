"""Questions are listed and handed out at the same cost, however many are open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.domain.reviews import QuestionPosition, ReviewKind
from service.domain.types import TenantId
from service.store.database.database import Database
from service.store.face.reviews import ReviewLeases, ReviewReader
from tests.support.databases import Databases

FEW, MANY = TenantId("few"), TenantId("many")
OPEN = {FEW: 10, MANY: 100_000}
PAGE = 100


async def _ten_and_very_many(database: Database, uploads: Path) -> None:
    """A tenant with ten questions, and one with ten thousand times as many."""
    async with database.maintenance() as owner:
        for tenant, number in OPEN.items():
            await owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", tenant)
            await owner.execute(
                "WITH made AS ("
                " INSERT INTO cluster (tenant_id, cluster_id)"
                " SELECT $1, gen_random_uuid() FROM generate_series(1, $2::integer)"
                " RETURNING cluster_id"
                "), numbered AS (SELECT cluster_id, row_number() OVER () AS n FROM made)"
                " INSERT INTO review (tenant_id, cluster_id, other_cluster_id, kind, faces, chance)"
                " SELECT $1, one.cluster_id, CASE WHEN one.n % 2 = 0 THEN other.cluster_id END,"
                "  CASE WHEN one.n % 2 = 0 THEN 'same_person' ELSE 'new_person' END,"
                "  one.n * 7919 % 50, (one.n * 104729 % 1000) / 1000.0"
                " FROM numbered AS one JOIN numbered AS other ON other.n = one.n - 1 + one.n % 2",
                tenant,
                number,
            )
        await owner.execute("ANALYZE review")
        await owner.execute("ANALYZE cluster")


@pytest.fixture
async def asked(databases: Databases, uploads: Path) -> Database:
    return await databases.filled(_ten_and_very_many, uploads)


class _Explained:
    """A connection that counts the rows that statements read; it runs each of them twice."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.rows = 0

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        (found,) = json.loads(await self._connection.fetchval(explained, *arguments))
        self.rows += _rows_read(found["Plan"])
        return await self._connection.fetch(statement, *arguments)

    async def fetchrow(self, *arguments: Any) -> asyncpg.Record:
        return await self._connection.fetchrow(*arguments)

    async def execute(self, *arguments: Any) -> str:
        return await self._connection.execute(*arguments)


def _rows_read(plan: dict[str, Any]) -> int:
    own = 0
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        passed = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        own = round(passed * plan["Actual Loops"])
    return own + sum(_rows_read(each) for each in plan.get("Plans", []))


async def test_a_page_of_questions_reads_little_more_than_itself(asked: Database) -> None:
    for tenant, number in OPEN.items():
        async with asked.snapshot(tenant) as connection:
            explained = _Explained(connection)
            reader = ReviewReader(explained, tenant)  # type: ignore[arg-type]
            first = await reader.page(None, None, PAGE)
            await reader.page(ReviewKind.SAME_PERSON, None, PAGE)
            if first:
                position = QuestionPosition(first[-1].worth, first[-1].review_id)
                second = await reader.page(None, position, PAGE)
                assert not {each.review_id for each in second} & {each.review_id for each in first}
        worths = [(each.worth, each.review_id) for each in first]
        assert worths == sorted(worths, reverse=True)
        assert len(first) == min(PAGE, number)
        # For each question: itself twice, its people, and its place in the range of another kind.
        assert explained.rows <= 3 * 6 * PAGE


async def test_handing_out_costs_the_same_with_any_number_of_questions(asked: Database) -> None:
    read = {}
    for tenant in OPEN:
        async with asked.transaction(tenant) as connection:
            explained = _Explained(connection)
            leases = ReviewLeases(explained, tenant)  # type: ignore[arg-type]
            given = await leases.lease("me", 10, 60)
            others = await leases.lease("you", 10, 60)
        assert len(given) == 10
        assert not {each.review_id for each in given} & {each.review_id for each in others}
        read[tenant] = explained.rows
    assert read[MANY] <= 1.5 * (read[FEW] + 10 * 6)
