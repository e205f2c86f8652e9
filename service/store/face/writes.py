"""Writes to one tenant: images, faces, clusters, reviews."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace
from uuid import UUID

import asyncpg
import numpy as np
from pgvector import HalfVector

from service.domain.errors import ParameterError
from service.domain.types import (
    ClusterId,
    Erasure,
    FaceId,
    ImageId,
    ModelSpace,
    NewFace,
    NewImage,
    ReviewId,
    TenantId,
)
from service.store.blob.names import belongs_to
from service.store.database.statements import SQL
from service.store.face.quality import render_quality_facts
from service.store.face.reads import TenantReader, found, known_uuid

_logger = logging.getLogger(__name__)


class TenantWriter(TenantReader):
    """Writes to one tenant, inside a transaction that holds the tenant's lock.

    is_deleted: whether this transaction deletes the tenant itself.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        on_insert: Callable[[TenantId, int], None],
    ) -> None:
        super().__init__(connection, tenant_id)
        self._on_insert = on_insert
        self.is_deleted = False

    async def has_image(self, image_id: ImageId) -> bool:
        """Whether the image is stored."""
        row = await self._connection.fetchrow(SQL["image"], self._tenant_id, UUID(image_id))
        return row is not None

    async def insert_cluster(self, cluster_id: ClusterId) -> None:
        """Add an empty cluster, without a review."""
        await self._connection.execute(SQL["insert_cluster"], self._tenant_id, UUID(cluster_id))

    async def insert_photo(
        self,
        image: NewImage,
        opened: Sequence[ClusterId],
        faces: Sequence[NewFace],
        space: ModelSpace,
    ) -> None:
        """Store an image and its faces, in their order, with one statement.

        Args:
            opened: new clusters for these faces; each gets a pending review.
        """
        photo = image.photo
        detections = [new.face.detection for new in faces]
        boxes = [detection.box for detection in detections]
        await self._connection.execute(
            SQL["insert_photo"],
            self._tenant_id,
            UUID(image.image_id),
            image.blob_key,
            photo.format,
            photo.width,
            photo.height,
            image.size_bytes,
            image.sha256,
            photo.phash,
            photo.turned,
            [UUID(each) for each in opened],
            [side for box in boxes for side in (box.x1, box.y1, box.x2, box.y2)],
            [number for each in detections for point in each.landmarks for number in point],
            [side for new in faces for side in astuple(new.area)],
            [UUID(new.face_id) for new in faces],
            [UUID(new.cluster_id) for new in faces],
            [detection.confidence for detection in detections],
            [new.is_auto_matched for new in faces],
            [new.distance for new in faces],
            [new.face.quality.score for new in faces],
            [render_quality_facts(new.face.quality) for new in faces],
            [new.is_matchable for new in faces],
            space,
            [HalfVector(np.asarray(new.face.embedding)) for new in faces],
        )
        if faces:
            self._on_insert(self._tenant_id, len(faces))

    async def move_face(self, face_id: FaceId, cluster_id: ClusterId) -> None:
        """Move a face to an existing cluster; its former cluster is deleted when it becomes empty.

        Raises:
            NotFoundError: the tenant has no such face or cluster.
        """
        before = await self.face(face_id)
        target = known_uuid(cluster_id, "cluster")
        row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, target)
        found(row, "cluster")
        if before.cluster_id == str(target):
            return
        await self._connection.execute(SQL["move_face"], self._tenant_id, UUID(face_id), target)
        await self._drop_empty([UUID(before.cluster_id)])

    async def merge_clusters(self, from_cluster: ClusterId, into_cluster: ClusterId) -> None:
        """Move all faces of one cluster to another, and delete the first.

        Raises:
            NotFoundError: the tenant lacks one of the clusters.
            ParameterError: both are the same cluster.
        """
        source = known_uuid(from_cluster, "cluster")
        target = known_uuid(into_cluster, "cluster")
        for cluster in (source, target):
            row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, cluster)
            found(row, "cluster")
        if source == target:  # compared as ids: their spellings may differ
            raise ParameterError("into_cluster_id", "A cluster cannot be merged with itself.")
        await self._connection.execute(SQL["move_all_faces"], self._tenant_id, source, target)
        await self._connection.execute(SQL["delete_cluster"], self._tenant_id, source)

    async def delete_face(self, face_id: FaceId) -> Erasure:
        """Delete a face, and its cluster when that becomes empty.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        row = await self._connection.fetchrow(
            SQL["delete_face"], self._tenant_id, known_uuid(face_id, "face")
        )
        emptied = await self._drop_empty([found(row, "face")["cluster_id"]])
        await self._connection.execute(SQL["notify_of_face"], self._tenant_id, UUID(face_id))
        return replace(emptied, faces=1)

    async def delete_image(self, image_id: ImageId) -> Erasure:
        """Delete an image, its faces, and the clusters that become empty.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = known_uuid(image_id, "image")
        clusters = await self._connection.fetch(SQL["clusters_of_image"], self._tenant_id, key)
        await self._connection.execute(SQL["notify_of_image"], self._tenant_id, key)
        row = await self._connection.fetchrow(SQL["delete_image"], self._tenant_id, key)
        gone = found(row, "image")
        emptied = await self._drop_empty(cluster["cluster_id"] for cluster in clusters)
        return replace(emptied, images=1, faces=gone["faces"], blob_keys=self._blob_keys([gone]))

    async def delete_cluster(self, cluster_id: ClusterId) -> Erasure:
        """Delete a cluster, its faces, and the images without another face.

        Raises:
            NotFoundError: the tenant has no such cluster.
        """
        key = known_uuid(cluster_id, "cluster")
        row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, key)
        found(row, "cluster")
        rows = await self._connection.fetchrow(SQL["rows_of_cluster"], self._tenant_id, key)
        shown = await self._connection.fetch(SQL["images_showing_only"], self._tenant_id, key)
        await self._connection.execute(SQL["notify_of_cluster"], self._tenant_id, key)
        await self._connection.execute(SQL["delete_cluster"], self._tenant_id, key)
        images = await self._connection.fetch(
            SQL["delete_images"], self._tenant_id, [row["image_id"] for row in shown]
        )
        return Erasure(
            images=len(images),
            clusters=1,
            blob_keys=self._blob_keys(images),
            **found(rows, "cluster"),
        )

    async def delete_tenant(self) -> Erasure:
        """Delete the tenant with everything that it holds."""
        rows = await self._connection.fetchrow(SQL["rows_of_tenant"], self._tenant_id)
        images = await self._connection.fetch(SQL["blob_keys"], self._tenant_id)
        await self._connection.execute(SQL["notify_of_tenant"], self._tenant_id)
        await self._connection.execute(SQL["delete_tenant"], self._tenant_id)
        self.is_deleted = True
        return Erasure(
            images=len(images), blob_keys=self._blob_keys(images), **found(rows, "tenant")
        )

    async def delete_review(self, review_id: ReviewId) -> Erasure:
        """Delete a pending review.

        Raises:
            NotFoundError: the tenant has no such review.
        """
        row = await self._connection.fetchrow(SQL["delete_review"], self._tenant_id, review_id)
        found(row, "review")
        return Erasure(reviews=1)

    async def _drop_empty(self, clusters: Iterable[UUID]) -> Erasure:
        row = await self._connection.fetchrow(
            SQL["delete_empty_clusters"], self._tenant_id, list(clusters)
        )
        return Erasure(**found(row, "cluster"))

    def _blob_keys(self, images: Iterable[asyncpg.Record]) -> tuple[str, ...]:
        """Keys of the blobs of deleted images; a key outside the tenant's folder is left out."""
        keys = [image["blob_key"] for image in images if image["blob_key"]]
        own = tuple(key for key in keys if belongs_to(key, self._tenant_id))
        if len(own) < len(keys):
            _logger.error(
                "%d deleted images named a blob of another tenant; those blobs were kept",
                len(keys) - len(own),
            )
        return own
