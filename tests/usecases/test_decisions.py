"""Decisions hold whatever is done later, and whatever was done can be undone and done again."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from service.domain.decisions import DecisionKind
from service.domain.errors import (
    ChangeForGoodError,
    ChangeInUseError,
    ChangeUndoneError,
    DecisionConflictError,
    FacetteError,
    MergedPersonError,
    NotFoundError,
)
from service.domain.types import ClusterId, FaceId, ImageId
from service.store.blob.folder import FolderBlobStore
from service.usecases.people import NewHome
from tests.support.databases import Databases
from tests.support.decided_house import (
    HEALTHY,
    TENANT,
    House,
    add_photo,
    change_anything,
    people_of_three,
)

HISTORY = ("change_face", "change_cluster", "change_decision", "change_review")


@pytest.fixture
async def house(databases: Databases, uploads: Any) -> House:
    database = await databases.filled(people_of_three, uploads)
    return House(database, FolderBlobStore(uploads))


@pytest.mark.parametrize("seed", range(12))
async def test_any_history_is_undone_step_by_step_and_done_again(house: House, seed: int) -> None:
    chosen = random.Random(seed)
    changes, states = [], [await house.state()]
    while len(changes) < 8:
        before = await house.newest() if changes else None
        try:
            await change_anything(house, chosen)
        except FacetteError:
            assert await house.state() == states[-1]
            continue
        if (newest := await house.newest()) != before:
            changes.append(newest)
            states.append(await house.state())
    undone = []
    for step in reversed(range(8)):
        undone.append(await house.undo(changes[step]))
        assert await house.state() == states[step], step
    with pytest.raises(ChangeUndoneError):
        await house.undo(changes[0])
    for step, change in enumerate(reversed(undone)):
        await house.undo(change)
        assert await house.state() == states[step + 1], step
    await house.undo(changes[-1])
    assert await house.state() == states[-2]
    assert await house.health() == HEALTHY


@pytest.mark.parametrize("seed", range(5))
async def test_decisions_fit_the_faces_whatever_is_changed_undone_and_erased(
    house: House, seed: int
) -> None:
    """In any order; and nothing speaks of what was erased."""
    chosen = random.Random(seed)
    done = refused = 0
    for nth in range(30):
        before = await house.state()
        try:
            if nth % 3 == 0:
                pages = await house.history.page(TENANT, None, None, None, 100)
                await house.undo(chosen.choice(pages).number if pages else 1)
            elif nth % 8 == 7:
                await _erase_anything(house, chosen)
            else:
                await change_anything(house, chosen)
        except FacetteError:
            refused += 1
            assert await house.state() == before
        else:
            done += 1
        assert await house.health() == HEALTHY, nth
    assert done > 8
    assert refused > 3


async def _erase_anything(house: House, chosen: random.Random) -> None:
    ids = await house.ids()
    person = chosen.choice(list(ids))
    if chosen.random() < 0.3:
        await house.curate.delete_person(TENANT, ClusterId(person), None)
    else:
        await house.curate.delete_face(TENANT, FaceId(chosen.choice(ids[person])))


async def test_a_change_is_not_undone_against_what_was_decided_since(house: House) -> None:
    ids = await house.ids()
    person, other, *_ = ids
    await house.move(ids[person][0], other)
    moved = await house.newest()
    await house.people.confirm(TENANT, ClusterId(other), [], None)
    before = await house.state()
    with pytest.raises(ChangeInUseError, match="decided about its faces since"):
        await house.undo(moved)
    assert await house.state() == before
    await house.undo()
    await house.undo(moved)
    assert await house.ids() == ids


async def test_erasing_a_face_that_was_confirmed_where_it_was_leaves_no_trace(house: House) -> None:
    ids = await house.ids()
    person = next(iter(ids))
    face = ids[person][0]
    for _ in range(2):
        await house.move(face, person)
    assert [each.kind for each in await house.history.page(TENANT, None, None, None, 9)] == [
        "face.confirmed"
    ] * 2
    receipt = await house.curate.delete_face(TENANT, FaceId(face))
    assert receipt.changes == 2
    assert await house.health() == HEALTHY


async def test_a_face_that_is_not_a_person_is_kept_apart_until_somebody_overrides_it(
    house: House,
) -> None:
    ids = await house.ids()
    person, other, *_ = ids
    face = ids[person][0]
    home = await house.move(face, NewHome.UNKNOWN)
    assert (home, person) in await house.kept_apart()
    for act in (house.merge(home, person), house.merge(person, home), house.move(face, person)):
        with pytest.raises(DecisionConflictError) as conflict:
            await act
        assert len(conflict.value.decisions) == 1
    # It follows both when they become parts of other people.
    await house.merge(home, other)
    assert (other, person) in await house.kept_apart()
    with pytest.raises(DecisionConflictError):
        await house.merge(person, other)
    await house.merge(person, other, override=True)
    assert await house.kept_apart() == set()
    assert list(await house.ids()) != list(ids)
    with pytest.raises(MergedPersonError):
        await house.people.person(TENANT, ClusterId(person))
    await house.undo()
    assert (other, person) in await house.kept_apart()


async def test_a_face_that_a_person_placed_leaves_only_by_the_last_word(house: House) -> None:
    ids = await house.ids()
    person, other, third, _ = ids
    face = ids[person][0]
    await house.move(face, other)
    with pytest.raises(DecisionConflictError):
        await house.move(face, third)
    with pytest.raises(DecisionConflictError):
        await house.split(other, [face])
    await house.move(face, third, override=True)
    # Of the first word nothing is left that could contradict the second one.
    assert (third, other) in await house.kept_apart()
    assert (other, person) not in await house.kept_apart()


async def test_a_face_that_only_stood_for_its_person_leaves_without_a_word(house: House) -> None:
    ids = await house.ids()
    person, other, third, _ = ids
    await house.merge(person, other)  # the faces of both stand for them
    face = ids[person][0]
    await house.move(face, third)
    assert (await house.ids())[third].count(face) == 1


async def test_what_was_decided_is_listed_and_can_be_retracted(house: House) -> None:
    ids = await house.ids()
    person, other, *_ = ids
    face = ids[person][0]
    home = await house.move(face, NewHome.PERSON)
    (decision,) = await house.history.decisions(TENANT, None, 10)
    assert decision.kind is DecisionKind.DIFFERENT
    assert decision.faces == (face,)
    assert set(decision.others) == set(ids[person]) - {face}
    assert set(decision.people) == {home, person}
    before = await house.state()
    change = await house.history.retract(TENANT, decision.decision_id)
    assert await house.history.decisions(TENANT, None, 10) == []
    await house.merge(home, person)
    await house.undo()
    await house.undo(change.number)
    assert await house.state() == before
    with pytest.raises(NotFoundError):
        await house.history.retract(TENANT, type(decision.decision_id)(str(uuid4())))
    assert other in await house.ids()


async def test_what_later_changes_build_on_is_not_undone(house: House) -> None:
    ids = await house.ids()
    person, other, third, _ = ids
    face = ids[person][0]
    await house.move(face, other)
    first = await house.newest()
    await house.move(face, third, override=True)
    with pytest.raises(ChangeInUseError, match="moved again"):
        await house.undo(first)
    await house.label(other, "Ada")
    label = await house.newest()
    await house.label(other, "Grace")
    with pytest.raises(ChangeInUseError, match="label of a person was changed again"):
        await house.undo(label)
    new = await house.split(other, ids[other][:1])
    split = await house.newest()
    await house.move(ids[third][0], new)
    with pytest.raises(ChangeInUseError, match="more faces"):
        await house.undo(split)
    await house.undo()
    await house.undo(split)
    with pytest.raises(NotFoundError):
        await house.undo(1)


async def test_a_merge_is_undone_though_the_machine_added_faces_since(house: House) -> None:
    ids = await house.ids()
    person, other, *_ = ids
    await house.label(person, "Ada")
    await house.merge(person, other)
    merge = await house.newest()
    async with house.database.maintenance() as owner:
        await add_photo(owner, UUID(int=999), [UUID(other)], 9000)
    await house.undo(merge)
    after = await house.ids()
    assert after[person] == ids[person]
    assert after[other] == [*ids[other], str(UUID(int=9000))]
    assert (await house.people.person(TENANT, ClusterId(person))).label == "Ada"
    assert (await house.people.person(TENANT, ClusterId(other))).label is None


async def test_the_history_says_what_can_be_undone(house: House) -> None:
    person, other, *_ = await house.ids()
    await house.label(person, "Ada")
    await house.merge(other, person)
    undo = await house.undo()
    newest, merge, label = await house.history.page(TENANT, None, None, None, 10)
    assert [newest.kind, merge.kind, label.kind] == [
        "change.undone",
        "person.merged",
        "person.changed",
    ]
    assert (newest.number, newest.undoes) == (undo, merge.number)
    assert (merge.undone_by, label.undone_by) == (undo, None)
    assert "Ada" not in str(label.subject)
    about = await house.history.page(TENANT, None, None, ClusterId(other), 10)
    assert [each.kind for each in about] == ["change.undone", "person.merged"]
    assert await house.history.page(TENANT, None, "person.changed", None, 10) == [label]
    await house.curate.delete_image(TENANT, ImageId(str(UUID(int=100))))
    with pytest.raises(ChangeForGoodError):
        await house.undo()


async def test_erasing_a_person_leaves_no_trace_in_decisions_and_history(house: House) -> None:
    ids = await house.ids()
    person, other, third, _ = ids
    await house.label(person, "Ada")
    await house.merge(other, person)
    await house.move(ids[person][0], third)
    await house.move(ids[third][0], NewHome.UNKNOWN)
    receipt = await house.curate.delete_person(TENANT, ClusterId(person), None)
    assert receipt.decisions == 2  # that both were one, and that a face was none of theirs
    assert receipt.changes == 3
    erased = {person, other, *ids[person][1:], *ids[other]}
    async with house.database.maintenance() as owner:
        told = await owner.fetch("SELECT kind, subject::text FROM change")
        for table in ("decision_face", *HISTORY):
            rows = await owner.fetch(f"SELECT to_jsonb({table})::text FROM {table}")
            assert not [row for row in rows if any(each in row[0] for each in erased)], table
    speaks = [row["kind"] for row in told if any(each in row["subject"] for each in erased)]
    assert speaks == ["person.deleted"]
    assert "Ada" not in str(told)


async def test_erasing_a_face_takes_it_out_of_what_the_history_says_of_others(
    house: House,
) -> None:
    ids = await house.ids()
    person = next(iter(ids))
    await house.split(person, ids[person][:2])
    receipt = await house.curate.delete_face(TENANT, FaceId(ids[person][0]))
    assert (receipt.decisions, receipt.changes) == (1, 0)  # the two that were together
    async with house.database.maintenance() as owner:
        subject = await owner.fetchval("SELECT subject FROM change WHERE kind = 'person.split'")
    assert orjson.loads(subject)["face_ids"] == [ids[person][1]]
