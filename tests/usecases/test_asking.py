"""The look for questions: whom it asks about, and when the machine itself joins two people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import numpy as np
import pytest
from pgvector import HalfVector

from bench.common.crowd import SFACE, SPACE, Crowd, id_of, load
from service.domain.asking import AskingCounts, AskingPosition
from service.domain.errors import StoreUnavailableError
from service.domain.matching import fixed_rule
from service.domain.people import Person, PersonEdit
from service.domain.reviews import Answer, Question, Reply, ReviewKind
from service.domain.types import ClusterId, FaceId, ModelSpace, TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.asking import DatabaseAskingTurns, DoubtReader, QuestionWriter
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.usecases.asking import AskQuestions
from service.usecases.history import History
from service.usecases.people import People
from service.usecases.ports import Deferring
from service.usecases.reviews import Reviews
from tests.support.analysed import near, person
from tests.support.databases import Databases

TENANT = TenantId("asked")
# Ada is two people for the machine; a face of Cora is with Bea.
ADA, ADA_TOO, BEA, CORA, DORA = (ClusterId(str(id_of(n))) for n in range(5))
OTHER = ClusterId(str(UUID(int=600)))
_WHO = ((1, 0, 4), (1, 1, 3), (2, 2, 4), (3, 2, 1), (3, 3, 3), (4, 4, 3))
STRAY = FaceId(str(id_of(11)))


async def _people(database: Database, uploads: Path) -> None:
    who = [(name, cluster) for name, cluster, count in _WHO for _ in range(count)]
    faces = np.stack([near(person(name), 0.12, seed) for seed, (name, _) in enumerate(who)])
    clusters = np.array([cluster for _, cluster in who])
    async with database.maintenance() as owner:
        await load(owner, TENANT, Crowd(SFACE, faces, faces, clusters))


class Interrupted(Repository):
    """A store in which something happens between what a look reads and what it writes."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    @asynccontextmanager
    async def asking(
        self, tenant_id: TenantId, position: AskingPosition
    ) -> AsyncIterator[QuestionWriter]:
        happen, self.meanwhile = self.meanwhile, None
        if happen is not None:
            await happen()
        async with super().asking(tenant_id, position) as writer:
            yield writer


class NoLocks:
    """Counts pieces and rests, in which nobody may hold the tenant's lock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.pieces = self.rests = 0

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        """One more piece."""
        self.pieces += 1
        yield
        await self._check()

    async def rest(self) -> None:
        """One more rest."""
        self.rests += 1
        await self._check()

    async def _check(self) -> None:
        async with self._database.maintenance() as owner:
            await owner.execute("SELECT FROM tenant FOR UPDATE NOWAIT")


@dataclass
class Look:
    """Looks for questions in the tenant, and what there is then."""

    database: Database

    def __post_init__(self) -> None:
        repository = Interrupted(self.database, SearchSettings())
        self.people = People(repository)
        self.reviews = Reviews(repository)
        self.history = History(repository)
        self.repository = repository

    async def once(
        self,
        *,
        joins: bool = False,
        deference: Deferring | None = None,
    ) -> AskingCounts:
        """Look as the schedule does."""
        counts = await AskQuestions(
            self.repository,
            DatabaseAskingTurns(self.database),
            space=SPACE,
            rule=fixed_rule(0.3),
            joins=joins,
            deference=deference,
        )()
        assert counts is not None
        return counts

    async def end_the_turn(self) -> None:
        """Cut the connection that holds the turn."""
        async with self.database.maintenance() as owner:
            await owner.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_locks"
                " JOIN pg_database ON pg_database.oid = database"
                " WHERE locktype = 'advisory' AND datname = current_database()"
            )

    async def all(self) -> list[Question]:
        """The open questions."""
        return await self.reviews.page(TENANT, None, None, 100)

    async def open(self) -> dict[ReviewKind, Question]:
        """The open questions, which are one of each kind at most."""
        found = await self.all()
        kinds = {each.kind: each for each in found}
        assert len(kinds) == len(found)
        return kinds

    async def grow(
        self, cluster: ClusterId, name: int, count: int, first: int = 0, *, poor: bool = False
    ) -> None:
        """The machine adds faces to a person, or to a new one."""
        async with self.database.maintenance() as owner:
            await owner.execute(
                "INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, $2)"
                " ON CONFLICT DO NOTHING",
                TENANT,
                UUID(cluster),
            )
            for n in range(first, first + count):
                face = UUID(int=500 + n)
                await owner.execute(
                    "INSERT INTO image (tenant_id, image_id, format, width, height, size_bytes,"
                    " sha256, phash)"
                    " VALUES ($1, $2, 'jpeg', 9, 9, 9, repeat('0', 64), repeat('0', 16))",
                    TENANT,
                    face,
                )
                await owner.execute(
                    "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks,"
                    " area, confidence, is_auto_matched, is_matchable)"
                    " VALUES ($1, $2, $2, $3, '{1,2,3,4}',"
                    " '{1,1,1,1,1,1,1,1,1,1}', '{1,1,1,1}', 1, true, $4)",
                    TENANT,
                    face,
                    UUID(cluster),
                    not poor,
                )
                await owner.execute(
                    "INSERT INTO face_vector"
                    " (tenant_id, face_id, model_space, embedding, is_matchable)"
                    " VALUES ($1, $2, $3, $4, $5)",
                    TENANT,
                    face,
                    SPACE,
                    HalfVector(near(person(name), 0.12, 900 + n)),
                    not poor,
                )
            await owner.execute(
                "UPDATE tenant SET changes = changes + 1 WHERE tenant_id = $1", TENANT
            )


@pytest.fixture
async def look(databases: Databases, uploads: Path) -> Look:
    database = await databases.filled(_people, uploads)
    async with database.maintenance() as owner:  # as an insert does
        await owner.execute("UPDATE tenant SET changes = 1")
    return Look(database)


async def test_two_halves_of_a_person_and_a_stray_face_are_asked_about_once(look: Look) -> None:
    assert (await look.once()).questions == 2
    asked = await look.open()
    pair = asked[ReviewKind.SAME_PERSON]
    assert {each.person_id for each in pair.people} == {ADA, ADA_TOO}
    assert pair.settles == 12
    assert pair.similarity is not None
    assert pair.similarity > 0.5
    odd = asked[ReviewKind.ODD_FACE]
    assert odd.face is not None
    assert odd.face.face_id == STRAY
    assert [each.person_id for each in odd.people] == [BEA, CORA]
    assert odd.margin is not None
    assert odd.margin < 0
    # Nothing changed since: nobody is looked at.
    assert await look.once() == AskingCounts()
    await look.reviews.answer(TENANT, pair.review_id, Reply(Answer.DIFFERENT))
    await look.reviews.answer(TENANT, odd.review_id, Reply(Answer.NO))
    counts = await look.once()
    assert counts.people >= 4
    # Whose the stray face may be is a question of its own, but not whether it is Bea.
    asked = await look.open()
    assert {each.person_id for each in asked[ReviewKind.SAME_PERSON].people} & {CORA}
    assert not {each.person_id for each in asked[ReviewKind.SAME_PERSON].people} & {ADA, BEA}


async def test_what_was_put_off_is_asked_again_once_its_evidence_changes(look: Look) -> None:
    await look.once()
    pair = (await look.open())[ReviewKind.SAME_PERSON]
    await look.reviews.answer(TENANT, pair.review_id, Reply(Answer.NOT_SURE))
    await look.once()
    assert ReviewKind.SAME_PERSON not in await look.open()
    await look.grow(ADA_TOO, 1, 1)  # a third more
    await look.once()
    assert ReviewKind.SAME_PERSON not in await look.open()
    await look.grow(ADA_TOO, 1, 2, first=1)  # twice as many as then
    await look.once()
    again = (await look.open())[ReviewKind.SAME_PERSON]
    assert again.review_id == pair.review_id


async def test_what_is_put_off_while_it_is_measured_stays_so(look: Look) -> None:
    await look.once()
    pair = (await look.open())[ReviewKind.SAME_PERSON]
    await look.grow(ADA_TOO, 1, 1)  # a third more
    look.repository.meanwhile = lambda: look.reviews.answer(
        TENANT, pair.review_id, Reply(Answer.NOT_SURE)
    )
    await look.once()
    assert ReviewKind.SAME_PERSON not in await look.open()
    await look.grow(ADA_TOO, 1, 2, first=1)  # twice as many as when it was put off
    await look.once()
    assert (await look.open())[ReviewKind.SAME_PERSON].review_id == pair.review_id


async def test_the_machine_joins_the_sure_where_it_may_and_never_again(look: Look) -> None:
    counts = await look.once(joins=True)
    assert (counts.joined, counts.questions) == (1, 1)
    (change, *_) = await look.history.page(TENANT, None, "person.rejoined", None, 10)
    assert change.by_machine
    assert change.subject == {"person_id": ADA, "merged_person_id": ADA_TOO}
    assert (await look.people.person(TENANT, ADA)).faces == 7
    await look.history.undo(TENANT, change.number)
    assert (await look.people.person(TENANT, ADA_TOO)).faces == 3
    for _ in range(2):
        assert (await look.once(joins=True)).joined == 0
    assert ReviewKind.SAME_PERSON not in await look.open()


async def test_whom_the_machine_could_not_join_stays_asked_about(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(tenant_id: TenantId) -> NoReturn:
        raise StoreUnavailableError("The database does not answer.")

    with monkeypatch.context() as away:
        away.setattr(look.repository, "writing", lost)
        assert (await look.once(joins=True)).failures == 1
    pair = (await look.open())[ReviewKind.SAME_PERSON]
    assert {each.person_id for each in pair.people} == {ADA, ADA_TOO}
    await look.grow(ADA, 1, 1)
    assert (await look.once(joins=True)).joined == 1
    assert ReviewKind.SAME_PERSON not in await look.open()


@pytest.mark.parametrize("lost", [False, True])
async def test_one_tenant_that_fails_does_not_hold_up_those_behind_it(
    look: Look, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    reads, failing = look.repository.doubting, TenantId("a")
    async with look.database.maintenance() as owner:
        await owner.execute("INSERT INTO tenant (tenant_id, changes) VALUES ($1, 1)", failing)

    @asynccontextmanager
    async def doubting(tenant_id: TenantId, space: ModelSpace) -> AsyncIterator[DoubtReader]:
        async with reads(tenant_id, space) as reader:
            if tenant_id == failing:
                if lost:
                    await look.end_the_turn()
                raise StoreUnavailableError("The database does not answer.")
            yield reader

    monkeypatch.setattr(look.repository, "doubting", doubting)
    if lost:  # another process may look by now
        with pytest.raises(StoreUnavailableError):
            await look.once()
        assert not await look.all()
    else:
        counts = await look.once()
        assert (counts.questions, counts.failures) == (2, 1)


async def test_what_a_turn_left_is_looked_at_in_the_next_one(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.usecases.asking._LOOKS_PER_TENANT", 1)
    monkeypatch.setattr("service.store.face.asking._ROWS_AT_ONCE", 2)
    await look.people.edit(TENANT, ADA, PersonEdit(label="Ada"), None)  # looked at in the first one
    rounds = 0
    while await look.once() != AskingCounts():
        rounds += 1
    assert rounds == 3  # of five people with 18 faces
    assert (await look.open()).keys() == {ReviewKind.SAME_PERSON, ReviewKind.ODD_FACE}


async def test_a_look_goes_in_pieces_and_holds_no_lock_between_them(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.usecases.asking._PROBES_AT_ONCE", 1)
    monkeypatch.setattr("service.usecases.asking._PEOPLE_AT_ONCE", 1)
    deference = NoLocks(look.database)
    assert await look.once(joins=True, deference=deference) == AskingCounts(5, 1, 1)
    # What is asked is read; each of five people is read, searched for and looked through; nine
    # suspects and smaller ones of pairs are searched for; what was found is measured and written,
    # and one is joined.
    assert (deference.pieces, deference.rests) == (1 + 3 * 5 + 9 + 3, 1)


async def test_all_are_looked_at_anew_by_a_limit_that_changes_during_a_look(look: Look) -> None:
    async with look.database.maintenance() as owner:
        look.repository.meanwhile = lambda: owner.execute(SQL["set_match_factor"], TENANT, 2.0)
        assert (await look.once()).people == 5
    assert (await look.once()).people == 5
    assert await look.once() == AskingCounts()


async def test_the_machine_joins_nobody_of_whom_people_spoke(look: Look) -> None:
    await look.people.edit(TENANT, ADA, PersonEdit(label="Ada"), None)
    await look.people.edit(TENANT, ADA_TOO, PersonEdit(label="Ada Lovelace"), None)
    counts = await look.once(joins=True)
    assert (counts.joined, counts.questions) == (0, 2)
    # Two names are hardly one person.
    assert (await look.open())[ReviewKind.SAME_PERSON].chance < 0.3


async def test_people_on_one_photo_are_not_asked_about(look: Look) -> None:
    async with look.database.maintenance() as owner:
        await owner.execute(
            "UPDATE face SET image_id = $1 WHERE face_id = $2", UUID(int=1), UUID(int=5)
        )
    await look.once()
    assert ReviewKind.SAME_PERSON not in await look.open()


async def test_a_face_that_a_person_placed_is_never_odd(look: Look) -> None:
    await look.people.move_face(TENANT, STRAY, BEA)
    await look.once()
    assert ReviewKind.ODD_FACE not in await look.open()


async def test_a_face_that_was_joined_alone_is_never_odd(look: Look) -> None:
    await look.grow(OTHER, 5, 1)
    await look.people.merge(TENANT, OTHER, BEA, None)
    await look.once()
    odd = [each.face for each in await look.all() if each.kind is ReviewKind.ODD_FACE]
    assert [each and each.face_id for each in odd] == [STRAY]


async def test_who_was_split_off_is_asked_by_those_near_until_they_are_said_to_be_others(
    look: Look,
) -> None:
    made = await look.people.split(TENANT, BEA, [STRAY], PersonEdit(), None)
    assert isinstance(made, Person)
    await look.once()
    about = [each for each in await look.all() if each.people[0].person_id == made.person_id]
    (who,) = [each for each in about if each.kind is ReviewKind.NEW_PERSON]
    assert who.settles == 3  # the faces of Cora
    assert who.chance > 0.5
    pairs = [each for each in await look.all() if each.kind is ReviewKind.SAME_PERSON]
    (pair,) = [
        each for each in pairs if {one.person_id for one in each.people} == {made.person_id, CORA}
    ]
    await look.reviews.answer(TENANT, pair.review_id, Reply(Answer.DIFFERENT))
    await look.once()
    (who,) = [each for each in await look.all() if each.review_id == who.review_id]
    assert who.chance < 0.01


async def test_a_person_of_one_poor_face_is_asked_about_but_not_joined_by_the_machine(
    look: Look,
) -> None:
    await look.grow(OTHER, 4, 1, poor=True)
    assert (await look.once(joins=True)).joined == 1  # both halves of Ada
    pair = (await look.open())[ReviewKind.SAME_PERSON]
    assert {each.person_id for each in pair.people} == {DORA, OTHER}
    assert pair.settles == 3
    # Nor is Dora joined to it once it has a name, which makes her the one that would go.
    await look.people.edit(TENANT, OTHER, PersonEdit(label="Dora"), None)
    assert (await look.once(joins=True)).joined == 0
    assert (await look.people.person(TENANT, DORA)).faces == 3


async def test_the_machine_joins_one_who_changed_with_one_who_did_not(look: Look) -> None:
    await look.once()
    await look.grow(OTHER, 4, 4)  # more than Dora has, who goes
    assert (await look.once(joins=True)).joined == 1
    assert (await look.people.person(TENANT, OTHER)).faces == 7


async def test_of_a_person_of_two_faces_one_is_asked_about_until_it_is_answered(
    look: Look,
) -> None:
    await look.grow(OTHER, 5, 1)
    await look.grow(OTHER, 6, 1, first=1)
    await look.once()
    odd = [each for each in await look.all() if each.people[0].person_id == OTHER]
    assert [each.kind for each in odd] == [ReviewKind.ODD_FACE]
    assert odd[0].settles == 1
    await look.once()
    assert [each.review_id for each in odd] == [
        each.review_id for each in await look.all() if each.people[0].person_id == OTHER
    ]
    await look.reviews.answer(TENANT, odd[0].review_id, Reply(Answer.YES))
    await look.once()
    assert not [each for each in await look.all() if each.people[0].person_id == OTHER]


async def test_two_people_in_one_are_asked_about_as_a_half_of_the_faces(look: Look) -> None:
    await look.grow(OTHER, 5, 6)
    await look.grow(OTHER, 6, 5, first=6)
    await look.once()
    asked = [each for each in await look.all() if each.people[0].person_id == OTHER]
    assert [each.kind for each in asked] == [ReviewKind.ODD_FACE] * len(asked)
    assert [each.settles for each in asked] == [30] + [10] * (len(asked) - 1)
    await look.reviews.answer(TENANT, asked[0].review_id, Reply(Answer.YES))
    await look.once()
    # Nor are the others of the half strangers then.
    again = [each for each in await look.all() if each.people[0].person_id == OTHER]
    assert {each.settles for each in again} == {10}


async def test_a_question_keeps_the_evidence_that_no_change_concerns(look: Look) -> None:
    await look.grow(OTHER, 5, 6)
    await look.grow(OTHER, 6, 5, first=6)
    await look.once()
    before = {each.review_id: each for each in await look.all()}
    half = next(each for each in before.values() if each.settles == 30)
    pair = next(each for each in before.values() if each.kind is ReviewKind.SAME_PERSON)
    assert pair.other_distance is not None
    await look.grow(half.people[1].person_id, 4, 1, first=11)
    await look.grow(ADA_TOO, 1, 1, first=12)
    await look.once()
    after = {each.review_id: each for each in await look.all()}
    again = after[half.review_id]
    assert (again.settles, again.chance) == (half.settles, half.chance)
    assert (again.distance, again.similarity) == (half.distance, half.similarity)
    assert again.other_distance != half.other_distance
    assert after[pair.review_id].settles > pair.settles
    assert after[pair.review_id].other_distance is not None


async def test_questions_are_measured_anew_by_worth_and_where_much_changed(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.face.asking._MOST_QUESTIONS", 1)
    await look.once()
    await look.grow(OTHER, 4, 21)
    await look.once()
    (pair,) = [each for each in await look.all() if each.settles == 63]
    async with look.database.maintenance() as owner:
        await owner.execute(
            "INSERT INTO review (tenant_id, cluster_id) VALUES ($1, $2)", TENANT, UUID(OTHER)
        )
    for more, settles in ((1, 63), (3, 75)):
        await look.grow(OTHER, 4, more, first=21 + 10 * more)
        await look.once()
        found = {each.kind: each for each in await look.all() if each.people[0].person_id == DORA}
        assert found[ReviewKind.SAME_PERSON].review_id == pair.review_id
        assert found[ReviewKind.SAME_PERSON].settles == settles
    who = next(each for each in await look.all() if each.kind is ReviewKind.NEW_PERSON)
    assert who.settles == 1  # of less worth
