"""What people said about doubtful pairs of a tenant, and the factor of its limit of a match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from service.domain.errors import NotFoundError
from service.domain.types import ClusterId, ModelSpace, TenantId
from service.store.database.statements import SQL
from service.store.face.census import vectors_of

# More answers make no limit surer: it moves by less than the tenant does.
_MOST_ANSWERS: Final = 2_000
_MOST_FACES_OF_A_PERSON: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class SaidPair:
    """Two people, or a face and a person, and whether they are one, as somebody said.

    person_id: the person, or the second one. total, other_total: float64 [dimension], the sums of
    the vectors of both. count, other_count: the numbers of these vectors.
    """

    is_same: bool
    person_id: ClusterId
    total: NDArray[np.float64]
    count: float
    other_total: NDArray[np.float64]
    other_count: float


@dataclass(frozen=True, slots=True)
class Said:
    """What people said about pairs.

    answers: to questions about pairs. looked_through: faces of people confirmed as a whole.
    decisions: the number of all decisions that hold.
    """

    answers: tuple[SaidPair, ...]
    looked_through: tuple[SaidPair, ...]
    decisions: int


class Answers:
    """What was said in one tenant, on a connection of the tables' owner, in a transaction.

    Args:
        space: the model whose vectors are read.
    """

    def __init__(
        self, connection: asyncpg.Connection, tenant_id: TenantId, space: ModelSpace
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._space = space

    async def limit(self) -> tuple[float, int]:
        """The factor of the tenant's limit, and its number of people.

        Raises:
            NotFoundError: there is no such tenant.
        """
        row = await self._connection.fetchrow(SQL["match_factor"], self._tenant_id)
        if row is None:
            raise NotFoundError("tenant")
        return row["match_factor"], row["people"]

    async def change_factor(self, factor: float) -> None:
        """Give the limit another factor, from the next insert and search on."""
        await self._connection.execute(SQL["set_match_factor"], self._tenant_id, factor)

    async def said(self) -> Said:
        """What people said; as far as the history still has how it was asked."""
        answers = await self._connection.fetch(
            SQL["answered_pairs"], self._tenant_id, self._space, _MOST_ANSWERS
        )
        faces = await self._connection.fetch(
            SQL["looked_through"],
            self._tenant_id,
            self._space,
            _MOST_FACES_OF_A_PERSON,
            _MOST_ANSWERS,
        )
        decisions = await self._connection.fetchval(SQL["decisions_that_hold"], self._tenant_id)
        return Said(_answers(answers), _faces(faces), decisions)


def _answers(rows: Sequence[asyncpg.Record]) -> tuple[SaidPair, ...]:
    totals = vectors_of([row["total"] for row in rows]).astype(np.float64)
    others = vectors_of([row["other_total"] for row in rows]).astype(np.float64)
    return tuple(
        SaidPair(
            row["is_same"],
            ClusterId(str(row["person"])),
            total,
            float(row["faces"]),
            other,
            float(row["other_faces"]),
        )
        for row, total, other in zip(rows, totals, others, strict=True)
    )


def _faces(rows: Sequence[asyncpg.Record]) -> tuple[SaidPair, ...]:
    """Each face, and its person without it."""
    embeddings = vectors_of([row["embedding"] for row in rows]).astype(np.float64)
    sums = vectors_of([row["total"] for row in rows]).astype(np.float64)
    pairs = []
    for row, embedding, numbers in zip(rows, embeddings, sums, strict=True):
        total, count = numbers[1:], float(numbers[0])
        if row["is_same"]:
            total, count = total - embedding, count - 1
        if count >= 1:
            person_id = ClusterId(str(row["person"]))
            pairs.append(SaidPair(row["is_same"], person_id, embedding, 1.0, total, count))
    return tuple(pairs)
