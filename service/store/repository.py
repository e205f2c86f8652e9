"""What the use cases need of PostgreSQL, tenant by tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np
from pgvector import HalfVector

from service.domain.errors import NotFoundError
from service.domain.types import (
    ClusterDistance,
    ClusterId,
    ClusterSize,
    Embedding,
    FaceId,
    FacialArea,
    ImageId,
    ModelSpace,
    NewFace,
    NewImage,
    Review,
    ReviewId,
    StoredFace,
    StoredImage,
    TenantId,
)
from service.store.database import Database
from service.store.statements import SQL

# The index is asked for more faces than clusters are needed: near faces share clusters.
_FACES_PER_CLUSTER = 32


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """exact_max_faces: larger tenants go through the HNSW index, with this `ef_search`."""

    exact_max_faces: int
    hnsw_ef_search: int


class TenantReader:
    """Reads of one tenant on one connection."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def face(self, face_id: FaceId) -> StoredFace:
        """One face.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        row = await self._connection.fetchrow(SQL["face"], self._tenant_id, _uuid(face_id, "face"))
        return _stored_face(_found(row, "face"))

    async def faces_of_image(self, image_id: ImageId, skip: int, limit: int) -> list[StoredFace]:
        """Faces of an image, largest first.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = _uuid(image_id, "image")
        _found(await self._connection.fetchrow(SQL["image"], self._tenant_id, key), "image")
        rows = await self._connection.fetch(
            SQL["faces_of_image"], self._tenant_id, key, skip, limit
        )
        return [_stored_face(row) for row in rows]

    async def image(self, image_id: ImageId) -> StoredImage:
        """An image with the ids of its faces and their clusters.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = _uuid(image_id, "image")
        row = await self._connection.fetchrow(SQL["image"], self._tenant_id, key)
        phash = _found(row, "image")["phash"]
        rows = await self._connection.fetch(SQL["faces_of_image"], self._tenant_id, key, 0, None)
        return StoredImage(
            phash,
            tuple(FaceId(str(row["face_id"])) for row in rows),
            # Each cluster once, in the order of its first face.
            tuple(dict.fromkeys(ClusterId(str(row["cluster_id"])) for row in rows)),
        )

    async def cluster_size(self, cluster_id: ClusterId) -> ClusterSize:
        """How large a cluster is.

        Raises:
            NotFoundError: the tenant has no such cluster.
        """
        row = await self._connection.fetchrow(
            SQL["cluster_size"], self._tenant_id, _uuid(cluster_id, "cluster")
        )
        return ClusterSize(**_found(row, "cluster"))

    async def review(self, review_id: ReviewId) -> Review:
        """One pending review.

        Raises:
            NotFoundError: the tenant has no such review.
        """
        row = await self._connection.fetchrow(SQL["review"], self._tenant_id, review_id)
        return _review(_found(row, "review"))

    async def reviews(self, skip: int, limit: int) -> list[Review]:
        """Pending reviews, oldest first."""
        rows = await self._connection.fetch(SQL["reviews"], self._tenant_id, skip, limit)
        return [_review(row) for row in rows]


class TenantWriter(TenantReader):
    """Changes to one tenant inside a transaction that holds the tenant's lock."""

    def __init__(
        self, connection: asyncpg.Connection, tenant_id: TenantId, search: SearchSettings
    ) -> None:
        super().__init__(connection, tenant_id)
        self._search = search

    async def nearest_clusters(
        self, embeddings: Sequence[Embedding], space: ModelSpace
    ) -> list[list[ClusterDistance]]:
        """For each embedding its nearest clusters, at least as many as there are embeddings.

        Fewer only where the tenant has fewer. The distance to a cluster is that to its nearest
        face. Small tenants are searched exactly, large ones through the index.
        """
        if not embeddings:
            return []
        limit = self._search.exact_max_faces
        counted = await self._connection.fetchval(
            SQL["count_faces_up_to"], self._tenant_id, limit + 1
        )
        if counted <= limit:
            return [await self._nearest_exact(e, space, len(embeddings)) for e in embeddings]
        await self._connection.execute(SQL["use_index_settings"], self._search.hnsw_ef_search)
        return [await self._nearest_by_index(e, space, len(embeddings)) for e in embeddings]

    async def insert_image(self, image: NewImage) -> None:
        """Store an image's row."""
        photo = image.photo
        await self._connection.execute(
            SQL["insert_image"],
            self._tenant_id,
            UUID(image.image_id),
            image.blob_key,
            photo.format,
            photo.width,
            photo.height,
            image.size_bytes,
            image.sha256,
            photo.phash,
        )

    async def insert_cluster(self, cluster_id: ClusterId, *, with_review: bool) -> None:
        """Open a cluster, and a pending review of it if the machine decided."""
        await self._connection.execute(SQL["insert_cluster"], self._tenant_id, UUID(cluster_id))
        if with_review:
            await self._connection.execute(SQL["insert_review"], self._tenant_id, UUID(cluster_id))

    async def insert_faces(
        self, image_id: ImageId, faces: Sequence[NewFace], space: ModelSpace
    ) -> None:
        """Store the faces of an image, in order."""
        await self._connection.executemany(
            SQL["insert_face"], [self._face_row(image_id, face, space) for face in faces]
        )

    async def move_face(self, face_id: FaceId, cluster_id: ClusterId) -> None:
        """Put a face into an existing cluster, and remove the one it leaves if that is empty now.

        Raises:
            NotFoundError: the tenant has no such face or cluster.
        """
        before = await self.face(face_id)
        target = _uuid(cluster_id, "cluster")
        row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, target)
        _found(row, "cluster")
        if before.cluster_id == str(target):
            return
        await self._connection.execute(SQL["move_face"], self._tenant_id, UUID(face_id), target)
        await self._drop_empty([UUID(before.cluster_id)])

    async def delete_face(self, face_id: FaceId) -> None:
        """Delete a face, and its cluster if that is empty now.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        row = await self._connection.fetchrow(
            SQL["delete_face"], self._tenant_id, _uuid(face_id, "face")
        )
        await self._drop_empty([_found(row, "face")["cluster_id"]])

    async def delete_image(self, image_id: ImageId) -> list[str]:
        """Delete an image and its faces; returns the blobs that nothing names any more.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = _uuid(image_id, "image")
        clusters = await self._connection.fetch(SQL["clusters_of_image"], self._tenant_id, key)
        row = await self._connection.fetchrow(SQL["delete_image"], self._tenant_id, key)
        blob = _found(row, "image")["blob_key"]
        await self._drop_empty(cluster["cluster_id"] for cluster in clusters)
        return [blob]

    async def delete_cluster(self, cluster_id: ClusterId) -> list[str]:
        """Delete a cluster, its faces, and the images that show nobody else; returns their blobs.

        Raises:
            NotFoundError: the tenant has no such cluster.
        """
        key = _uuid(cluster_id, "cluster")
        row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, key)
        _found(row, "cluster")
        images = await self._connection.fetch(
            SQL["delete_images_showing_only"], self._tenant_id, key
        )
        await self._connection.execute(SQL["delete_cluster"], self._tenant_id, key)
        return [image["blob_key"] for image in images]

    async def delete_tenant(self) -> list[str]:
        """Delete everything of the tenant; returns its blobs."""
        blobs = await self._connection.fetch(SQL["blob_keys"], self._tenant_id)
        await self._connection.execute(SQL["delete_tenant"], self._tenant_id)
        return [blob["blob_key"] for blob in blobs]

    async def delete_review(self, review_id: ReviewId) -> None:
        """Take a review off the list.

        Raises:
            NotFoundError: the tenant has no such review.
        """
        row = await self._connection.fetchrow(SQL["delete_review"], self._tenant_id, review_id)
        _found(row, "review")

    async def _drop_empty(self, clusters: Iterable[UUID]) -> None:
        await self._connection.execute(
            SQL["delete_empty_clusters"], self._tenant_id, list(clusters)
        )

    async def _nearest_exact(
        self, embedding: Embedding, space: ModelSpace, wanted: int
    ) -> list[ClusterDistance]:
        rows = await self._connection.fetch(
            SQL["nearest_clusters_exact"], self._tenant_id, space, HalfVector(embedding), wanted
        )
        return [_cluster_distance(row) for row in rows]

    async def _nearest_by_index(
        self, embedding: Embedding, space: ModelSpace, wanted: int
    ) -> list[ClusterDistance]:
        faces = wanted * _FACES_PER_CLUSTER
        rows = await self._connection.fetch(
            SQL["nearest_faces_by_index"], self._tenant_id, space, HalfVector(embedding), faces
        )
        nearest: dict[ClusterId, ClusterDistance] = {}
        for row in rows:
            found = _cluster_distance(row)
            nearest.setdefault(found.cluster_id, found)
        if len(nearest) < wanted:
            # One crowded person filled the answer; others may lie just behind.
            return await self._nearest_exact(embedding, space, wanted)
        return list(nearest.values())

    def _face_row(self, image_id: ImageId, new: NewFace, space: ModelSpace) -> tuple[object, ...]:
        detection = new.face.detection
        box, area = detection.box, new.area
        return (
            self._tenant_id,
            UUID(new.face_id),
            UUID(image_id),
            UUID(new.cluster_id),
            space,
            HalfVector(np.asarray(new.face.embedding)),
            [box.x1, box.y1, box.x2, box.y2],
            [value for point in detection.landmarks for value in point],
            [area.x, area.y, area.w, area.h],
            detection.confidence,
            new.is_auto_matched,
            new.distance,
        )


class Repository:
    """Opens readers and writers."""

    def __init__(self, database: Database, search: SearchSettings) -> None:
        self._database = database
        self._search = search

    @asynccontextmanager
    async def reading(self, tenant_id: TenantId) -> AsyncIterator[TenantReader]:
        """A consistent view of one tenant."""
        async with self._database.snapshot() as connection:
            yield TenantReader(connection, tenant_id)

    @asynccontextmanager
    async def writing(
        self, tenant_id: TenantId, *, create: bool = False
    ) -> AsyncIterator[TenantWriter]:
        """A transaction that holds the tenant's lock; `create` makes an unknown tenant.

        Raises:
            NotFoundError: there is no such tenant, unless `create`.
        """
        async with self._database.transaction() as connection:
            if create:
                await connection.execute(SQL["lock_tenant"], tenant_id)
            else:
                _found(await connection.fetchrow(SQL["lock_known_tenant"], tenant_id), "tenant")
            yield TenantWriter(connection, tenant_id, self._search)

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._database.ping()


def _found(row: asyncpg.Record | None, kind: str) -> asyncpg.Record:
    if row is None:
        raise NotFoundError(kind)
    return row


def _uuid(value: str, kind: str) -> UUID:
    """Ids are opaque to callers: whatever is no id of ours is one that does not exist."""
    try:
        return UUID(value)
    except ValueError:
        raise NotFoundError(kind) from None


def _stored_face(row: asyncpg.Record) -> StoredFace:
    return StoredFace(
        FaceId(str(row["face_id"])),
        ClusterId(str(row["cluster_id"])),
        ImageId(str(row["image_id"])),
        FacialArea(*row["area"]),
        row["is_auto_matched"],
    )


def _review(row: asyncpg.Record) -> Review:
    return Review(
        ReviewId(row["review_id"]), ClusterId(str(row["cluster_id"])), ImageId(str(row["image_id"]))
    )


def _cluster_distance(row: asyncpg.Record) -> ClusterDistance:
    return ClusterDistance(ClusterId(str(row["cluster_id"])), float(row["distance"]))
