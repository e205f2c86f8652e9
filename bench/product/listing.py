"""A page of people in a small tenant and in a large one."""

from __future__ import annotations

import time
from datetime import datetime
from uuid import UUID

from bench.common.measure import Samples, percentile
from bench.product.place import Part, Place
from service.domain.people import PeopleFilter, PeopleOrder, PeoplePosition
from service.domain.types import TenantId
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.usecases.people import People

_FEW, _MANY = 100, 100_000
_PAGE = 50
_PAGES, _QUICK_PAGES = 100, 5
# Half of the people have a label, so that all three orders have two pages.
_STATEMENT = """
INSERT INTO cluster (tenant_id, cluster_id, faces, last_face_at, label, label_key)
SELECT $1, gen_random_uuid(), n * 7919 % 997, now() - n * interval '1 second', name, lower(name)
FROM generate_series(1, $2::integer) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 2 = 0 THEN 'Person ' || n END AS name) AS labelled
"""


async def measure(place: Place) -> Part:
    """Fill two tenants, and read pages of both in turn, the first and one behind it."""
    many = max(2 * _FEW, round(_MANY * place.scale))
    async with place.database.maintenance() as connection:
        for size in (_FEW, many):
            await connection.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", _tenant(size))
            await connection.execute(_STATEMENT, _tenant(size), size)
        await connection.execute("VACUUM (ANALYZE) cluster")
    people = People(Repository(place.database, SearchSettings()))
    took: dict[int, list[float]] = {_FEW: [], many: []}
    for number in range(place.effort.rounds + 1):
        ms: dict[int, list[float]] = {size: [] for size in took}
        for _ in range(_QUICK_PAGES if place.effort.quick else _PAGES):
            for order in PeopleOrder:
                for size in took:  # in turn: what else runs here slows both down
                    ms[size].append(await _two_pages(people, size, order))
        if number > 0:  # the first round warms up
            for size, all_ms in ms.items():
                took[size].append(1e3 / percentile(all_ms, 0.5))
    few, large = f"two pages of {_FEW} people", f"two pages of {many:,} people"
    return Part(
        {few: Samples(tuple(took[_FEW])), large: Samples(tuple(took[many]))},
        {"people_page_100_over_100k": (few, large)},
        notes=[f"Pages: {_PAGE} people each, in all three orders, through the use case."],
    )


async def _two_pages(people: People, size: int, order: PeopleOrder) -> float:
    """Milliseconds for the first page and the one behind its first half."""
    began = time.perf_counter()
    first = await people.page(_tenant(size), order, PeopleFilter(), None, _PAGE)
    middle = first[len(first) // 2]
    value: int | str | datetime = middle.faces
    if order is not PeopleOrder.FACES:
        value = (middle.label_key or "") if order is PeopleOrder.LABEL else middle.last_face_at
    behind = PeoplePosition(value, UUID(middle.person_id))
    await people.page(_tenant(size), order, PeopleFilter(), behind, _PAGE)
    return (time.perf_counter() - began) * 1e3


def _tenant(size: int) -> TenantId:
    return TenantId(f"tenant of {size} people")
