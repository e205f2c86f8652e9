"""A page of people costs the same in a tenant of any size: it is read from an index, in order."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.domain.people import PeopleFilter, PeopleOrder, PeoplePosition
from service.domain.types import TenantId
from service.store.database.database import Database
from service.store.face.people import PeopleReader

TENANT = TenantId("crowded")
PEOPLE = 20_000
PAGE = 50


@pytest.fixture
async def crowded(database: Database) -> Database:
    """A tenant with people of all kinds, and another tenant with as many."""
    async with database.maintenance() as owner:
        for tenant in (TENANT, "other"):
            await owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", tenant)
            await owner.execute(
                "INSERT INTO cluster (tenant_id, cluster_id, faces, label, label_key, hidden,"
                " last_face_at)"
                " SELECT $1, gen_random_uuid(), n * 7919 % 1000, name, lower(name), n % 13 = 0,"
                " now() - n * interval '1 minute'"
                " FROM generate_series(1, $2::integer) AS n"
                " CROSS JOIN LATERAL ("
                "  SELECT CASE WHEN n % 7 = 0 THEN 'Name ' || n END AS name"
                ") AS labelled",
                tenant,
                PEOPLE,
            )
        await owner.execute("ANALYZE cluster")
    return database


class _Explained:
    """A connection that notes the plan of each statement."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.plans: list[dict[str, Any]] = []

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        (found,) = json.loads(await self._connection.fetchval(explained, *arguments))
        self.plans.append(found["Plan"])
        return await self._connection.fetch(statement, *arguments)


def _rows_read(plan: dict[str, Any]) -> int:
    """Rows that the scans of a plan looked at, those that they removed included."""
    own = 0
    if "Relation Name" in plan:
        passed = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        own = round(passed * plan["Actual Loops"])
    return own + sum(_rows_read(each) for each in plan.get("Plans", []))


FILTERS = (
    PeopleFilter(),
    PeopleFilter(hidden=None),
    PeopleFilter(labelled=True),
    PeopleFilter(labelled=False, hidden=True),
)


@pytest.mark.parametrize("order", list(PeopleOrder))
async def test_a_page_reads_little_more_than_its_people(
    crowded: Database, order: PeopleOrder
) -> None:
    for which in FILTERS:
        if order is PeopleOrder.LABEL and which.labelled is False:
            continue
        async with crowded.snapshot(TENANT) as connection:
            explained = _Explained(connection)
            reader = PeopleReader(explained, TENANT)  # type: ignore[arg-type]
            first = await reader.people(order, which, None, PAGE)
            assert len(first) == PAGE
            last = first[-1]
            value = {
                PeopleOrder.FACES: last.faces,
                PeopleOrder.LABEL: last.label_key,
                PeopleOrder.RECENCY: last.last_face_at,
            }[order]
            assert value is not None
            behind = PeoplePosition(value, UUID(last.person_id))
            second = await reader.people(order, which, behind, PAGE)
        assert not {each.person_id for each in first} & {each.person_id for each in second}
        for plan in explained.plans:
            # One range of the index for each combination of hidden and labelled.
            assert _rows_read(plan) <= 4 * (PAGE + 1), json.dumps(plan, indent=1)


async def test_a_prefix_reads_its_people_alone(crowded: Database) -> None:
    async with crowded.snapshot(TENANT) as connection:
        explained = _Explained(connection)
        reader = PeopleReader(explained, TENANT)  # type: ignore[arg-type]
        found = await reader.people(PeopleOrder.LABEL, PeopleFilter(prefix="NAME 77"), None, PAGE)
    assert found
    assert all((each.label or "").startswith("Name 77") for each in found)
    (plan,) = explained.plans
    assert _rows_read(plan) <= len(found) + 2
