"""The clusters nearest to a face: exactly for small tenants, through an index for large ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import asyncpg
from pgvector import HalfVector

from service.domain.types import (
    ClusterDistance,
    ClusterId,
    ClusterQuery,
    Embedding,
    FaceDistance,
    FaceId,
    ModelSpace,
    TenantId,
)
from service.store.statements import SQL

INDEX_PREFIX = "face_vector_hnsw_"

# Near faces share clusters: of several faces each may need the cluster behind the nearest one. More
# are asked for where one person fills the answer, which a photo of many people does not change.
_FACES_AT_FIRST = 32
_GROWTH = 8
_MOST_FROM_INDEX = 5_000
# Of the largest distance at which a face joins a cluster: as near as that, nobody else is nearer.
_BEYOND_DOUBT = 0.6


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How many candidates an HNSW index keeps while it is searched.

    quick_ef_search: for the first look for the cluster of a face.
    ef_search: for a face that this look finds nobody close to.
    """

    ef_search: int
    quick_ef_search: int


@dataclass(frozen=True, slots=True)
class Finds:
    """What was looked up for a query, when the tenant was as it says.

    changes: the count of the tenant's changes; None without a tenant. last_seq: its last face.
    """

    query: ClusterQuery
    changes: int | None
    last_seq: int
    near: list[list[FaceDistance]]


def vector_index_name(tenant_id: TenantId, space: ModelSpace) -> str:
    """The name of the HNSW index over one tenant's vectors of one model."""
    named = hashlib.sha256(f"{tenant_id}\0{space}".encode()).hexdigest()[:32]
    return INDEX_PREFIX + named


class ClusterSearch:
    """Searches of one tenant, inside a transaction of theirs.

    The path is chosen anew for each search: through the index where the tenant has one that is
    whole, exactly where it has none yet, or it is being built, or was left broken.

    Args:
        on_search: told the path of each search, "index" or "exact".
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        settings: SearchSettings,
        on_search: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._settings = settings
        self._on_search = on_search

    async def look_up(self, query: ClusterQuery) -> Finds:
        """Find the faces near to those of a query, while others may change the tenant."""
        state = await self._begin(query.space, self._settings.quick_ef_search)
        near = await self._enough(query, by_index=state["has_index"])
        if state["has_index"]:
            await self._connection.execute(SQL["end_search"])
        return Finds(query, state["changes"], state["last_seq"] or 0, near)

    async def clusters(self, finds: Finds, changes: int) -> list[list[ClusterDistance]]:
        """For each embedding its nearest clusters, as they are now that the tenant is locked.

        At least as many as there are embeddings; fewer only where no more lie within the query's
        distance, and farther ones may be among them. The distance to a cluster is the cosine
        distance to its nearest face.

        Args:
            changes: the count of the tenant's changes, with the one that has begun now.
        """
        if finds.changes is None or changes != finds.changes + 1:
            finds = await self._up_to_date(finds)
        return [list(_nearest_of_clusters(faces).values()) for faces in finds.near]

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
        if exactly:
            return await self._nearest(embeddings, space, limit, by_index=False)
        by_index = (await self._begin(space, self._settings.ef_search))["has_index"]
        near = await self._nearest(embeddings, space, limit, by_index=by_index)
        if by_index:
            await self._connection.execute(SQL["end_search"])
        return near

    async def _begin(self, space: ModelSpace, ef_search: int) -> asyncpg.Record:
        name = vector_index_name(self._tenant_id, space)
        return await self._connection.fetchrow(
            SQL["begin_search"], self._tenant_id, name, ef_search
        )

    async def _enough(self, query: ClusterQuery, *, by_index: bool) -> list[list[FaceDistance]]:
        """The faces that show the clusters which the query's faces may join.

        A quick look through the index finds nearly every face of somebody known. Who has nobody
        close is looked for again, harder: before a cluster is opened, and where the nearest one is
        not close beyond doubt.
        """
        everyone = range(len(query.embeddings))
        near = await self._until_enough(query, everyone, by_index=by_index)
        close = query.max_distance * _BEYOND_DOUBT
        doubtful = [n for n in everyone if not near[n] or near[n][0].distance > close]
        if by_index and doubtful:
            await self._connection.execute(SQL["search_harder"], self._settings.ef_search)
            again = await self._until_enough(query, doubtful, by_index=True)
            for nth, faces in zip(doubtful, again, strict=True):
                near[nth] = faces
        return near

    async def _until_enough(
        self, query: ClusterQuery, which: Sequence[int], *, by_index: bool
    ) -> list[list[FaceDistance]]:
        """Ask for more and more faces until each embedding has the clusters it may need."""
        wanted = len(query.embeddings)
        found: dict[int, list[FaceDistance]] = {}
        short = list(which)
        limit = 1 if wanted == 1 else _FACES_AT_FIRST
        while short:
            asked = [query.embeddings[nth] for nth in short]
            near = await self._nearest(asked, query.space, limit, by_index=by_index)
            found.update(zip(short, near, strict=True))
            short = [
                nth
                for nth in short
                if len(found[nth]) == limit
                and found[nth][-1].distance <= query.max_distance
                and len(_nearest_of_clusters(found[nth])) < wanted
            ]
            limit *= _GROWTH
        return [found[nth] for nth in which]

    async def _nearest(
        self, embeddings: Sequence[Embedding], space: ModelSpace, limit: int, *, by_index: bool
    ) -> list[list[FaceDistance]]:
        """The nearest faces of each embedding."""
        if not embeddings:
            return []
        vectors = [HalfVector(embedding) for embedding in embeddings]
        # A large part of the tenant is found faster without the index.
        by_index = by_index and limit <= _MOST_FROM_INDEX
        self._on_search("index" if by_index else "exact")
        statement = "nearest_faces_by_index" if by_index else "nearest_faces_exact"
        rows = await self._connection.fetch(SQL[statement], self._tenant_id, space, vectors, limit)
        return _by_embedding(rows, len(embeddings))

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
        now = {str(row["face_id"]): ClusterId(str(row["cluster_id"])) for row in rows}
        new = _by_embedding(
            await self._connection.fetch(
                SQL["nearest_faces_among_new"],
                tenant_id,
                query.space,
                [HalfVector(embedding) for embedding in query.embeddings],
                finds.last_seq,
                query.max_distance,
            ),
            len(query.embeddings),
        )
        near = [
            sorted(
                [*(replace(face, cluster_id=now[face.face_id]) for face in known), *came],
                key=lambda face: (face.distance, face.face_id),
            )
            for known, came in zip(finds.near, new, strict=True)
        ]
        if any(
            len(_nearest_of_clusters(known)) > len(_nearest_of_clusters(faces))
            for known, faces in zip(finds.near, near, strict=True)
        ):
            return await self.look_up(query)  # clusters were put together
        return replace(finds, near=near)


def _nearest_of_clusters(faces: Sequence[FaceDistance]) -> dict[ClusterId, ClusterDistance]:
    """How far each cluster's nearest face is, nearest first."""
    clusters: dict[ClusterId, ClusterDistance] = {}
    for face in faces:
        clusters.setdefault(face.cluster_id, ClusterDistance(face.cluster_id, face.distance))
    return clusters


def _by_embedding(rows: Sequence[asyncpg.Record], count: int) -> list[list[FaceDistance]]:
    near: list[list[FaceDistance]] = [[] for _ in range(count)]
    for row in rows:
        near[row["nth"] - 1].append(
            FaceDistance(
                FaceId(str(row["face_id"])),
                ClusterId(str(row["cluster_id"])),
                float(row["distance"]),
            )
        )
    return near
