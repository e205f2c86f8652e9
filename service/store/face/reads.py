"""Reads of one tenant."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from service.domain.errors import NotFoundError
from service.domain.types import (
    ClusterId,
    ClusterSize,
    FaceId,
    FacialArea,
    ImageId,
    Review,
    ReviewId,
    StoredFace,
    StoredImage,
    TenantId,
)
from service.store.database.statements import SQL
from service.store.face.quality import stored_quality


class TenantReader:
    """Reads of one tenant, on one connection."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def face(self, face_id: FaceId) -> StoredFace:
        """One face.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        row = await self._connection.fetchrow(
            SQL["face"], self._tenant_id, known_uuid(face_id, "face")
        )
        return _stored_face(found(row, "face"))

    async def faces_of_image(self, image_id: ImageId, skip: int, limit: int) -> list[StoredFace]:
        """Faces of an image, largest first.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = known_uuid(image_id, "image")
        found(await self._connection.fetchrow(SQL["image"], self._tenant_id, key), "image")
        rows = await self._connection.fetch(
            SQL["faces_of_image"], self._tenant_id, key, skip, limit
        )
        return [_stored_face(row) for row in rows]

    async def image(self, image_id: ImageId) -> StoredImage:
        """An image with the ids of its faces and their clusters.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = known_uuid(image_id, "image")
        row = await self._connection.fetchrow(SQL["image"], self._tenant_id, key)
        phash = found(row, "image")["phash"]
        rows = await self._connection.fetch(SQL["faces_of_image"], self._tenant_id, key, 0, None)
        return StoredImage(
            phash,
            tuple(FaceId(str(row["face_id"])) for row in rows),
            # Each cluster once, ordered by its first face.
            tuple(dict.fromkeys(ClusterId(str(row["cluster_id"])) for row in rows)),
        )

    async def cluster_size(self, cluster_id: ClusterId) -> ClusterSize:
        """The number of a cluster's faces and images.

        Raises:
            NotFoundError: the tenant has no such cluster.
        """
        row = await self._connection.fetchrow(
            SQL["cluster_size"], self._tenant_id, known_uuid(cluster_id, "cluster")
        )
        return ClusterSize(**found(row, "cluster"))

    async def review(self, review_id: ReviewId) -> Review:
        """One pending review.

        Raises:
            NotFoundError: the tenant has no such review.
        """
        row = await self._connection.fetchrow(SQL["review"], self._tenant_id, review_id)
        return _review(found(row, "review"))

    async def reviews(self, skip: int, limit: int) -> list[Review]:
        """Pending reviews, oldest first."""
        rows = await self._connection.fetch(SQL["reviews"], self._tenant_id, skip, limit)
        return [_review(row) for row in rows]


def found(row: asyncpg.Record | None, kind: str) -> asyncpg.Record:
    """The row.

    Raises:
        NotFoundError: there is no row.
    """
    if row is None:
        raise NotFoundError(kind)
    return row


def known_uuid(value: str, kind: str) -> UUID:
    """Parse an id. Ids are opaque to callers, so a malformed one is an id that does not exist.

    So is another spelling of an id: a gateway that authorises by ids compares them as text.

    Raises:
        NotFoundError: the text is no UUID.
    """
    try:
        found = UUID(value)
    except ValueError:
        raise NotFoundError(kind) from None
    if str(found) != value:
        raise NotFoundError(kind)
    return found


def _stored_face(row: asyncpg.Record) -> StoredFace:
    return StoredFace(
        FaceId(str(row["face_id"])),
        ClusterId(str(row["cluster_id"])),
        ImageId(str(row["image_id"])),
        FacialArea(*row["area"]),
        row["is_auto_matched"],
        stored_quality(row["quality"], row["quality_facts"]),
        row["is_matchable"],
    )


def _review(row: asyncpg.Record) -> Review:
    return Review(
        ReviewId(row["review_id"]), ClusterId(str(row["cluster_id"])), ImageId(str(row["image_id"]))
    )
