"""What a report tells of a tenant, read in one snapshot of the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from service.commands.tenant_report.distances import Distances, measure_distances
from service.commands.tenant_report.doubts import (
    DoubtfulFaces,
    NearPairs,
    doubtful_faces,
    nearest_pairs,
)
from service.domain.matching import MatchRule
from service.domain.types import ClusterId, FaceId, ModelSpace, TenantId
from service.store.face.census import (
    Census,
    Counts,
    FacePlace,
    Periods,
    PersonLine,
    Quality,
)

_LARGEST: Final = 12
_MOST_CASES: Final = 12
# Bounds of work and memory: 32 MB of vectors of 512 numbers, and some 30 billion multiplications.
_SAMPLED_PEOPLE: Final = 2_000
_SAMPLED_FACES_OF_A_PERSON: Final = 8
_COMPARED_PEOPLE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Contents:
    """What a report tells of a tenant.

    limit: the largest distance at which a good face joins a person of this tenant.
    people: the people that the cases name, and the largest ones, by id.
    places: where the faces are that are shown.
    """

    counts: Counts
    sizes: tuple[tuple[int, int], ...]
    quality: Quality
    periods: Periods
    limit: float
    distances: Distances
    pairs: NearPairs
    faces: DoubtfulFaces
    largest: tuple[PersonLine, ...]
    people: dict[ClusterId, PersonLine]
    places: tuple[FacePlace, ...]


async def read_contents(
    connection: asyncpg.Connection,
    tenant_id: TenantId,
    space: ModelSpace,
    rule: MatchRule,
    min_quality: float,
) -> Contents:
    """Read a tenant, and find its doubtful cases.

    Args:
        connection: of the tables' owner.
        space: the model whose vectors are compared, by `rule`.
        min_quality: the lowest quality of a matchable face.

    Raises:
        NotFoundError: there is no such tenant.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        census = Census(connection, tenant_id, space)
        counts = await census.counts()
        limit = rule.limit.at(counts.people, factor=counts.match_factor)
        sample = await census.sampled_faces(_SAMPLED_PEOPLE, _SAMPLED_FACES_OF_A_PERSON)
        sums = await census.sums_of_largest(_COMPARED_PEOPLE + 1)
        pairs = nearest_pairs(rule, limit, sums, _MOST_CASES, most_people=_COMPARED_PEOPLE)
        faces = doubtful_faces(
            rule,
            counts.people,
            min_quality,
            sample,
            await census.sums(set(sample.people)),
            _MOST_CASES,
            counts.match_factor,
        )
        largest = await census.largest_people(_LARGEST)
        cases = (*faces.far, *faces.close)
        named = {each.person_id for each in cases}
        named |= {person for pair in pairs.pairs for person in (pair.first, pair.second)}
        people = await census.people(named) | {each.person_id: each for each in largest}
        shown: set[FaceId] = {face for each in cases for face in (each.face_id, each.beside)}
        shown |= {each.cover_face_id for each in people.values() if each.cover_face_id is not None}
        return Contents(
            counts,
            await census.sizes(),
            await census.quality(),
            await census.periods(of_taking=counts.dated > 0),
            limit,
            measure_distances(rule, limit, sample),
            pairs,
            faces,
            largest,
            people,
            await census.places(shown),
        )
