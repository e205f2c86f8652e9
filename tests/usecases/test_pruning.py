"""The history is kept for some days, and what still holds is kept for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.domain.errors import DecisionConflictError, NotFoundError
from service.domain.types import ClusterId
from service.store.blob.folder import FolderBlobStore
from service.store.face.pruning import Pruning
from service.usecases.people import NewHome
from tests.support.databases import Databases
from tests.support.decided_house import HEALTHY, TENANT, House, people_of_three

_INVERSES = ("change_face", "change_cluster", "change_decision", "change_review")


@pytest.fixture
async def house(databases: Databases, uploads: Path) -> House:
    return House(await databases.filled(people_of_three, uploads), FolderBlobStore(uploads))


async def age(house: House, days: int) -> None:
    """Let everything that happened so far have happened some days before."""
    async with house.database.maintenance() as owner:
        await owner.execute(
            "UPDATE change SET changed_at = changed_at - make_interval(0, 0, 0, $1)", days
        )


async def count(house: House, *tables: str) -> dict[str, int]:
    async with house.database.maintenance() as owner:
        return {each: await owner.fetchval(f"SELECT count(*) FROM {each}") for each in tables}


def keeping(house: House, days: int) -> Pruning:
    pruning = Pruning(house.database)
    pruning.follow(days)
    return pruning


async def test_old_changes_go_with_what_only_they_could_restore(house: House) -> None:
    ids = await house.ids()
    person, other, third, _ = ids
    face = ids[person][0]
    await house.move(face, other)
    await house.move(face, third, override=True)  # of the first word nothing is left
    (apart,) = [
        each
        for each in await house.history.decisions(TENANT, None, 10)
        if each.kind == "different" and set(each.people) == {third, other}
    ]
    await house.merge(third, other, override=True)
    await house.label(person, "Ada")
    old = await house.newest()
    await age(house, 8)
    await house.label(person, "Grace")
    new = await house.newest()
    before = await house.kept_apart()

    assert await keeping(house, 9).round()
    assert len(await house.history.page(TENANT, None, None, None, 10)) == 5
    assert await keeping(house, 0).round()
    assert len(await house.history.page(TENANT, None, None, None, 10)) == 5
    assert not await keeping(house, 7).round(most_rows=1)
    assert await keeping(house, 7).round()

    assert [each.number for each in await house.history.page(TENANT, None, None, None, 10)] == [new]
    with pytest.raises(NotFoundError):
        await house.undo(old)
    async with house.database.maintenance() as owner:
        for table in _INVERSES:
            numbers = await owner.fetch(f"SELECT DISTINCT change FROM {table}")
            assert {row["change"] for row in numbers} <= {new}
        left = await owner.fetchval("SELECT count(*) FROM decision_face WHERE left_by IS NOT NULL")
        kept = await owner.fetch("SELECT decision_id::text, is_active FROM decision")
    assert left == 0
    assert {row["is_active"] for row in kept} == {True}
    assert apart.decision_id not in {row["decision_id"] for row in kept}
    assert await house.kept_apart() == before
    assert await house.health() == HEALTHY
    await house.undo(new)


async def test_what_was_decided_holds_when_nothing_is_known_any_more_of_how(house: House) -> None:
    ids = await house.ids()
    person = next(iter(ids))
    home = await house.move(ids[person][0], NewHome.PERSON)
    await age(house, 1)
    async with house.database.maintenance() as owner:
        await owner.execute(
            "INSERT INTO kept_answer"
            " (tenant_id, idempotency_key, fingerprint, status, body, kept_at)"
            " SELECT $1, n::text, '', 200, '', now() - make_interval(0, 0, 0, 0, n) FROM"
            " generate_series(20, 30) AS n",
            TENANT,
        )
    assert await keeping(house, 1).round()
    assert await count(house, "change", "kept_answer") == {"change": 0, "kept_answer": 4}
    with pytest.raises(DecisionConflictError):
        await house.merge(home, person)
    assert (await house.people.person(TENANT, ClusterId(home))).faces == 1


async def test_a_tenant_that_is_being_changed_is_left_to_the_next_round(house: House) -> None:
    person, *_ = await house.ids()
    await house.label(person, "Ada")
    await age(house, 2)
    async with house.database.transaction(TENANT) as writing:
        await writing.execute("SELECT FROM tenant FOR UPDATE")
        assert await keeping(house, 1).round()
        assert await count(house, "change") == {"change": 1}
    assert await keeping(house, 1).round()
    assert await count(house, "change") == {"change": 0}
