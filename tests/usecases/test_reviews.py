"""Questions: each answer does what it says, can be undone, and is never asked for twice."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest

from service.domain.asking import AskedOddFace, AskedPair, AskingPosition, Evidence, Findings
from service.domain.errors import (
    DecisionConflictError,
    NotFoundError,
    RequestError,
    ReviewAnsweredError,
)
from service.domain.people import PersonEdit
from service.domain.reviews import ANSWERS, Answer, Question, Reply, ReviewKind
from service.domain.types import ClusterId, FaceId, ReviewId
from service.store.blob.folder import FolderBlobStore
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from tests.support.databases import Databases
from tests.support.decided_house import TENANT, House, people_of_three


class Asked(House):
    """A house in which the machine asks everything that it may."""

    async def ask(self) -> None:
        """Ask about all pairs of people and all faces; what follows from answers is left out."""
        ids = await self.ids()
        people = list(ids)
        pairs = tuple(
            AskedPair(ClusterId(one), ClusterId(other), Evidence(0.4, 0.6, 0.5, 3, 0.5))
            for one, other in combinations(people, 2)
        )
        odd = tuple(
            AskedOddFace(
                FaceId(face),
                ClusterId(person),
                ClusterId(next(each for each in people if each != person)),
                Evidence(0.6, 0.5, 0.3, 1, 0.7),
            )
            for person, faces in ids.items()
            for face in faces[:1]
            if len(people) > 1
        )
        repository = Repository(self.database, SearchSettings())
        async with repository.asking(TENANT, AskingPosition(0, 0, 1.0)) as writer:
            await writer.write(Findings(pairs, odd))

    async def open(self) -> list[Question]:
        """All open questions."""
        return [
            question
            for put_off in (False, True)
            for question in await self.reviews.page(TENANT, None, None, 100, put_off=put_off)
        ]

    async def one(self, kind: ReviewKind) -> Question:
        """Some question of a kind."""
        return (await self.reviews.page(TENANT, kind, None, 1))[0]

    async def reply(self, question: Question, answer: Answer, **more: Any) -> int:
        """Answer a question; the number of the change."""
        made = await self.reviews.answer(TENANT, question.review_id, Reply(answer, **more))
        return made.number  # type: ignore[union-attr]


@pytest.fixture
async def house(databases: Databases, uploads: Any) -> Asked:
    database = await databases.filled(people_of_three, uploads)
    house = Asked(database, FolderBlobStore(uploads))
    async with database.maintenance() as owner:  # as inserts ask
        await owner.execute(
            "INSERT INTO review (tenant_id, kind, cluster_id, face_id, distance, similarity)"
            " SELECT tenant_id, 'weak_match', cluster_id, face_id, 0.4, 0.6 FROM face"
            " WHERE image_id = $1",
            UUID(int=101),
        )
    await house.ask()
    return house


@dataclass
class Word:
    """What people said, kept apart from the database: by faces, as they were then.

    apart: pairs of faces. placed: faces of which a person said whose they are. known: the faces of
    people who were named.
    """

    apart: set[frozenset[str]] = field(default_factory=set)
    placed: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)

    def note(self, question: Question, reply: Reply, ids: dict[str, list[str]]) -> None:
        """Take note of an answer, with the faces that people had before."""
        own = ids[question.people[0].person_id]
        if question.kind is ReviewKind.NEW_PERSON:
            self.known |= set(own) if reply.answer is Answer.LABEL else set()
        elif question.kind is ReviewKind.SAME_PERSON:
            if reply.answer is Answer.DIFFERENT:
                other = ids[question.people[1].person_id]
                self.apart |= {frozenset((a, b)) for a in own for b in other}
        else:
            assert question.face is not None
            face = question.face.face_id
            others = set(own) - {face}
            if reply.answer is Answer.YES:
                self.placed |= {face} if others else set()
            else:
                # What the face stood for before, it does not stand for any more.
                self.apart = {each for each in self.apart if face not in each}
                self.apart |= {frozenset((face, each)) for each in others}
                self.known -= {face}

    def faults(self, asked: list[Question], ids: dict[str, list[str]]) -> Iterator[str]:
        """Questions that follow from what was said."""
        for question in asked:
            people = [each.person_id for each in question.people]
            if question.kind is ReviewKind.SAME_PERSON:
                one, other = people
                said = {frozenset((a, b)) for a in ids[one] for b in ids[other]} & self.apart
                if said or one == other:
                    yield f"{question}: {said}"
            elif question.face is not None:
                face = question.face.face_id
                if face not in ids[people[0]] or face in self.placed:
                    yield f"{question}: somebody placed it"
            elif self.known & set(ids[people[0]]):
                yield f"{question}: somebody said who it is"


def _some_reply(question: Question, ids: dict[str, list[str]], chosen: random.Random) -> Reply:
    answer = chosen.choice(ANSWERS[question.kind])
    others = [each for each in ids if each != question.people[0].person_id]
    person = ClusterId(chosen.choice(others or list(ids)))
    return Reply(answer, label=chosen.choice(["Ada", "Grace"]), person_id=person)


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_asked_that_follows_from_any_answers(house: Asked, seed: int) -> None:
    chosen = random.Random(seed)
    first = await house.state()
    word, before, changes = Word(), [Word()], []
    for _ in range(14):
        if changes and chosen.random() < 0.2:
            await house.undo(changes.pop())
            word = before.pop()
        else:
            questions = await house.open()
            if not questions:
                break
            question, ids = chosen.choice(questions), await house.ids()
            reply = _some_reply(question, ids, chosen)
            try:
                changes.append(
                    await house.reply(
                        question, reply.answer, label=reply.label, person_id=reply.person_id
                    )
                )
            except (DecisionConflictError, RequestError):
                continue
            before.append(copy.deepcopy(word))
            word.note(question, reply, ids)
        asked = await house.open()
        assert list(word.faults(asked, await house.ids())) == []
        if not changes or chosen.random() < 0.5:
            continue
        await house.ask()
        assert list(word.faults(await house.open(), await house.ids())) == []
    for change in reversed(changes):
        await house.undo(change)
    now = await house.state()
    assert {name: rows for name, rows in now.items() if name != "review"} == {
        name: rows for name, rows in first.items() if name != "review"
    }
    assert set(first["review"]) <= set(now["review"])


async def test_an_answer_is_one_change_and_its_undoing_brings_the_question_back(
    house: Asked,
) -> None:
    for kind, answers in ANSWERS.items():
        for answer in answers:
            before = await house.state()
            question = await house.one(kind)
            other = ClusterId(
                next(each for each in await house.ids() if each != question.people[0].person_id)
            )
            change = await house.reply(question, answer, label="Ada", person_id=other)
            made = (await house.history.page(TENANT, None, None, None, 1))[0]
            assert (made.number, made.kind) == (change, "review.answered")
            assert made.subject["answer"] == answer
            after = await house.state()
            assert after != before
            undone = await house.undo(change)
            assert await house.state() == before, (kind, answer)
            await house.undo(undone)
            assert await house.state() == after, (kind, answer)
            await house.undo(change)
            assert await house.state() == before, (kind, answer)


async def test_what_somebody_else_answered_is_told(house: Asked) -> None:
    question = await house.one(ReviewKind.SAME_PERSON)
    change = await house.reply(question, Answer.DIFFERENT)
    with pytest.raises(ReviewAnsweredError) as answered:
        await house.reply(question, Answer.SAME)
    assert (answered.value.change_id, answered.value.answer) == (str(change), "different")
    await house.undo(change)
    assert (await house.one(ReviewKind.SAME_PERSON)).review_id
    await house.reply(question, Answer.SAME)
    with pytest.raises(NotFoundError):
        await house.reviews.answer(TENANT, ReviewId(10**6), Reply(Answer.SAME))


async def test_a_question_that_another_change_settled_names_that_change(house: Asked) -> None:
    question = await house.one(ReviewKind.SAME_PERSON)
    one, other = (each.person_id for each in question.people)
    await house.merge(one, other)
    merge = await house.newest()
    with pytest.raises(ReviewAnsweredError) as answered:
        await house.reply(question, Answer.DIFFERENT)
    assert (answered.value.change_id, answered.value.answer) == (str(merge), None)


async def test_an_answer_that_is_none_of_the_question_changes_nothing(house: Asked) -> None:
    before = await house.state()
    for kind, answer in (
        (ReviewKind.NEW_PERSON, Answer.YES),
        (ReviewKind.NEW_PERSON, Answer.LABEL),
        (ReviewKind.NEW_PERSON, Answer.SAME),
        (ReviewKind.ODD_FACE, Answer.OTHER),
        (ReviewKind.SAME_PERSON, Answer.LABEL),
    ):
        with pytest.raises(RequestError):
            await house.reply(await house.one(kind), answer)
    assert await house.state() == before


async def test_the_named_one_of_two_people_stays(house: Asked) -> None:
    question = await house.one(ReviewKind.SAME_PERSON)
    for person in question.people:
        await house.label(person.person_id, "Ada")
        await house.reply(question, Answer.SAME)
        left = await house.ids()
        assert person.person_id in left
        assert len(left) == 3
        await house.undo()
        await house.people.edit(TENANT, person.person_id, PersonEdit(label=None), None)


async def test_what_was_not_sure_waits_apart(house: Asked) -> None:
    question = await house.one(ReviewKind.SAME_PERSON)
    await house.reply(question, Answer.NOT_SURE)
    waiting = await house.reviews.page(TENANT, None, None, 10, put_off=True)
    assert [each.review_id for each in waiting] == [question.review_id]
    handed_out = await house.reviews.next(TENANT, "me", 100, 60)
    assert question.review_id not in [each.review_id for each in handed_out]
    await house.reply(question, Answer.DIFFERENT)  # somebody else is sure
    assert await house.reviews.page(TENANT, None, None, 10, put_off=True) == []


async def test_no_two_reviewers_are_given_the_same_question(house: Asked) -> None:
    everything = [each.review_id for each in await house.reviews.page(TENANT, None, None, 100)]
    mine = [each.review_id for each in await house.reviews.next(TENANT, "me", 5, 600)]
    yours = [each.review_id for each in await house.reviews.next(TENANT, "you", 100, 600)]
    assert mine == everything[:5]
    assert yours == everything[5:]
    again = [each.review_id for each in await house.reviews.next(TENANT, "me", 100, 600)]
    assert again == mine
    async with house.database.maintenance() as owner:
        await owner.execute("UPDATE review SET leased_until = now() - interval '1 s'")
    freed = [each.review_id for each in await house.reviews.next(TENANT, "third", 100, 600)]
    assert freed == everything


async def test_an_override_lets_an_answer_be_the_last_word(house: Asked) -> None:
    ids = await house.ids()
    person, other, *_ = ids
    await house.reply(
        next(
            each
            for each in await house.reviews.page(TENANT, ReviewKind.SAME_PERSON, None, 100)
            if {each.people[0].person_id, each.people[1].person_id} == {person, other}
        ),
        Answer.DIFFERENT,
    )
    question = next(
        each
        for each in await house.reviews.page(TENANT, ReviewKind.NEW_PERSON, None, 100)
        if each.people[0].person_id == person
    )
    with pytest.raises(DecisionConflictError):
        await house.reply(question, Answer.SAME, person_id=ClusterId(other))
    await house.reply(question, Answer.SAME, person_id=ClusterId(other), override=True)
    assert person not in await house.ids()
