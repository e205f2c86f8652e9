"""A tenant in numbers, and samples of its faces, as a report shows them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from service.domain.errors import NotFoundError
from service.domain.types import Box, ClusterId, FaceId, ImageId, ModelSpace, TenantId
from service.store.database.statements import SQL

QUALITY_STEPS: Final = 20
"""The number of equal steps of quality, from 0 to 1, in which faces are counted."""

# The longest period that gives at most this number of them, in days.
_PERIODS: Final = (("day", 1), ("week", 7), ("month", 30), ("year", 365))
_MOST_PERIODS: Final = 48
# PostgreSQL sends a vector as its dimension and two spare bytes, then its numbers.
_VECTOR_HEAD_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Counts:
    """The rows of a tenant.

    labelled, hidden: of the people. unmatchable: faces that no other face is matched against.
    embedded: faces with a vector of the model. without_file: images whose bytes were not kept.
    dated: images that say when they were taken. match_factor: of the limit of a match.
    """

    created_at: datetime
    people: int
    labelled: int
    hidden: int
    faces: int
    unmatchable: int
    embedded: int
    images: int
    without_file: int
    dated: int
    match_factor: float


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of a tenant's faces.

    matchable, unmatchable: the number of faces within each of `QUALITY_STEPS`.
    unknown: the number of faces that an earlier release stored without a quality.
    reasons: for how many faces each reason of low quality holds, the most frequent one first.
    """

    matchable: tuple[int, ...]
    unmatchable: tuple[int, ...]
    unknown: int
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Periods:
    """The number of photos of each period that has any, the first one first.

    length: "day", "week", "month" or "year". of_taking: whether the time is that of taking a photo,
    else it is that of storing it.
    """

    length: str
    of_taking: bool
    photos: tuple[tuple[date, int], ...]


@dataclass(frozen=True, slots=True)
class PersonLine:
    """A person as a list shows it: label, numbers of faces and photos, and the cover."""

    person_id: ClusterId
    label: str | None
    faces: int
    images: int
    last_face_at: datetime
    cover_face_id: FaceId | None


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """The sums of the vectors of people.

    people: their ids. totals: float32 [n, dimension]. counts: float32 [n], the number of vectors in
    each sum.
    """

    people: tuple[ClusterId, ...]
    totals: NDArray[np.float32]
    counts: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SampledFaces:
    """Some faces of some people, those of one person in sequence.

    people, faces: the ids, one of each for each face. quality: of each face, 1 where it is unknown.
    vectors: float32 [n, dimension], unit vectors but for the rounding of the database.
    """

    people: tuple[ClusterId, ...]
    faces: tuple[FaceId, ...]
    quality: tuple[float, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FacePlace:
    """Where a face is; blob_key is None where the bytes of the image were not kept."""

    face_id: FaceId
    image_id: ImageId
    box: Box
    blob_key: str | None


class Census:
    """Reads of one tenant, on a connection of the tables' owner.

    Args:
        connection: in a transaction, so that all answers are of one moment.
        space: the model whose vectors are read.
    """

    def __init__(
        self, connection: asyncpg.Connection, tenant_id: TenantId, space: ModelSpace
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._space = space

    async def counts(self) -> Counts:
        """The numbers of rows.

        Raises:
            NotFoundError: there is no such tenant.
        """
        row = await self._connection.fetchrow(SQL["census_counts"], self._tenant_id, self._space)
        if row is None:
            raise NotFoundError("tenant")
        return Counts(**row)

    async def sizes(self) -> tuple[tuple[int, int], ...]:
        """Numbers of faces, ascending, each with the number of people who have as many."""
        rows = await self._connection.fetch(SQL["census_sizes"], self._tenant_id)
        return tuple((row["size"], row["people"]) for row in rows)

    async def quality(self) -> Quality:
        """The quality of all faces."""
        steps = {True: [0] * QUALITY_STEPS, False: [0] * QUALITY_STEPS}
        unknown = 0
        rows = await self._connection.fetch(SQL["census_quality"], self._tenant_id, QUALITY_STEPS)
        for row in rows:
            if row["step"] is None:
                unknown += row["faces"]
            else:
                steps[row["is_matchable"]][row["step"]] = row["faces"]
        reasons = await self._connection.fetch(SQL["census_reasons"], self._tenant_id)
        return Quality(
            tuple(steps[True]),
            tuple(steps[False]),
            unknown,
            tuple((row["reason"], row["faces"]) for row in reasons),
        )

    async def periods(self, *, of_taking: bool) -> Periods:
        """The photos over time, in periods of a length that suits the span.

        Args:
            of_taking: count the photos that say when they were taken, by that time; else all of
                them by the time when they were stored.
        """
        span = await self._connection.fetchrow(SQL["census_span"], self._tenant_id, of_taking)
        if span["first"] is None:
            return Periods("day", of_taking, ())
        days = (span["last"] - span["first"]).days
        length = next((name for name, each in _PERIODS if days <= each * _MOST_PERIODS), "year")
        rows = await self._connection.fetch(
            SQL["census_periods"], self._tenant_id, of_taking, length
        )
        return Periods(length, of_taking, tuple((row["period"], row["photos"]) for row in rows))

    async def largest_people(self, limit: int) -> tuple[PersonLine, ...]:
        """The people with the most faces, but for hidden ones."""
        rows = await self._connection.fetch(SQL["largest_people"], self._tenant_id, limit)
        return tuple(map(_person, rows))

    async def people(self, ids: Collection[ClusterId]) -> dict[ClusterId, PersonLine]:
        """Some people by their ids."""
        keys = [UUID(each) for each in ids]
        rows = await self._connection.fetch(SQL["people_of_ids"], self._tenant_id, keys)
        return {person.person_id: person for person in map(_person, rows)}

    async def sums_of_largest(self, limit: int) -> Sums:
        """The sums of the largest people who have matchable faces, but for hidden ones."""
        rows = await self._connection.fetch(
            SQL["sums_of_largest_people"], self._tenant_id, self._space, limit
        )
        return _sums(rows)

    async def sums(self, ids: Collection[ClusterId]) -> Sums:
        """The sums of some people; of one without a matchable face there is none."""
        keys = [UUID(each) for each in ids]
        rows = await self._connection.fetch(
            SQL["sums_of_people"], self._tenant_id, self._space, keys, False
        )
        return _sums(rows)

    async def sampled_faces(self, people: int, faces_of_each: int) -> SampledFaces:
        """Matchable faces of some people, but for hidden ones; the same ones for the same data.

        Args:
            people: the largest number of people; those with several faces come first.
            faces_of_each: the largest number of faces of a person.
        """
        rows = await self._connection.fetch(
            SQL["sampled_faces"], self._tenant_id, self._space, people, faces_of_each
        )
        return SampledFaces(
            tuple(ClusterId(str(row["cluster_id"])) for row in rows),
            tuple(FaceId(str(row["face_id"])) for row in rows),
            tuple(1.0 if row["quality"] is None else row["quality"] for row in rows),
            vectors_of([row["embedding"] for row in rows]),
        )

    async def places(self, ids: Collection[FaceId]) -> tuple[FacePlace, ...]:
        """Where some faces are."""
        keys = [UUID(each) for each in ids]
        rows = await self._connection.fetch(SQL["places_of_faces"], self._tenant_id, keys)
        return tuple(
            FacePlace(
                FaceId(str(row["face_id"])),
                ImageId(str(row["image_id"])),
                Box(*row["box"]),
                row["blob_key"],
            )
            for row in rows
        )


def _person(row: asyncpg.Record) -> PersonLine:
    cover = row["cover_face_id"]
    return PersonLine(
        ClusterId(str(row["cluster_id"])),
        row["label"],
        row["faces"],
        row["images"],
        row["last_face_at"],
        None if cover is None else FaceId(str(cover)),
    )


def _sums(rows: Sequence[asyncpg.Record]) -> Sums:
    totals = vectors_of([row["total"] for row in rows])
    return Sums(
        tuple(ClusterId(str(row["cluster_id"])) for row in rows), totals[:, 1:], totals[:, 0]
    )


def vectors_of(sent: Sequence[bytes]) -> NDArray[np.float32]:
    """The numbers of vectors of one dimension as PostgreSQL sends them: float32 [n, dimension]."""
    if not sent:
        return np.empty((0, 1), np.float32)
    numbers = np.frombuffer(b"".join(each[_VECTOR_HEAD_BYTES:] for each in sent), ">f4")
    return numbers.astype(np.float32).reshape(len(sent), -1)
