"""Curation of stored photos: read, move, merge, delete, review."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from service.domain.errors import PreconditionError
from service.domain.types import (
    ClusterId,
    ClusterSize,
    Erasure,
    FaceId,
    ImageId,
    Receipt,
    Review,
    ReviewId,
    StoredFace,
    StoredImage,
    TenantId,
)
from service.usecases.ports import BlobStore, FaceStore


class Curate:
    """The operations on stored photos.

    Every method raises NotFoundError for an id that the tenant does not have, and
    StoreUnavailableError when the database does not answer.

    Args:
        on_orphans: called with the number of blobs that could not be removed after their rows.
    """

    def __init__(
        self, store: FaceStore, blobs: BlobStore, *, on_orphans: Callable[[int], None]
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._on_orphans = on_orphans

    async def face(self, tenant_id: TenantId, face_id: FaceId) -> StoredFace:
        """One face."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.face(face_id)

    async def faces_of_image(
        self, tenant_id: TenantId, image_id: ImageId, skip: int, limit: int
    ) -> list[StoredFace]:
        """The faces of an image, largest first."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.faces_of_image(image_id, skip, limit)

    async def image(self, tenant_id: TenantId, image_id: ImageId) -> StoredImage:
        """One image, with the ids of its faces and clusters."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.image(image_id)

    async def cluster_size(self, tenant_id: TenantId, cluster_id: ClusterId) -> ClusterSize:
        """The number of faces of a cluster, and of the images that show them."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.cluster_size(cluster_id)

    async def review(self, tenant_id: TenantId, review_id: ReviewId) -> Review:
        """One pending review."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.review(review_id)

    async def reviews(self, tenant_id: TenantId, skip: int, limit: int) -> list[Review]:
        """Pending reviews, oldest first."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.reviews(skip, limit)

    async def move_face(
        self, tenant_id: TenantId, face_id: FaceId, cluster_id: ClusterId | None
    ) -> ClusterId:
        """Move a face to a cluster, or to a new one where it is None; returns the cluster.

        A user may put two faces of one photo into a cluster (a mirror, a collage), which matching
        never does. An empty cluster is deleted with its reviews. It is the last word: decisions
        that speak against it are overridden.
        """
        async with self._store.writing(tenant_id) as tenant:
            face = await tenant.face(face_id)
            if cluster_id is None:
                cluster_id = ClusterId(str(uuid4()))
                await tenant.insert_cluster(cluster_id)
            if cluster_id != face.cluster_id:
                await tenant.move_face(face_id, cluster_id, override=True)
            return cluster_id

    async def merge_clusters(
        self, tenant_id: TenantId, from_cluster: ClusterId, into_cluster: ClusterId
    ) -> ClusterSize:
        """Move all faces of `from_cluster` to `into_cluster`; returns the size of the result.

        Moved faces count as placed by a user, as in `move_face`: they were never compared with
        `into_cluster`. Its own faces do not change. `from_cluster` is deleted with its reviews.

        Raises:
            ParameterError: both are the same cluster.
        """
        async with self._store.writing(tenant_id) as tenant:
            await tenant.merge_clusters(from_cluster, into_cluster, override=True)
            return await tenant.cluster_size(into_cluster)

    async def delete_face(self, tenant_id: TenantId, face_id: FaceId) -> Receipt:
        """Delete one face; its image stays."""
        async with self._store.writing(tenant_id) as tenant:
            erasure = await tenant.delete_face(face_id)
        return await self._discard(erasure)

    async def delete_review(self, tenant_id: TenantId, review_id: ReviewId) -> Receipt:
        """Remove a review from the list; its cluster stays."""
        async with self._store.writing(tenant_id) as tenant:
            erasure = await tenant.delete_review(review_id)
        return await self._discard(erasure)

    async def delete_image(self, tenant_id: TenantId, image_id: ImageId) -> Receipt:
        """Delete an image, its faces and its bytes."""
        async with self._store.writing(tenant_id) as tenant:
            erasure = await tenant.delete_image(image_id)
        return await self._discard(erasure)

    async def delete_cluster(self, tenant_id: TenantId, cluster_id: ClusterId) -> Receipt:
        """Delete a cluster, its faces, and the images without other faces."""
        async with self._store.writing(tenant_id) as tenant:
            erasure = await tenant.delete_cluster(cluster_id)
        return await self._discard(erasure)

    async def delete_person(
        self, tenant_id: TenantId, person_id: ClusterId, expected: int | None
    ) -> Receipt:
        """Delete a person as `delete_cluster` does, in the version that the caller saw.

        Raises:
            MergedPersonError: the person was merged into another one.
            PreconditionError: somebody changed the person since.
        """
        async with self._store.writing(tenant_id) as tenant:
            person = await tenant.people.person(person_id)
            if expected is not None and expected != person.version:
                raise PreconditionError
            erasure = await tenant.delete_cluster(person_id)
        return await self._discard(erasure)

    async def delete_tenant(self, tenant_id: TenantId) -> Receipt:
        """Delete all data of a tenant, including the bytes of images."""
        async with self._store.writing(tenant_id) as tenant:
            erasure = await tenant.delete_tenant()
        return await self._discard(erasure)

    async def _discard(self, erasure: Erasure) -> Receipt:
        """Remove the blobs of deleted rows, after the commit: no row may name a missing blob.

        The blob store removes the thumbnails of an image with its bytes, and counts them as one.
        Blobs that are not removed here, by an error or because the process dies, are orphans until
        the next sweep (SweepBlobs).
        """
        blobs = erasure.blob_keys
        failed = await self._blobs.delete(blobs) if blobs else []
        if failed:
            self._on_orphans(len(failed))
        return Receipt(
            erasure.images,
            erasure.faces,
            erasure.clusters,
            erasure.reviews,
            len(blobs) - len(failed),
            erasure.decisions,
            erasure.changes,
        )
