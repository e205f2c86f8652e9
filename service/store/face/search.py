"""The clusters nearest to a face: exactly for small tenants, by codes or an index for others."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import asyncpg
import numpy as np
from asyncpg.pgproto.pgproto import UUID
from numpy.typing import NDArray
from pgvector import HalfVector

from service.domain.matching import Candidates, ClusterQuery, MatchRule, as_stored, reach_of
from service.domain.types import (
    ClusterDistance,
    ClusterId,
    Embedding,
    FaceDistance,
    FaceId,
    ModelSpace,
    TenantId,
)
from service.index.codes import FaceCodes, Snapshot, code_of
from service.store.database.statements import SQL, with_dimension, with_statement
from service.store.face.code_cache import CodeCache

INDEX_PREFIX = "face_vector_hnsw_"

# Near faces share clusters: of several faces each may need the cluster behind the nearest one. More
# are asked for where one person fills the answer, which a photo of many people does not change.
_FACES_AT_FIRST = 32
_GROWTH = 8
_MOST_FROM_INDEX = 5_000
# A graph has no way to some people who are far from all others: it is searched so much farther.
_FARTHER = 2
_MOST_EF_SEARCH = 1000  # that pgvector knows
# The nearest pivots whose codes are compared, and the faces that are compared in full.
_FIRST_PROBE = (32, _FACES_AT_FIRST)
# Codes that are compared on the event loop; more of them are worth a thread.
_MAX_CODES_ON_LOOP = 8_192
_FACES_OF_A_PIVOT = 8  # about as many as a person has
# How PostgreSQL sends an array of one dimension: five words, and each element behind its length.
_ARRAY_HEAD_BYTES = 20
_ELEMENT = np.dtype([("size", ">i4"), ("number", ">f8")])
_FARTHEST = 2.0  # cosine distance
# Of the reach: as near as that, nobody else is nearer.
_BEYOND_DOUBT = 0.6


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How large tenants are searched: how many candidates an HNSW index keeps meanwhile."""

    ef_search: int = 200


@dataclass(frozen=True, slots=True)
class Finds:
    """What was looked up for a query, when the tenant was as it says.

    changes: the count of the tenant's changes; None without a tenant. last_seq: its last face.
    limits: for each embedding the largest distance to a cluster that it joins, by the people there
        were.
    near: for each embedding the nearest faces that others may be matched against, nearest first.
        All are there that show a cluster which the face may join; farther ones may follow.
    """

    query: ClusterQuery
    changes: int | None
    last_seq: int
    limits: tuple[float, ...]
    near: list[list[FaceDistance]]

    @property
    def reach(self) -> float:
        """The largest cosine distance to the nearest face of a cluster that may be joined."""
        return reach_of(max(self.limits, default=0.0))

    def counting(self, faces: Sequence[FaceDistance]) -> Sequence[FaceDistance]:
        """Those of the nearest faces whose clusters may be joined.

        However many were looked up: what came meanwhile is among them, and nothing depends on it.
        """
        within = [face for face in faces if face.distance <= self.reach]
        limit = _FACES_AT_FIRST
        while self.lacks_clusters(within[:limit], limit):
            limit *= _GROWTH
        return within[:limit]

    def lacks_clusters(self, faces: Sequence[FaceDistance], limit: int) -> bool:
        """Whether faces behind the `limit` nearest may show another cluster that counts."""
        return lacks_clusters(
            faces, reach=self.reach, wanted=len(self.query.embeddings), limit=limit
        )


def vector_index_name(tenant_id: TenantId, space: ModelSpace) -> str:
    """The name of the HNSW index over one tenant's vectors of one model."""
    named = hashlib.sha256(f"{tenant_id}\0{space}".encode()).hexdigest()[:32]
    return INDEX_PREFIX + named


class ClusterSearch:
    """Searches of one tenant, inside a transaction of theirs.

    The path is chosen anew for each search. A tenant without an index, or with one that is being
    built or was left broken, is searched exactly. One with an index is searched by the codes of its
    faces where these are in memory, and through the index else.

    Args:
        codes: holds the codes; without it there are none.
        on_search: told the path of each search, "codes", "index" or "exact".
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        settings: SearchSettings,
        codes: CodeCache | None = None,
        on_search: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._settings = settings
        self._cache = codes
        self._on_search = on_search

    async def look_up(self, query: ClusterQuery) -> Finds:
        """Find the faces near to those of a query, while others may change the tenant."""
        has_codes = self._cache is not None and self._cache.has(self._tenant_id, query.space)
        state = await self.state(query.space, generic_plans=has_codes)
        codes = self.codes(query.space, state)
        everyone = range(len(query.embeddings))
        limits = query.limits(state["people"] or 0, state["match_factor"] or 1.0)
        finds = Finds(query, state["changes"], state["last_seq"] or 0, limits, [])
        if codes is not None:
            near = await self._until_sure(finds, codes)
        elif state["has_index"]:
            async with self._through_index():
                near = await self._until_enough(finds, everyone, by_index=True)
        else:
            near = await self._until_enough(finds, everyone, by_index=False)
        return replace(finds, near=near)

    async def clusters(self, finds: Finds, changes: int, *, obeys: bool = False) -> Candidates:
        """The clusters that each face may join, as they are now that the tenant is locked.

        Args:
            changes: the count of the tenant's changes, with the one that has begun now.
            obeys: whether people decided anything that the clusters must obey.
        """
        if finds.changes is None or changes != finds.changes + 1:
            finds = await self._up_to_date(finds)
            obeys = True  # what was decided while the lock was waited for was not seen yet
        near = [finds.counting(faces) for faces in finds.near]
        within = [nearest_of_clusters(faces) for faces in near]
        sums = await self.sums({cluster for each in within for cluster in each}, finds.query.space)
        measured = [
            _measured(finds.query, embedding, nearest, sums)
            for embedding, nearest in zip(finds.query.embeddings, within, strict=True)
        ]
        of_faces = await self._as_people_said(finds, near, measured)
        if obeys:
            of_faces = await self._without_denied(finds.query, near, of_faces)
        return Candidates(finds.limits, tuple(of_faces))

    async def nearest_faces(
        self,
        embeddings: Sequence[Embedding],
        space: ModelSpace,
        limit: int,
        *,
        exactly: bool = False,
    ) -> list[list[FaceDistance]]:
        """For each embedding the faces nearest to it, nearest first; fewer only if it has fewer.

        Args:
            exactly: compare every face, whatever index there is.
        """
        state = await self.state(space)
        if exactly or not state["has_index"]:
            return await self._nearest(embeddings, space, limit, _FARTHEST, by_index=False)
        async with self._through_index():
            return await self._nearest(embeddings, space, limit, _FARTHEST, by_index=True)

    async def state(self, space: ModelSpace, *, generic_plans: bool = False) -> asyncpg.Record:
        """The tenant as `search_state` tells it.

        Args:
            generic_plans: what follows in the transaction looks faces up by their keys.
        """
        name = vector_index_name(self._tenant_id, space)
        return await self._connection.fetchrow(
            SQL["search_state"], self._tenant_id, name, generic_plans
        )

    async def state_and_face(
        self, space: ModelSpace, face_id: UUID, *, generic_plans: bool
    ) -> asyncpg.Record:
        """The same, and a face, as `search_state_and_face` tells it."""
        statement = with_statement("search_state_and_face", "search_state")
        name = vector_index_name(self._tenant_id, space)
        return await self._connection.fetchrow(
            statement, self._tenant_id, name, generic_plans, face_id, space
        )

    def codes(self, space: ModelSpace, state: asyncpg.Record) -> FaceCodes | None:
        """The tenant's codes, if they are in memory; they are asked for where there is an index."""
        cache = self._cache
        if cache is None or not (state["has_index"] or cache.has(self._tenant_id, space)):
            return None
        return cache.of(self._tenant_id, space, state["last_seq"] or 0)

    @asynccontextmanager
    async def _through_index(self) -> AsyncIterator[None]:
        ef_search = min(self._settings.ef_search * _FARTHER, _MOST_EF_SEARCH)
        await self._connection.execute(SQL["begin_search"], ef_search)
        yield
        await self._connection.execute(SQL["end_search"])

    async def sums(
        self, clusters: set[ClusterId], space: ModelSpace
    ) -> dict[ClusterId, NDArray[np.float64]]:
        """Of each cluster how many of its faces count, followed by the sum of their vectors.

        float64 [1 + dimension]; a cluster without such faces is left out.
        """
        if not clusters:
            return {}
        ids = [UUID(cluster) for cluster in clusters]
        rows = await self._connection.fetch(SQL["sums_of_clusters"], self._tenant_id, space, ids)
        return {ClusterId(str(row["cluster_id"])): _numbers(row["total"]) for row in rows}

    async def _as_people_said(
        self,
        finds: Finds,
        near: Sequence[Sequence[FaceDistance]],
        measured: Sequence[tuple[ClusterDistance, ...]],
    ) -> list[tuple[ClusterDistance, ...]]:
        """The same distances, but to the faces of which people said that they belong together.

        They may look so different that their sum is like none of them. So where a person put faces
        into a cluster, it is as near as the nearest of those that the machine did not match.
        """
        nearer = [
            _nearest_said(finds.query.rule, embedding, limit, faces, clusters)
            for embedding, limit, faces, clusters in zip(
                finds.query.embeddings, finds.limits, near, measured, strict=True
            )
        ]
        asked = {cluster for each in nearer for cluster in each}
        if not asked:
            return list(measured)
        ids = [UUID(cluster) for cluster in asked]
        rows = await self._connection.fetch(
            SQL["clusters_put_together"], self._tenant_id, ids, None
        )
        said = {ClusterId(str(row["cluster_id"])) for row in rows}
        return [
            _sorted(
                replace(each, distance=distances[each.cluster_id])
                if each.cluster_id in said and each.cluster_id in distances
                else each
                for each in clusters
            )
            for clusters, distances in zip(measured, nearer, strict=True)
        ]

    async def _without_denied(
        self,
        query: ClusterQuery,
        near: Sequence[Sequence[FaceDistance]],
        measured: Sequence[tuple[ClusterDistance, ...]],
    ) -> list[tuple[ClusterDistance, ...]]:
        """The same clusters, but for those that a nearer face is not, as a person decided.

        A face that resembles the denied one more than it does the person is denied as well.
        """
        nearer = [
            _nearer_than_clusters(query.rule, embedding, faces, clusters)
            for embedding, faces, clusters in zip(query.embeddings, near, measured, strict=True)
        ]
        faces = {face for each in nearer for face, _ in each}
        if not faces:
            return list(measured)
        clusters = {cluster for each in nearer for _, cluster in each}
        rows = await self._connection.fetch(
            SQL["denied_to_clusters"],
            self._tenant_id,
            [UUID(face) for face in faces],
            [UUID(cluster) for cluster in clusters],
        )
        denied = {(FaceId(str(row["face_id"])), ClusterId(str(row["cluster_id"]))) for row in rows}
        refused = [{cluster for _, cluster in each & denied} for each in nearer]
        return [
            tuple(each for each in options if each.cluster_id not in against)
            for options, against in zip(measured, refused, strict=True)
        ]

    async def _until_sure(self, finds: Finds, codes: FaceCodes) -> list[list[FaceDistance]]:
        """Compare the faces with the nearest codes, and more of them until it is enough.

        The nearest codes are not quite the nearest faces. So a second probe goes farther where the
        first one leaves a doubt: where no face is close, or faces of several clusters are.
        """
        query = finds.query
        wanted = len(query.embeddings)
        close = finds.reach * _BEYOND_DOUBT
        found: dict[int, list[FaceDistance]] = {}
        short = list(range(wanted))
        pivots, faces = _FIRST_PROBE
        while short and faces <= _MOST_FROM_INDEX:
            self._on_search("codes")
            snapshot = codes.snapshot
            ids = await near_by_code([query.embeddings[n] for n in short], snapshot, pivots, faces)
            rows = await self._connection.fetch(
                SQL["nearest_faces_among"],
                self._tenant_id,
                query.space,
                [HalfVector(query.embeddings[n]) for n in short],
                *numbered(ids),
                snapshot.last_seq,
                faces,
                finds.reach,
            )
            near = by_embedding(rows, len(short))
            compared = {row["nth"] - 1: row["compared"] for row in rows}
            found.update(zip(short, near, strict=True))
            doubted = faces == _FIRST_PROBE[1]
            short = [
                n
                for nth, n in enumerate(short)
                if (pivots < snapshot.pivots or faces < len(snapshot))
                and (
                    compared.get(nth, 0) < len(ids[nth]) // 2  # the others were deleted
                    or (doubted and _in_doubt(near[nth], close))
                    or finds.lacks_clusters(near[nth], faces)
                )
            ]
            pivots, faces = pivots * _GROWTH, faces * _GROWTH
        if short:  # a large part of the tenant is found faster without codes
            await self._connection.execute(SQL["end_search"])
            exact = await self._until_enough(finds, short, by_index=False)
            found.update(zip(short, exact, strict=True))
        return [found[n] for n in range(wanted)]

    async def _until_enough(
        self, finds: Finds, which: Sequence[int], *, by_index: bool
    ) -> list[list[FaceDistance]]:
        """Ask for more and more faces until each embedding has the clusters it may need."""
        query = finds.query
        found: dict[int, list[FaceDistance]] = {}
        short = list(which)
        limit = _FACES_AT_FIRST
        while short:
            asked = [query.embeddings[n] for n in short]
            near = await self._nearest(asked, query.space, limit, finds.reach, by_index=by_index)
            found.update(zip(short, near, strict=True))
            short = [n for n in short if finds.lacks_clusters(found[n], limit)]
            limit *= _GROWTH
        return [found[n] for n in which]

    async def _nearest(
        self,
        embeddings: Sequence[Embedding],
        space: ModelSpace,
        limit: int,
        reach: float,
        *,
        by_index: bool,
    ) -> list[list[FaceDistance]]:
        """The nearest faces of each embedding, up to a cosine distance, but at least one."""
        if not embeddings:
            return []
        vectors = [HalfVector(embedding) for embedding in embeddings]
        asked = (self._tenant_id, space, vectors, limit, reach)
        # A large part of the tenant is found faster without the index.
        if not by_index or limit > _MOST_FROM_INDEX:
            self._on_search("exact")
            rows = await self._connection.fetch(SQL["nearest_faces_exact"], *asked)
        else:
            self._on_search("index")
            statement = with_dimension("nearest_faces_by_index", len(embeddings[0]))
            rows = await self._connection.fetch(statement, *asked)
        return by_embedding(rows, len(embeddings))

    async def _up_to_date(self, finds: Finds) -> Finds:
        """The same finds, after what others did to the tenant before it was locked.

        Faces that came are compared, those that were moved are seen where they are now. Where one
        was deleted, another may have been behind it, and the search is done again.
        """
        query, tenant_id = finds.query, self._tenant_id
        ids = {UUID(face.face_id) for faces in finds.near for face in faces}
        rows = await self._connection.fetch(SQL["clusters_of_faces"], tenant_id, list(ids))
        if len(rows) < len(ids):
            return await self.look_up(query)
        now = {str(row["face_id"]): row for row in rows}
        new = by_embedding(
            await self._connection.fetch(
                SQL["nearest_faces_among_new"],
                tenant_id,
                query.space,
                [HalfVector(embedding) for embedding in query.embeddings],
                finds.last_seq,
                finds.reach,
            ),
            len(query.embeddings),
        )
        near = [
            sorted(
                [*(_as_it_is(face, now[face.face_id]) for face in known), *came],
                key=lambda face: (face.distance, face.face_id),
            )
            for known, came in zip(finds.near, new, strict=True)
        ]
        if any(
            len(nearest_of_clusters(known)) > len(nearest_of_clusters(faces))
            for known, faces in zip(finds.near, near, strict=True)
        ):
            return await self.look_up(query)  # clusters were put together
        return replace(finds, near=near)


def _as_it_is(face: FaceDistance, row: asyncpg.Record) -> FaceDistance:
    cluster_id = ClusterId(str(row["cluster_id"]))
    return replace(face, cluster_id=cluster_id, is_auto_matched=row["is_auto_matched"])


def _in_doubt(faces: Sequence[FaceDistance], close: float) -> bool:
    """Whether a farther probe may show a better cluster than the nearest faces do."""
    return not faces or faces[0].distance > close or len(nearest_of_clusters(faces)) > 1


def _numbers(sent: bytes) -> NDArray[np.float64]:
    """An array of PostgreSQL, double precision without nulls, from its binary form: float64 [n]."""
    elements = np.frombuffer(sent, _ELEMENT, offset=_ARRAY_HEAD_BYTES)
    return elements["number"].astype(np.float64)


def _measured(
    query: ClusterQuery,
    embedding: Embedding,
    nearest: Mapping[ClusterId, float],
    sums: Mapping[ClusterId, NDArray[np.float64]],
) -> tuple[ClusterDistance, ...]:
    """How far a face is from the clusters within its reach, nearest first.

    Its vector is taken as it will be stored, so that it is as far from a cluster now as later.
    """
    known = [cluster for cluster in nearest if cluster in sums]
    if not known:
        return ()
    totals = np.stack([sums[cluster] for cluster in known])
    distances = query.rule.distances(as_stored(embedding), totals[:, 1:], totals[:, 0])
    return _sorted(
        ClusterDistance(cluster, float(distance), nearest[cluster], int(count))
        for cluster, distance, count in zip(known, distances, totals[:, 0], strict=True)
    )


def _nearest_said(
    rule: MatchRule,
    embedding: Embedding,
    limit: float,
    faces: Sequence[FaceDistance],
    clusters: Sequence[ClusterDistance],
) -> dict[ClusterId, float]:
    """Of clusters beyond the limit: the distance to a face of theirs that was not matched, within.

    Args:
        faces: those around the embedding, nearest first.
        clusters: how far theirs are by their sums.
    """
    beyond = {each.cluster_id for each in clusters if each.distance > limit}
    placed = {
        face.cluster_id: face.distance
        for face in reversed(faces)
        if face.cluster_id in beyond and not face.is_auto_matched
    }
    stored = as_stored(embedding)
    found = {cluster: rule.distance_to_face(stored, near) for cluster, near in placed.items()}
    return {cluster: distance for cluster, distance in found.items() if distance <= limit}


def _nearer_than_clusters(
    rule: MatchRule,
    embedding: Embedding,
    faces: Sequence[FaceDistance],
    clusters: Sequence[ClusterDistance],
) -> set[tuple[FaceId, ClusterId]]:
    """The pairs of a face and a cluster, not its own, that is farther from the embedding."""
    if not clusters:
        return set()
    stored, farthest = as_stored(embedding), clusters[-1].distance
    pairs = set()
    for face in faces:
        distance = rule.distance_to_face(stored, face.distance)
        if distance >= farthest:
            break
        pairs |= {
            (face.face_id, each.cluster_id)
            for each in clusters
            if each.distance > distance and each.cluster_id != face.cluster_id
        }
    return pairs


def _sorted(clusters: Iterable[ClusterDistance]) -> tuple[ClusterDistance, ...]:
    return tuple(sorted(clusters, key=lambda each: (each.distance, each.cluster_id)))


# So many nearest faces, within reach, may be of clusters that a face can join.
DISPUTED_FACES = 256


def by_embedding(rows: Sequence[asyncpg.Record], count: int) -> list[list[FaceDistance]]:
    near: list[list[FaceDistance]] = [[] for _ in range(count)]
    for row in rows:
        near[row["nth"] - 1].append(
            FaceDistance(
                FaceId(str(row["face_id"])),
                ClusterId(str(row["cluster_id"])),
                float(row["distance"]),
                row["is_auto_matched"],
            )
        )
    return near


def nearest_of_clusters(faces: Sequence[FaceDistance]) -> dict[ClusterId, float]:
    """The cosine distance of each cluster's nearest face, nearest first."""
    clusters: dict[ClusterId, float] = {}
    for face in faces:
        clusters.setdefault(face.cluster_id, face.distance)
    return clusters


def lacks_clusters(faces: Sequence[FaceDistance], *, reach: float, wanted: int, limit: int) -> bool:
    """Whether faces behind the `limit` nearest may show another cluster that counts.

    That is never so beyond the reach. Within it, the nearest faces may all be of one person, whom
    more faces say nothing new about; where they are of several, more of them are looked at, up to
    `DISPUTED_FACES`; and there are to be as many clusters as the photo has faces.

    Args:
        reach: the largest cosine distance to the nearest face of a cluster that may be joined.
        wanted: how many faces the photo has.
    """
    if len(faces) < limit or faces[-1].distance > reach:
        return False
    clusters = len(nearest_of_clusters(faces))
    return clusters < wanted or (clusters > 1 and limit < DISPUTED_FACES)


def numbered(ids: Sequence[Sequence[UUID]]) -> tuple[list[UUID], list[int]]:
    """All ids in one list, and in another one, beginning with 1, which embedding's each is."""
    together = [each for some in ids for each in some]
    return together, [nth for nth, some in enumerate(ids, 1) for _ in some]


async def near_by_code(
    embeddings: Sequence[Embedding], codes: Snapshot, pivots: int, faces: int
) -> list[list[UUID]]:
    """For each embedding the ids of the faces whose codes are nearest.

    Args:
        pivots: the number of nearest pivots whose codes are compared.
        faces: the number of faces that are wanted.
    """

    def probe() -> list[list[UUID]]:
        near = [codes.nearest(code_of(each), pivots, faces) for each in embeddings]
        return [[UUID(face_id) for face_id in each.tolist()] for each in near]

    compared = len(embeddings) * (codes.pivots + min(len(codes), pivots * _FACES_OF_A_PIVOT))
    if compared <= _MAX_CODES_ON_LOOP:
        return probe()
    return await asyncio.to_thread(probe)
