"""The queue of questions that only a person can answer, and what each answer does."""

from __future__ import annotations

from uuid import uuid4

from service.domain.decisions import PastChange
from service.domain.errors import RequestError
from service.domain.people import KeptAnswer
from service.domain.reviews import (
    ANSWERS,
    Answer,
    AskedPerson,
    Question,
    QuestionPosition,
    Reply,
    ReviewKind,
)
from service.domain.types import ClusterId, ReviewId, TenantId
from service.usecases.once import Once
from service.usecases.ports import FaceStore, TenantWrites


class Reviews:
    """The questions of tenants.

    Every method raises NotFoundError for an id that the tenant does not have, and
    StoreUnavailableError when the database does not answer.
    """

    def __init__(self, store: FaceStore) -> None:
        self._store = store

    async def page(
        self,
        tenant_id: TenantId,
        kind: ReviewKind | None,
        behind: QuestionPosition | None,
        limit: int,
        *,
        put_off: bool = False,
        person_id: ClusterId | None = None,
    ) -> list[Question]:
        """A page of the open questions, from the one of most worth on.

        Of one kind, or about one person, where asked.
        """
        async with self._store.reading(tenant_id) as tenant:
            await tenant.facts()
            return await tenant.reviews_of_worth.page(
                kind, behind, limit, put_off=put_off, person_id=person_id
            )

    async def next(
        self, tenant_id: TenantId, reviewer: str, limit: int, lease_s: int
    ) -> list[Question]:
        """The questions of most worth, which no other reviewer is given during the lease.

        The same reviewer is given them again while they are open.
        """
        async with self._store.leasing(tenant_id) as leases:
            return await leases.lease(reviewer, limit, lease_s)

    async def answer(
        self,
        tenant_id: TenantId,
        review_id: ReviewId,
        reply: Reply,
        once: Once[PastChange] | None = None,
    ) -> PastChange | KeptAnswer:
        """Answer a question, as one change, which is returned.

        Raises:
            ReviewAnsweredError: it was answered meanwhile.
            RequestError: a question of its kind has no such answer.
            DecisionConflictError: a decision speaks against it, and it is not to be overridden.
            MergedPersonError: the person of the answer was merged into another one.
        """
        async with self._store.writing(tenant_id) as tenant:
            if once is not None and (kept := await once.recall(tenant)) is not None:
                return kept
            question = await tenant.reviews_of_worth.question(review_id)
            if reply.answer not in ANSWERS[question.kind]:
                possible = ", ".join(ANSWERS[question.kind])
                raise RequestError(
                    (("/body/answer", f"of a question {question.kind} must be one of {possible}"),)
                )
            made = await tenant.past_change(await _settle(tenant, question, reply))
            if once is not None:
                await once.keep(tenant, made)
            return made


async def _settle(tenant: TenantWrites, question: Question, reply: Reply) -> int:
    """Do what the answer says; returns the number of the change."""
    act = {
        ReviewKind.NEW_PERSON: _name,
        ReviewKind.SAME_PERSON: _join_or_part,
        ReviewKind.WEAK_MATCH: _place,
        ReviewKind.ODD_FACE: _place,
    }[question.kind]
    for person in question.people:
        await tenant.remember_person(person.person_id)
    person_id = await act(tenant, question, reply)
    return await tenant.note(
        "review.answered",
        review_id=str(question.review_id),
        question=question.kind,
        answer=reply.answer,
        person_id=person_id,
    )


async def _name(tenant: TenantWrites, question: Question, reply: Reply) -> ClusterId:
    """Say who somebody is."""
    person_id = question.people[0].person_id
    if reply.answer is Answer.SAME:
        other = await _given_person(tenant, question, reply)
        await tenant.join(person_id, other, override=reply.override)
        return other
    if reply.answer is Answer.LABEL:
        if reply.label is None:
            raise RequestError((("/body/label", "is needed with the answer label"),))
        await tenant.say(person_id, label=reply.label)
    else:
        await tenant.say(person_id, hidden=True)
    await tenant.people.close_who(person_id)
    return person_id


async def _join_or_part(tenant: TenantWrites, question: Question, reply: Reply) -> ClusterId:
    """Say whether two people are one."""
    one, other = question.people
    if reply.answer is Answer.DIFFERENT:
        await tenant.tell_apart(one.person_id, other.person_id)
    elif reply.answer is Answer.NOT_SURE:
        await tenant.put_off(question.review_id)
    else:
        kept, gone = sorted((one, other), key=_standing, reverse=True)
        await tenant.join(gone.person_id, kept.person_id, override=reply.override)
        return kept.person_id
    return one.person_id


async def _place(tenant: TenantWrites, question: Question, reply: Reply) -> ClusterId:
    """Say whose a face is."""
    assert question.face is not None  # by the kinds of questions
    person_id = question.people[0].person_id
    if reply.answer is Answer.OTHER:
        person_id = await _given_person(tenant, question, reply)
    elif reply.answer is Answer.NO:
        person_id = ClusterId(str(uuid4()))
        await tenant.insert_cluster(person_id)
        await tenant.ask_who(person_id)
    await tenant.take_faces([question.face.face_id], person_id, override=reply.override)
    return person_id


async def _given_person(tenant: TenantWrites, question: Question, reply: Reply) -> ClusterId:
    """The person that an answer names: another one than the question is about."""
    if reply.person_id is None:
        raise RequestError((("/body/person_id", f"is needed with the answer {reply.answer}"),))
    person = await tenant.people.person(reply.person_id)
    if person.person_id == question.people[0].person_id:
        raise RequestError((("/body/person_id", "is the person that the question is about"),))
    return person.person_id


def _standing(person: AskedPerson) -> tuple[bool, int]:
    """By what one of two people gives the other one a name: the label, then the faces."""
    return person.label is not None, person.faces
