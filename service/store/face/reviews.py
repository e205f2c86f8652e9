"""Questions of one tenant: listed and handed out in the order of their worth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from service.domain.errors import NotFoundError, ReviewAnsweredError
from service.domain.reviews import (
    AskedFace,
    AskedPerson,
    Question,
    QuestionPosition,
    ReviewKind,
)
from service.domain.types import ClusterId, FaceId, ImageId, ReviewId, TenantId
from service.store.database.statements import SQL, with_statement
from service.store.face.lookups import known_uuid

_MAX_INT64 = 2**63 - 1
_MOST_WORTH = float("inf")


class ReviewReader:
    """Reads of the questions of one tenant, on one connection."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def page(
        self,
        kind: ReviewKind | None,
        behind: QuestionPosition | None,
        limit: int,
        *,
        put_off: bool = False,
        person_id: ClusterId | None = None,
    ) -> list[Question]:
        """A page of the open questions, from the one of most worth on.

        Args:
            put_off: those that somebody was not sure about, in the place of all others.
            person_id: only those about this person.
        """
        of_one = () if person_id is None else (known_uuid(person_id, "person"),)
        rows = await self._connection.fetch(
            with_statement("questions_of_person" if of_one else "questions", "question_facts"),
            self._tenant_id,
            put_off,
            list(ReviewKind) if kind is None else [kind],
            behind.worth if behind else _MOST_WORTH,
            behind.review_id if behind else _MAX_INT64,
            limit,
            *of_one,
        )
        return [_question(row) for row in rows]

    async def question(self, review_id: ReviewId) -> Question:
        """One open question.

        Raises:
            ReviewAnsweredError: it was answered, or settled by another change.
            NotFoundError: there never was such a question, or what it was about was erased.
        """
        (found,) = await self.of_ids([review_id]) or (None,)
        if found is not None:
            return found
        row = await self._connection.fetchrow(SQL["change_that_closed"], self._tenant_id, review_id)
        if row is None:
            raise NotFoundError("review")
        raise ReviewAnsweredError(str(row["change"]), row["answer"])

    async def of_ids(self, review_ids: Sequence[ReviewId]) -> list[Question]:
        """Those of some questions that are open, from the one of most worth on."""
        rows = await self._connection.fetch(
            with_statement("questions_of_ids", "question_facts"), self._tenant_id, list(review_ids)
        )
        return [_question(row) for row in rows]


class ReviewLeases(ReviewReader):
    """Hands questions out, inside a transaction that need not hold the tenant's lock."""

    async def lease(self, reviewer: str, limit: int, lease_s: int) -> list[Question]:
        """The questions of most worth, held back from other reviewers; those not put off.

        A reviewer is given again what he holds.

        Raises:
            NotFoundError: there is no such tenant.
        """
        if await self._connection.fetchrow(SQL["tenant_facts"], self._tenant_id) is None:
            raise NotFoundError("tenant")
        # A statement of its own: the next one then sees what the reviewer before was given.
        await self._connection.execute(SQL["lock_reviewing"], self._tenant_id)
        rows = await self._connection.fetch(
            SQL["lease_questions"], self._tenant_id, reviewer, limit, timedelta(seconds=lease_s)
        )
        return await self.of_ids([ReviewId(row["review_id"]) for row in rows])


def _question(row: asyncpg.Record) -> Question:
    people = [_person(row, "")]
    if row["other_cluster_id"] is not None:
        people.append(_person(row, "other_"))
    face = None
    if row["face_id"] is not None:
        face = AskedFace(
            FaceId(str(row["face_id"])), ImageId(str(row["image_id"])), tuple(row["box"])
        )
    return Question(
        ReviewId(row["review_id"]),
        ReviewKind(row["kind"]),
        row["created_at"],
        tuple(people),
        face,
        row["distance"],
        row["other_distance"],
        row["similarity"],
        row["settles"],
        row["chance"],
        row["worth"],
        row["put_off"],
    )


def _person(row: asyncpg.Record, which: str) -> AskedPerson:
    cover = row[f"{which}cover_face_id"]
    return AskedPerson(
        ClusterId(str(row[f"{which}cluster_id"])),
        row[f"{which}label"],
        row[f"{which}faces"],
        None if cover is None else FaceId(str(cover)),
    )
