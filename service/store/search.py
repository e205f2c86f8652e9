"""The clusters nearest to a face: exactly for small tenants, through an index for large ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
from pgvector import HalfVector

from service.domain.types import (
    ClusterDistance,
    ClusterId,
    Embedding,
    FaceDistance,
    FaceId,
    ModelSpace,
    TenantId,
)
from service.store.statements import SQL

INDEX_PREFIX = "face_vector_hnsw_"

# Near faces share clusters, so more of them are asked for than clusters are needed, and many more
# where one person fills the answer.
_FACES_PER_CLUSTER = 16
_GROWTH = 8
_MOST_FROM_INDEX = 5_000


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """ef_search: how many candidates an HNSW index gives, of which the nearest are taken."""

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
        on_search: Callable[[str], None] = lambda path: None,
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
        wanted = len(embeddings)
        found: list[list[ClusterDistance]] = [[] for _ in embeddings]
        short = list(range(wanted))
        limit = 1 if wanted == 1 else wanted * _FACES_PER_CLUSTER
        while short:
            near = await self.nearest_faces([embeddings[nth] for nth in short], space, limit)
            still_short = []
            for nth, faces in zip(short, near, strict=True):
                clusters: dict[ClusterId, ClusterDistance] = {}
                for face in faces:
                    clusters.setdefault(
                        face.cluster_id, ClusterDistance(face.cluster_id, face.distance)
                    )
                found[nth] = list(clusters.values())
                seen_all = len(faces) < limit or faces[-1].distance > max_distance
                if not seen_all and len(clusters) < wanted:
                    still_short.append(nth)
            short, limit = still_short, limit * _GROWTH
        return found

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
        if not embeddings:
            return []
        index = vector_index_name(self._tenant_id, space)
        vectors = [HalfVector(embedding) for embedding in embeddings]
        asked = (self._tenant_id, space, vectors, limit)
        # A large part of the tenant is found faster without the index.
        exactly = exactly or limit > _MOST_FROM_INDEX
        if exactly or not await self._connection.fetchval(SQL["vector_index_is_valid"], index):
            self._on_search("exact")
            rows = await self._connection.fetch(SQL["nearest_faces_exact"], *asked)
        else:
            self._on_search("index")
            candidates = max(self._settings.ef_search, 2 * limit)
            await self._connection.execute(SQL["begin_index_search"], self._settings.ef_search)
            rows = await self._connection.fetch(SQL["nearest_faces_by_index"], *asked, candidates)
            await self._connection.execute(SQL["end_index_search"])
        near: list[list[FaceDistance]] = [[] for _ in embeddings]
        for row in rows:
            near[row["nth"] - 1].append(
                FaceDistance(
                    FaceId(str(row["face_id"])),
                    ClusterId(str(row["cluster_id"])),
                    float(row["distance"]),
                )
            )
        return near
