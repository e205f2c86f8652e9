"""Reads of one tenant."""

from __future__ import annotations

import asyncpg
import orjson

from service.domain.decisions import Decision, DecisionPosition, PastChange
from service.domain.people import KeptAnswer, TenantFacts
from service.domain.types import (
    ClusterId,
    ClusterSize,
    FaceId,
    FacialArea,
    ImageId,
    NearCopy,
    Review,
    ReviewId,
    StoredFace,
    StoredImage,
    TenantId,
)
from service.store.database.statements import SQL
from service.store.face.decisions import DecisionReader
from service.store.face.lookups import found, known_uuid
from service.store.face.near import hash_parts, near_parts
from service.store.face.people import PeopleReader
from service.store.face.quality import stored_quality
from service.store.face.reviews import ReviewReader

_MAX_INT64 = 2**63 - 1


class TenantReader:
    """Reads of one tenant, on one connection.

    people, reviews_of_worth: read people and questions for the API of the product.
    """

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self.people = PeopleReader(connection, tenant_id)
        self.reviews_of_worth = ReviewReader(connection, tenant_id)

    async def facts(self) -> TenantFacts:
        """The tenant's counts and limits.

        Raises:
            NotFoundError: there is no such tenant.
        """
        row = await self._connection.fetchrow(SQL["tenant_facts"], self._tenant_id)
        return TenantFacts(**found(row, "tenant"))

    async def kept_answer(self, key: str) -> KeptAnswer | None:
        """The answer to an earlier request with this Idempotency-Key; None if there is none."""
        row = await self._connection.fetchrow(SQL["kept_answer"], self._tenant_id, key)
        return None if row is None else KeptAnswer(row["fingerprint"], row["status"], row["body"])

    async def face(self, face_id: FaceId) -> StoredFace:
        """One face.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        row = await self._connection.fetchrow(
            SQL["face"], self._tenant_id, known_uuid(face_id, "face")
        )
        return stored_face(found(row, "face"))

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
        return [stored_face(row) for row in rows]

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

    async def image_by_sha256(self, sha256: str) -> ImageId | None:
        """The oldest image whose file has this SHA-256, in hex; None without one."""
        found = await self._connection.fetchval(SQL["image_by_sha256"], self._tenant_id, sha256)
        return None if found is None else ImageId(str(found))

    async def near_duplicates(
        self, image_id: ImageId, max_distance: int, limit: int
    ) -> list[NearCopy]:
        """All images that differ from one in at most so many bits of their hashes, nearest first.

        Args:
            max_distance: 0 to `MAX_HASH_DISTANCE`.
            limit: the largest number of images; the nearest ones are kept.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = known_uuid(image_id, "image")
        row = await self._connection.fetchrow(SQL["image"], self._tenant_id, key)
        parts = hash_parts(found(row, "image")["phash"])
        rows = await self._connection.fetch(
            SQL["near_duplicates"],
            self._tenant_id,
            key,
            parts,
            max_distance,
            *near_parts(parts, max_distance),
            limit,
        )
        return [NearCopy(ImageId(str(row["image_id"])), row["distance"]) for row in rows]

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

    async def decisions(self, behind: DecisionPosition | None, limit: int) -> list[Decision]:
        """A page of the decisions that hold, newest first."""
        return await DecisionReader(self._connection, self._tenant_id).page(behind, limit)

    async def past_change(self, number: int) -> PastChange:
        """One change of the history.

        Raises:
            NotFoundError: the history has no such change.
        """
        row = await self._connection.fetchrow(SQL["change"], self._tenant_id, number)
        return _past_change(found(row, "change"))

    async def history(
        self, before: int | None, kind: str | None, person_id: ClusterId | None, limit: int
    ) -> list[PastChange]:
        """A page of the history, newest first, before a number; of one kind, or about one person.

        Raises:
            NotFoundError: the id of the person can be none.
        """
        rows = await self._connection.fetch(
            SQL["history"],
            self._tenant_id,
            _MAX_INT64 if before is None else before,
            limit,
            kind,
            None if person_id is None else known_uuid(person_id, "person"),
        )
        return [_past_change(row) for row in rows]


def _past_change(row: asyncpg.Record) -> PastChange:
    return PastChange(
        row["change"],
        row["changed_at"],
        row["kind"],
        row["key_id"],
        row["by_machine"],
        orjson.loads(row["subject"]),
        row["has_inverse"],
        row["undoes"],
        row["undone_by"],
    )


def stored_face(row: asyncpg.Record) -> StoredFace:
    """A row with the columns of the statement `face`."""
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
