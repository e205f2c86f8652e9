"""The clusters nearest to a face: exactly for small tenants, through an index for large ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
from pgvector import HalfVector

from service.domain.types import ClusterDistance, ClusterId, Embedding, ModelSpace, TenantId
from service.store.statements import SQL

INDEX_PREFIX = "face_vector_hnsw_"

# Near faces share clusters, so more of them are asked for than clusters are needed; where one
# person fills the answer, for many more, and in the end for all.
_FACES_PER_CLUSTER = 16
_GROWTH = 8
_MOST_FACES = 10_000


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """ef_search: how many candidates an HNSW index keeps while it is searched."""

    ef_search: int


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
        on_search: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._settings = settings
        self._on_search = on_search

    async def nearest_clusters(
        self, embeddings: Sequence[Embedding], space: ModelSpace, max_distance: float
    ) -> list[list[ClusterDistance]]:
        """For each embedding its nearest clusters, at least as many as there are embeddings.

        Fewer only where no more lie within `max_distance`; farther ones may be among them. The
        distance to a cluster is the cosine distance to its nearest face.
        """
        if not embeddings:
            return []
        name = vector_index_name(self._tenant_id, space)
        if not await self._connection.fetchval(SQL["vector_index_is_valid"], name):
            self._on_search("exact")
            return await self._search("nearest_faces_exact", embeddings, space, max_distance)
        self._on_search("index")
        await self._connection.execute(SQL["begin_index_search"], self._settings.ef_search)
        found = await self._search("nearest_faces_by_index", embeddings, space, max_distance)
        await self._connection.execute(SQL["end_index_search"])
        return found

    async def _search(
        self,
        statement: str,
        embeddings: Sequence[Embedding],
        space: ModelSpace,
        max_distance: float,
    ) -> list[list[ClusterDistance]]:
        """Ask for more and more faces until each embedding has the clusters it may need."""
        wanted = len(embeddings)
        found: list[list[ClusterDistance]] = [[] for _ in embeddings]
        short = list(range(wanted))
        limit: int | None = 1 if wanted == 1 else wanted * _FACES_PER_CLUSTER
        while short:
            asked = [embeddings[nth] for nth in short]
            near = await self._nearest_faces(statement, asked, space, limit)
            still_short = []
            for nth, faces in zip(short, near, strict=True):
                clusters: dict[ClusterId, ClusterDistance] = {}
                for face in faces:
                    clusters.setdefault(face.cluster_id, face)
                found[nth] = list(clusters.values())
                seen_all = limit is None or len(faces) < limit
                if not (seen_all or len(clusters) >= wanted or faces[-1].distance > max_distance):
                    still_short.append(nth)
            short = still_short
            if limit is not None:
                limit *= _GROWTH
                if limit > _MOST_FACES:
                    statement, limit = "nearest_faces_exact", None
        return found

    async def _nearest_faces(
        self,
        statement: str,
        embeddings: Sequence[Embedding],
        space: ModelSpace,
        limit: int | None,
    ) -> list[list[ClusterDistance]]:
        """The clusters of the nearest faces of each embedding, nearest first."""
        vectors = [HalfVector(embedding) for embedding in embeddings]
        rows = await self._connection.fetch(SQL[statement], self._tenant_id, space, vectors, limit)
        near: list[list[ClusterDistance]] = [[] for _ in embeddings]
        for row in rows:
            near[row["nth"] - 1].append(
                ClusterDistance(ClusterId(str(row["cluster_id"])), float(row["distance"]))
            )
        return near
