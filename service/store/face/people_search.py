"""The people of a tenant that are nearest to a face, however far they are.

The way of an insert (ClusterSearch) ends at the reach of the match limit. Here the nearest people
are wanted even when none of them matches. The distances are the same: by the sums of the people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg
import numpy as np
from asyncpg.pgproto.pgproto import UUID
from numpy.typing import NDArray
from pgvector import HalfVector

from service.domain.errors import FaceNotEmbeddedError, NotFoundError
from service.domain.matching import MatchRule, as_stored
from service.domain.search import MAX_AMONG, NearPeople, NearPerson, PeopleQuery
from service.domain.types import ClusterId, Embedding, FaceId, ModelSpace, StoredFace, TenantId
from service.index.codes import FaceCodes, Snapshot
from service.store.database.statements import SQL
from service.store.face.lookups import known_uuid
from service.store.face.reads import stored_face
from service.store.face.search import ClusterSearch, numbered

# Candidates are people whose sums are compared: more than are wanted, as what chooses them, codes
# or single faces, is less exact. Where a filter leaves too few of them, more are asked for.
_MORE_CANDIDATES = 64
_CANDIDATES_PER_PERSON = 6
_GROWTH = 8
_MOST_CANDIDATES = 5_000
# The sums of faces that are in memory beside their codes tell almost as much as those in the
# database: so many candidates more than are wanted are enough. Some of them may be one person.
_MORE_BY_SUMS = 5
# The nearest pivots that are compared: so many for each candidate, and at least one of so many.
_PIVOTS_PER_CANDIDATE = 8
_ONE_PIVOT_OF = 32
# Near faces share people: so many of them are asked of an index for each candidate.
_FACES_PER_CANDIDATE = 3
# A nearest face says less than a sum, and a comparison with all faces costs the same for more.
_CANDIDATES_OF_ALL = 4
# So few people are all compared by their sums.
_FEW_PEOPLE = 256
# Of a person with more faces, the nearest one is looked for among so many that came last.
_MOST_FACES_OF_A_PERSON = 2_000
# How PostgreSQL sends a vector: two numbers of 16 bits, then its elements.
_VECTOR_HEAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Known:
    """What the faces of a person that were compared say, by their cosine distances.

    nearest: the nearest one. placed: the distance of the nearest one that the machine did not
    match. None where no such face was compared.
    """

    nearest: tuple[FaceId, float] | None = None
    placed: float | None = None


_Candidates = dict[ClusterId, _Known]
"""The people who may be near to a face."""


@dataclass(frozen=True, slots=True)
class _Person:
    """A person by the sum of the faces."""

    cluster_id: ClusterId
    distance: float
    faces: int
    known: _Known


@dataclass(frozen=True, slots=True)
class _Probe:
    """A search of codes in memory for some faces of a query.

    snapshot: of the codes. which: the faces, by their positions. wanted: as of
    `Snapshot.near_people`. few: so many of the candidates are enough where sums of codes tell who
    they are; with a filter all are taken.
    """

    snapshot: Snapshot
    query: PeopleQuery
    which: tuple[int, ...]
    wanted: int
    few: int

    def run(self) -> list[list[UUID]]:
        """The candidates for each face; milliseconds, for a thread."""
        return [self._near(self.query.faces.embeddings[n]) for n in self.which]

    def _near(self, embedding: Embedding) -> list[UUID]:
        pivots = max(self.snapshot.pivots // _ONE_PIVOT_OF, self.wanted * _PIVOTS_PER_CANDIDATE)
        rule = self.query.faces.rule

        def nearest(sums: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.int64]:
            distances = rule.distances(as_stored(embedding), sums, counts.astype(np.float32))
            return np.argsort(distances)[: self.few]

        choose = None if self.query.only_labelled else nearest
        own = _without(self.query)
        ids = self.snapshot.near_people(embedding, pivots, self.wanted, choose, own)
        return [UUID(face_id) for face_id in ids.tolist()]


class ProbeAhead:
    """The first probe of a query, which runs while its transaction begins.

    Its codes are older than what the transaction reads. That does no harm: the transaction adds the
    newer faces, and passes over those that are gone.
    """

    def __init__(self, codes: FaceCodes, query: PeopleQuery) -> None:
        which, wanted = tuple(range(len(query.faces.embeddings))), _first_wanted(query)
        self.probe = _Probe(codes.snapshot, query, which, wanted, query.wanted + _MORE_BY_SUMS)
        # At once, and not when the loop comes to a task: by then the transaction has begun.
        self._found = asyncio.get_running_loop().run_in_executor(None, self.probe.run)

    async def found(self) -> list[list[UUID]]:
        """What it has found."""
        return await self._found

    def end(self) -> None:
        """Wait for it no longer."""
        self._found.cancel()


class PeopleSearch:
    """Searches of one tenant in a transaction that reads one snapshot.

    Few people, and those of a filter that names or leaves few, are all compared by their sums. Of
    more people candidates are chosen first: by the codes of their faces where these are in memory,
    through the tenant's index, or by a comparison with all faces.

    Args:
        state: the tenant, as `ClusterSearch.state` tells it.
        faces: searches for near faces in the same transaction.
        codes: of the tenant's faces; None where they are not in memory.
        ahead: a probe of these codes that is under way.
        on_search: told the path of each search, "codes", "index" or "exact".
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        space: ModelSpace,
        state: asyncpg.Record,
        faces: ClusterSearch,
        codes: FaceCodes | None,
        ahead: ProbeAhead | None = None,
        on_search: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._space = space
        self._people: int = state["people"]
        self._factor: float = state["match_factor"]
        self._has_index: bool = state["has_index"]
        self._faces = faces
        self._codes = codes
        self._ahead = ahead
        self._on_search = on_search

    @property
    def number_of_people(self) -> int:
        """In the tenant, at the moment of the search."""
        return self._people

    @property
    def match_factor(self) -> float:
        """Of the limit of a match in the tenant, as `DistanceLimit.at` takes it."""
        return self._factor

    async def direction_of(self, person_id: ClusterId) -> Embedding | None:
        """The direction of the sum of a person's vectors: a unit vector; None without vectors."""
        (total,) = (await self._faces.sums({person_id}, self._space)).values() or (None,)
        if total is None:
            return None
        direction: Embedding = (total[1:] / np.linalg.norm(total[1:])).astype(np.float32)
        return direction

    async def near_people(self, query: PeopleQuery) -> NearPeople:
        """The people nearest to each face, nearest first; fewer only if there are fewer.

        The distance to a person is that of the match rule, as for an insert. A person whom people
        put together, and whose sum is beyond the limit, is as near as the nearest of the faces that
        the machine did not match.
        """
        limits = query.faces.limits(self._people, self._factor)
        if not limits:
            return NearPeople((), ())
        known = await self._known_people(query)
        if known is None:
            near = await self._nearest(query)
        else:
            self._on_search("exact")
            near = await self._by_sums(
                query, range(len(limits)), [dict.fromkeys(known, _Known()) for _ in limits]
            )
        near = await self._as_people_said(query, limits, near, are_known=known is not None)
        return NearPeople(
            limits, await self._with_faces(query, [people[: query.wanted] for people in near])
        )

    async def _known_people(self, query: PeopleQuery) -> list[ClusterId] | None:
        """The people to compare, where they are few; None where they are many."""
        if query.among is not None:
            return [cluster for cluster in dict.fromkeys(query.among) if _is_id(cluster)]
        few = MAX_AMONG if query.only_labelled else _FEW_PEOPLE
        if not query.only_labelled and self._people > few:
            return None
        rows = await self._connection.fetch(
            SQL["some_people"], self._tenant_id, query.only_labelled, few + 1
        )
        return [ClusterId(str(row["cluster_id"])) for row in rows] if len(rows) <= few else None

    async def _nearest(self, query: PeopleQuery) -> list[list[_Person]]:
        """Choose more and more candidates until enough of them pass the filter."""
        embeddings = query.faces.embeddings
        found: dict[int, list[_Person]] = {}
        short = list(range(len(embeddings)))
        first = wanted = _first_wanted(query)
        while short and wanted <= _MOST_CANDIDATES:
            if self._codes is not None and wanted < self._codes.pivots:
                few = (query.wanted + _MORE_BY_SUMS) * (wanted // first)
                probe = _Probe(self._codes.snapshot, query, tuple(short), wanted, few)
                people, asked = await self._by_codes(probe)
            elif self._codes is None and self._has_index:
                near = await self._by_index(query, short, wanted)
                people, asked = await self._by_sums(query, short, near), [first for _ in short]
            else:
                break
            found.update(zip(short, people, strict=True))
            # Some of the candidates are one person, and with a filter some are none.
            short = [
                n
                for n, count in zip(short, asked, strict=True)
                if len(found[n]) < max(query.wanted, min(first, count) // 2)
            ]
            if query.only_labelled:
                break  # of those who are far the codes say too little
            wanted *= _GROWTH
        if short:
            people = await self._by_sums(query, short, await self._by_all(query, short, first))
            found.update(zip(short, people, strict=True))
        return [found[n] for n in range(len(embeddings))]

    async def _by_codes(self, probe: _Probe) -> tuple[list[list[_Person]], list[int]]:
        """The people of the nearest codes as `_by_sums`, and how many codes were asked for."""
        self._on_search("codes")
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.probe.query is probe.query:
            probe, asked = ahead.probe, await ahead.found()
        else:
            asked = await asyncio.to_thread(probe.run)
        query, which = probe.query, probe.which
        rows = await self._connection.fetch(
            SQL["people_of_faces"],
            self._tenant_id,
            self._space,
            [HalfVector(query.faces.embeddings[n]) for n in which],
            *numbered(asked),
            probe.snapshot.last_seq,
            probe.wanted,
            _without(query),
            query.only_labelled,
        )
        return (
            self._measured(query, which, _by_embedding(rows, len(which)), _sums(rows)),
            [len(each) for each in asked],
        )

    async def _by_index(
        self, query: PeopleQuery, which: Sequence[int], wanted: int
    ) -> list[_Candidates]:
        near = await self._faces.nearest_faces(
            [query.faces.embeddings[n] for n in which],
            self._space,
            wanted * _FACES_PER_CANDIDATE,
        )
        left_out = None if query.without is None else query.without.face_id
        people: list[_Candidates] = []
        for faces in near:
            candidates: _Candidates = {}
            for face in faces:
                known = candidates.setdefault(face.cluster_id, _Known())
                if face.face_id == left_out:
                    continue
                nearest, placed = known.nearest, known.placed
                if nearest is None:
                    nearest = face.face_id, face.distance
                if placed is None and not face.is_auto_matched:
                    placed = face.distance
                candidates[face.cluster_id] = _Known(nearest, placed)
            people.append(candidates)
        return people

    async def _by_all(
        self, query: PeopleQuery, which: Sequence[int], wanted: int
    ) -> list[_Candidates]:
        self._on_search("exact")
        await self._connection.execute(SQL["end_search"])  # no plan for a few faces is good here
        rows = await self._connection.fetch(
            SQL["nearest_people_exact"],
            self._tenant_id,
            self._space,
            [HalfVector(query.faces.embeddings[n]) for n in which],
            wanted * _CANDIDATES_OF_ALL,
            query.only_labelled,
            _without(query),
        )
        return _by_embedding(rows, len(which))

    async def _by_sums(
        self, query: PeopleQuery, which: Sequence[int], near: Sequence[_Candidates]
    ) -> list[list[_Person]]:
        """The people that the filter lets through, as far as their sums are, nearest first."""
        asked = list(dict.fromkeys(cluster for candidates in near for cluster in candidates))
        rows = await self._connection.fetch(
            SQL["sums_of_people"],
            self._tenant_id,
            self._space,
            [UUID(cluster) for cluster in asked],
            query.only_labelled,
        )
        return self._measured(query, which, near, _sums(rows))

    def _measured(
        self,
        query: PeopleQuery,
        which: Sequence[int],
        near: Sequence[_Candidates],
        sums: dict[ClusterId, NDArray[np.float64]],
    ) -> list[list[_Person]]:
        """The same of people whose sums are known; those of others are passed over."""
        if (own := query.without) is not None and own.is_matchable and own.cluster_id in sums:
            sums[own.cluster_id][0] -= 1
            sums[own.cluster_id][1:] -= as_stored(query.faces.embeddings[0])
            if sums[own.cluster_id][0] < 1:
                del sums[own.cluster_id]
        return [
            _measured(query.faces.rule, query.faces.embeddings[n], candidates, sums)
            for n, candidates in zip(which, near, strict=True)
        ]

    async def _as_people_said(
        self,
        query: PeopleQuery,
        limits: Sequence[float],
        near: list[list[_Person]],
        *,
        are_known: bool,
    ) -> list[list[_Person]]:
        """The same people, those whom people put together as near as a face that they placed.

        Args:
            are_known: the people were not found by their faces, so that nothing is known of these.
        """
        rule, embeddings = query.faces.rule, query.faces.embeddings
        asked: list[list[ClusterId]] = []
        for embedding, limit, people in zip(embeddings, limits, near, strict=True):
            farthest = people[query.wanted - 1].distance if len(people) >= query.wanted else np.inf
            asked.append(
                [
                    person.cluster_id
                    for person in people
                    if person.distance > limit
                    and (
                        are_known
                        or (
                            person.known.placed is not None
                            and rule.distance_to_face(as_stored(embedding), person.known.placed)
                            < min(person.distance, farthest)
                        )
                    )
                ]
            )
        if not any(asked):
            return near
        rows = await self._connection.fetch(
            SQL["clusters_put_together"],
            self._tenant_id,
            [UUID(cluster) for cluster in {cluster for each in asked for cluster in each}],
            _without(query),
        )
        said = {ClusterId(str(row["cluster_id"])) for row in rows}
        placed = await self._nearest_faces(
            query, [[each for each in some if each in said] for some in asked], only_placed=True
        )
        return [
            _sorted(
                _nearer(person, rule.distance_to_face(as_stored(embedding), faces[nth][1]))
                if (nth := person.cluster_id) in faces
                else person
                for person in people
            )
            for embedding, people, faces in zip(embeddings, near, placed, strict=True)
        ]

    async def _with_faces(
        self, query: PeopleQuery, near: Sequence[Sequence[_Person]]
    ) -> tuple[tuple[NearPerson, ...], ...]:
        faces = await self._nearest_faces(
            query,
            [[each.cluster_id for each in people if each.known.nearest is None] for people in near],
        )
        return tuple(
            tuple(
                NearPerson(
                    person.cluster_id,
                    person.distance,
                    *(person.known.nearest or nearest[person.cluster_id]),
                    person.faces,
                )
                for person in people
            )
            for people, nearest in zip(near, faces, strict=True)
        )

    async def _nearest_faces(
        self,
        query: PeopleQuery,
        people: Sequence[Sequence[ClusterId]],
        *,
        only_placed: bool = False,
    ) -> list[dict[ClusterId, tuple[FaceId, float]]]:
        """For each face the nearest faces of some people, with their cosine distances.

        Args:
            only_placed: of the faces that the machine did not match.
        """
        nearest: list[dict[ClusterId, tuple[FaceId, float]]] = [{} for _ in people]
        if any(people):
            rows = await self._connection.fetch(
                SQL["nearest_faces_of_people"],
                self._tenant_id,
                self._space,
                [HalfVector(each) for each in query.faces.embeddings],
                *numbered([[UUID(cluster) for cluster in some] for some in people]),
                _without(query),
                _MOST_FACES_OF_A_PERSON,
                only_placed,
            )
            for row in rows:
                face = FaceId(str(row["face_id"])), float(row["distance"])
                nearest[row["nth"] - 1][ClusterId(str(row["cluster_id"]))] = face
        return nearest


def _first_wanted(query: PeopleQuery) -> int:
    """The candidates that are chosen first."""
    return _MORE_CANDIDATES + _CANDIDATES_PER_PERSON * query.wanted


def embedded_face(row: asyncpg.Record) -> tuple[StoredFace, Embedding]:
    """The face that `search_state_and_face` tells, and its vector.

    Raises:
        NotFoundError: there is no such face.
        FaceNotEmbeddedError: the face has no vector of the searched model.
    """
    if row["face_id"] is None:
        raise NotFoundError("face")
    if row["embedding"] is None:
        raise FaceNotEmbeddedError
    return stored_face(row), row["embedding"].to_numpy().astype(np.float32)


def _measured(
    rule: MatchRule,
    embedding: Embedding,
    candidates: _Candidates,
    sums: Mapping[ClusterId, NDArray[np.float64]],
) -> list[_Person]:
    summed = [cluster for cluster in candidates if cluster in sums]
    if not summed:
        return []
    totals = np.stack([sums[cluster] for cluster in summed])
    distances = rule.distances(as_stored(embedding), totals[:, 1:], totals[:, 0])
    return _sorted(
        _Person(cluster, float(distance), int(count), candidates[cluster])
        for cluster, distance, count in zip(summed, distances, totals[:, 0], strict=True)
    )


def _nearer(person: _Person, distance: float) -> _Person:
    return replace(person, distance=min(person.distance, distance))


def _sorted(people: Iterable[_Person]) -> list[_Person]:
    return sorted(people, key=lambda each: (each.distance, each.cluster_id))


def _by_embedding(rows: Sequence[asyncpg.Record], count: int) -> list[_Candidates]:
    near: list[_Candidates] = [{} for _ in range(count)]
    for row in rows:
        distance, placed = row["distance"], row["placed"]
        nearest = None if distance is None else (FaceId(str(row["face_id"])), float(distance))
        near[row["nth"] - 1][ClusterId(str(row["cluster_id"]))] = _Known(nearest, placed)
    return near


def _sums(rows: Sequence[asyncpg.Record]) -> dict[ClusterId, NDArray[np.float64]]:
    """The number of faces of each person, followed by the sum of their vectors."""
    if not rows:
        return {}
    totals = numbers_of([row["total"] for row in rows])
    return {ClusterId(str(row["cluster_id"])): own for row, own in zip(rows, totals, strict=True)}


def _without(query: PeopleQuery) -> UUID | None:
    return None if query.without is None else UUID(query.without.face_id)


def _is_id(cluster: ClusterId) -> bool:
    try:
        known_uuid(cluster, "cluster")
    except NotFoundError:
        return False
    return True


def numbers_of(sent: Sequence[bytes]) -> NDArray[np.float64]:
    """The elements of vectors of one dimension as PostgreSQL sends them: float64 [n, dimension]."""
    if not sent:
        return np.empty((0, 1))
    numbers = np.frombuffer(b"".join(each[_VECTOR_HEAD_BYTES:] for each in sent), ">f4")
    return numbers.astype(np.float64).reshape(len(sent), -1)
