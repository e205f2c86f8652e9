"""What the search for questions reads and writes in a tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
from asyncpg.pgproto.pgproto import UUID

from service.domain.asking import (
    AskedOddFace,
    AskedPair,
    AskedQuestion,
    AskingPosition,
    DoubtfulFace,
    DoubtfulPerson,
    Evidence,
    Findings,
    Unasked,
)
from service.domain.matching import ClusterQuery, MatchRule
from service.domain.reviews import ReviewKind
from service.domain.search import PeopleQuery
from service.domain.types import ClusterId, FaceId, ModelSpace, ReviewId, TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.decisions import DecisionReader
from service.store.face.people_search import PeopleSearch, numbers_of

# Faces and changes that are looked through at once.
_ROWS_AT_ONCE = 256
# Of a person with more faces, so many of the newest are measured against the others.
_MEASURED_FACES = 256
# Of the questions about a person so many are measured anew in one look.
_MOST_QUESTIONS = 100


class DoubtReader:
    """Reads a tenant as it is at one moment.

    Args:
        search: in the same transaction.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        space: ModelSpace,
        search: PeopleSearch,
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._space = space
        self._search = search

    @property
    def number_of_people(self) -> int:
        """In the tenant; the limit of a match depends on it."""
        return self._search.number_of_people

    @property
    def match_factor(self) -> float:
        """Of the limit of a match in the tenant."""
        return self._search.match_factor

    async def unasked(self) -> Unasked:
        """People who got faces, or whom somebody changed, since questions were looked for."""
        tenant = await self._connection.fetchrow(SQL["asked_up_to"], self._tenant_id)
        people: set[ClusterId] = set()
        positions = []
        is_all = True
        for name, last in (
            ("clusters_of_new_faces", tenant["asked_seq"]),
            ("clusters_of_changes", tenant["asked_change"]),
        ):
            rows = await self._connection.fetch(SQL[name], self._tenant_id, last, _ROWS_AT_ONCE)
            people |= {ClusterId(str(row["cluster_id"])) for row in rows}
            has_more = len(rows) >= _ROWS_AT_ONCE
            is_all = is_all and not has_more
            positions.append(rows[-1]["position"] if rows else last)
        seq, change = positions
        if is_all:  # the changes that are about nobody as well
            change = max(change, tenant["changes"])
        position = AskingPosition(seq, change, self.match_factor)
        return Unasked(frozenset(people), position, is_all, tenant["faces"])

    async def people(self, person_ids: Collection[ClusterId]) -> dict[ClusterId, DoubtfulPerson]:
        """Those of some people who have a face with a vector."""
        rows = await self._connection.fetch(
            SQL["doubtful_people"],
            self._tenant_id,
            [UUID(each) for each in person_ids],
            self._space,
        )
        totals = numbers_of([row["total"] for row in rows])
        found = {}
        for row, total in zip(rows, totals, strict=True):
            person_id = ClusterId(str(row["cluster_id"]))
            found[person_id] = DoubtfulPerson(
                person_id,
                total[1:],
                float(total[0]),
                row["faces"],
                row["label_key"],
                row["hidden"],
                row["label_key"] is not None or row["has_external_id"],
                row["is_placed"],
                row["is_poor"],
            )
        return found

    async def near(
        self, people: Sequence[DoubtfulPerson], rule: MatchRule, wanted: int
    ) -> list[list[ClusterId]]:
        """For each person those who look most like it, nearest first."""
        query = ClusterQuery(tuple(each.direction for each in people), self._space, rule)
        near = await self._search.near_people(PeopleQuery(query, wanted + 1))
        return [
            [each.cluster_id for each in found if each.cluster_id != person.person_id][:wanted]
            for person, found in zip(people, near.of_faces, strict=True)
        ]

    async def near_faces(
        self, faces: Sequence[DoubtfulFace], rule: MatchRule
    ) -> list[tuple[ClusterId, float] | tuple[None, None]]:
        """For each face the person nearest to it but its own, and the distance; None where none."""
        query = ClusterQuery(tuple(each.embedding for each in faces), self._space, rule)
        near = await self._search.near_people(PeopleQuery(query, 2))
        return [
            next(
                (
                    (each.cluster_id, each.distance)
                    for each in found
                    if each.cluster_id != face.person_id
                ),
                (None, None),
            )
            for face, found in zip(faces, near.of_faces, strict=True)
        ]

    async def faces(self, person_ids: Collection[ClusterId]) -> list[DoubtfulFace]:
        """The newest faces of people that others are matched against."""
        rows = await self._connection.fetch(
            SQL["faces_in_doubt"],
            self._tenant_id,
            [UUID(each) for each in person_ids],
            self._space,
            _MEASURED_FACES,
        )
        return [
            DoubtfulFace(
                FaceId(str(row["face_id"])),
                ClusterId(str(row["cluster_id"])),
                row["embedding"].to_numpy().astype(np.float32),
                row["is_placed"],
                row["is_asked"],
            )
            for row in rows
        ]

    async def asked(self, person_ids: Collection[ClusterId]) -> list[AskedQuestion]:
        """The open questions about people; about each of them those of most worth."""
        rows = await self._connection.fetch(
            SQL["asked_about"],
            self._tenant_id,
            [UUID(each) for each in person_ids],
            self._space,
            _MOST_QUESTIONS,
        )
        return [_asked(row) for row in rows]

    async def kept_apart(self, people: Collection[ClusterId]) -> set[tuple[ClusterId, ClusterId]]:
        """The pairs among these people that a decision keeps apart, each in both orders."""
        return await DecisionReader(self._connection, self._tenant_id).kept_apart(people)

    async def photographed_together(
        self, pairs: Collection[tuple[ClusterId, ClusterId]]
    ) -> set[tuple[ClusterId, ClusterId]]:
        """Those of the pairs of people whom one image shows beside each other."""
        rows = await self._connection.fetch(
            SQL["photographed_together"],
            self._tenant_id,
            [UUID(one) for one, _ in pairs],
            [UUID(other) for _, other in pairs],
        )
        return {(ClusterId(str(row["one"])), ClusterId(str(row["other"]))) for row in rows}


class QuestionWriter:
    """Writes what was found, inside a transaction that holds the tenant's lock."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def write(self, findings: Findings) -> int:
        """Open and renew questions; those that follow from what people said are left out.

        Those whom the machine joins after this are asked about until it did.

        Returns:
            The number of new questions, without these.
        """
        made = 0
        if findings.joined:
            await self._made("ask_about_pairs", _pair_columns(findings.joined))
        if findings.pairs:
            made += await self._made("ask_about_pairs", _pair_columns(findings.pairs))
        if findings.odd:
            made += await self._made("ask_about_faces", _odd_columns(findings.odd))
        if findings.fresh:
            numbers = [each for _, each in findings.fresh]
            await self._connection.execute(
                SQL["measure_anew"],
                self._tenant_id,
                [review_id for review_id, _ in findings.fresh],
                *_distances(numbers),
                [each.settles for each in numbers],
                [each.chance for each in numbers],
            )
        return made

    async def _made(self, statement: str, columns: Sequence[Sequence[object]]) -> int:
        status = await self._connection.execute(SQL[statement], self._tenant_id, *columns)
        return int(status.rpartition(" ")[2])


class DatabaseAskingTurns:
    """Gives the search for questions to one process at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def take(self) -> AsyncIterator[AsyncIterator[TenantId] | None]:
        """The tenants in which something happened; None while another process looks.

        Raises:
            StoreUnavailableError: the database does not answer, or the connection that holds the
                turn was lost.
        """
        async with self._database.maintenance() as connection:
            if not await connection.fetchval(SQL["lock_asking"]):
                yield None
                return
            rows = await connection.fetch(SQL["tenants_to_ask"])
            yield _while_connected(connection, [TenantId(row["tenant_id"]) for row in rows])


async def _while_connected(
    connection: asyncpg.Connection, tenant_ids: Sequence[TenantId]
) -> AsyncIterator[TenantId]:
    for each in tenant_ids:
        await connection.execute(SQL["ping"])
        yield each


def _asked(row: asyncpg.Record) -> AskedQuestion:
    vector = row["embedding"]
    other = row["other_cluster_id"]
    return AskedQuestion(
        ReviewId(row["review_id"]),
        ReviewKind(row["kind"]),
        ClusterId(str(row["cluster_id"])),
        None if other is None else ClusterId(str(other)),
        Evidence(
            row["distance"],
            row["other_distance"],
            row["similarity"],
            row["faces"],
            row["chance"],
        ),
        None if row["face_id"] is None else FaceId(str(row["face_id"])),
        None if vector is None else vector.to_numpy().astype(np.float32),
    )


def _pair_columns(pairs: Sequence[AskedPair]) -> list[Sequence[object]]:
    numbers = [each.evidence for each in pairs]
    return [
        [UUID(each.person_id) for each in pairs],
        [UUID(each.other_id) for each in pairs],
        *_distances(numbers),
        [each.settles for each in numbers],
        [each.chance for each in numbers],
    ]


def _odd_columns(odd: Sequence[AskedOddFace]) -> list[Sequence[object]]:
    numbers = [each.evidence for each in odd]
    return [
        [UUID(each.person_id) for each in odd],
        [UUID(each.face_id) for each in odd],
        [None if each.other_id is None else UUID(each.other_id) for each in odd],
        *_distances(numbers),
        [each.settles for each in numbers],
        [each.chance for each in numbers],
    ]


def _distances(numbers: Sequence[Evidence]) -> list[Sequence[float | None]]:
    return [
        [each.distance for each in numbers],
        [each.other_distance for each in numbers],
        [each.similarity for each in numbers],
    ]
