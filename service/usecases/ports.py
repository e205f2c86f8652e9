"""The ports of the use cases: narrow protocols for analysis and stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from service.batching import Ticket
from service.domain.matching import Candidates, ClusterQuery
from service.domain.types import (
    AnalyzedPhoto,
    ClusterId,
    ClusterSize,
    DetectedPhoto,
    Embedding,
    Erasure,
    FaceId,
    ImageId,
    ModelSpace,
    NewFace,
    NewImage,
    PhotoSource,
    Review,
    ReviewId,
    StoredBlob,
    StoredFace,
    StoredImage,
    TenantId,
)
from service.telemetry import StageClock


class PhotoAnalyzer(Protocol):
    """Finds and embeds the faces of a photo."""

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto: ...

    async def detect(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> DetectedPhoto: ...

    async def embed_crop(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> Embedding: ...


class TenantReads(Protocol):
    """Reads of one tenant; each raises NotFoundError for an id that the tenant does not have."""

    async def face(self, face_id: FaceId) -> StoredFace: ...

    async def faces_of_image(
        self, image_id: ImageId, skip: int, limit: int
    ) -> list[StoredFace]: ...

    async def image(self, image_id: ImageId) -> StoredImage: ...

    async def cluster_size(self, cluster_id: ClusterId) -> ClusterSize: ...

    async def review(self, review_id: ReviewId) -> Review: ...

    async def reviews(self, skip: int, limit: int) -> list[Review]: ...


class TenantWrites(TenantReads, Protocol):
    """Writes to one tenant, in a transaction that excludes other writers of the tenant."""

    async def has_image(self, image_id: ImageId) -> bool: ...

    async def insert_photo(
        self,
        image: NewImage,
        opened: Sequence[ClusterId],
        faces: Sequence[NewFace],
        space: ModelSpace,
    ) -> None: ...

    async def insert_cluster(self, cluster_id: ClusterId) -> None: ...

    async def move_face(self, face_id: FaceId, cluster_id: ClusterId) -> None: ...

    async def merge_clusters(self, from_cluster: ClusterId, into_cluster: ClusterId) -> None: ...

    async def delete_face(self, face_id: FaceId) -> Erasure: ...

    async def delete_image(self, image_id: ImageId) -> Erasure: ...

    async def delete_cluster(self, cluster_id: ClusterId) -> Erasure: ...

    async def delete_tenant(self) -> Erasure: ...

    async def delete_review(self, review_id: ReviewId) -> Erasure: ...


class FaceStore(Protocol):
    """Opens transactions on one tenant."""

    def reading(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantReads]: ...

    def writing(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantWrites]: ...

    def inserting(
        self, tenant_id: TenantId, query: ClusterQuery
    ) -> AbstractAsyncContextManager[tuple[TenantWrites, Candidates]]: ...


class BlobStore(Protocol):
    """Stores image bytes; all methods but `key` and `delete` raise StoreUnavailableError."""

    def key(self, tenant_id: TenantId, image_id: ImageId, suffix: str) -> str: ...

    async def put(self, key: str, data: bytes) -> str: ...

    async def get(self, key: str) -> bytes: ...

    async def delete(self, keys: Iterable[str]) -> list[str]: ...

    async def find(self, key: str) -> StoredBlob | None: ...

    def listing(self, folder: str | None = None) -> AsyncIterator[StoredBlob]: ...

    async def now(self) -> datetime: ...

    async def owner(self) -> str | None:
        """The id of the database that owns the blobs; None where the store has no mark."""

    async def claim(self, database_id: str) -> None:
        """Mark the store as owned by a database, unless it has a mark."""


class BlobIndex(Protocol):
    """Finds the blobs that rows name, over all tenants."""

    async def database_id(self) -> str: ...

    async def named_blobs(self, keys: Sequence[str]) -> set[str]: ...

    def unnamed_for_good(self, keys: Sequence[str]) -> AbstractAsyncContextManager[list[str]]:
        """The keys, of one folder, that no row names and no insert can name in the block."""


class SweepTurns(Protocol):
    """Gives the sweep to one process at a time."""

    def take(self) -> AbstractAsyncContextManager[BlobIndex | None]:
        """The index for the block; None while another process sweeps."""
