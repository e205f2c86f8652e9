"""Ingestion of a photo: find its faces, match them, and store all of it or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from service.batching import InputMemory, Ticket
from service.domain.errors import StoreUnavailableError
from service.domain.matching import (
    Candidates,
    ClusterQuery,
    MatchRule,
    assign_clusters,
    doubt_of,
)
from service.domain.types import (
    AnalyzedPhoto,
    ClusterDistance,
    ClusterId,
    EmbeddedFace,
    FaceId,
    ImageId,
    IngestedPhoto,
    ModelSpace,
    NewFace,
    NewImage,
    PhotoSource,
    TenantId,
)
from service.telemetry import StageClock
from service.usecases.ports import BlobStore, FaceStore, PhotoAnalyzer, TenantWrites

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.4
# Files that are being stored take at most so much memory; smaller ones are few.
_FILES_BYTES = 128 << 20
_SMALL_FILE_BYTES = 4 << 20
_SUFFIX = {"jpeg": "jpg", "mpo": "jpg"}


@dataclass(slots=True)
class _Blob:
    """Bytes in the blob store that no row names yet.

    read: reads the bytes again.
    put_at: when they were last put, monotonic seconds.
    """

    key: str
    read: PhotoSource
    put_at: float

    def was_put(self, now: float) -> None:
        """Take note that the bytes were put again."""
        self.put_at = now


class IngestPhoto:
    """Ingests photos.

    Args:
        blobs: receives the bytes of photos; None where they are not kept.
        space: identifies the weights of the embeddings; only equal spaces are compared.
        rule: the distance of a face to a cluster, and its limit for joining.
        min_quality: a face with a lower score is not matchable: no other face is matched against
            it. A face with a score just above needs a smaller distance to join a cluster.
        retry_s: time for which storing is retried while the database does not answer; 0 for one
            attempt. Inference is not repeated.
        orphan_grace_s: age, in seconds, from which a sweep may remove a blob without a row.
        on_face: called for each stored face with whether it was matched.
    """

    def __init__(
        self,
        analyzer: PhotoAnalyzer,
        store: FaceStore,
        blobs: BlobStore | None,
        *,
        space: ModelSpace,
        rule: MatchRule,
        min_quality: float = 0.0,
        retry_s: float = 0.0,
        orphan_grace_s: float = math.inf,
        on_face: Callable[[bool], None],
    ) -> None:
        self._analyzer = analyzer
        self._store = store
        self._blobs = blobs
        self._space = space
        self._rule = rule
        self._min_quality = min_quality
        self._retry_s = retry_s
        self._orphan_grace_s = orphan_grace_s
        self._on_face = on_face
        self._files = InputMemory(_FILES_BYTES, _SMALL_FILE_BYTES)

    async def __call__(
        self, tenant_id: TenantId, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> IngestedPhoto:
        """Store a photo with its faces, each in the cluster it matches or in a new one.

        The blob is durable before its row is visible, and both are stored when this returns. Once
        storing has begun, it is completed even if the ticket fails.

        Raises:
            InputError: the bytes are no usable photo.
            WithdrawnError, DeadlineError: the ticket failed before storing began.
            UnavailableError: nothing was stored, or the outcome of the commit is unknown.
        """
        photo = await self._analyzer.analyze(read, clock, ticket)
        ticket.check()
        with clock.stage("store"):
            stored = await self._store_photo(tenant_id, read, photo, ticket)
        for face in stored.faces:
            self._on_face(face.is_auto_matched)
        return stored

    async def _store_photo(
        self, tenant_id: TenantId, read: PhotoSource, photo: AnalyzedPhoto, ticket: Ticket
    ) -> IngestedPhoto:
        image_id = ImageId(str(uuid4()))
        blob = None
        async with self._files.hold(ticket):
            data = await read()
            if self._blobs is None:
                sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
            else:
                key = self._blobs.key(tenant_id, image_id, _SUFFIX.get(photo.format, photo.format))
                blob = _Blob(key, read, time.monotonic())
                sha256 = await self._blobs.put(key, data)
            size_bytes = len(data)
            del data  # it may take long until the database has stored the rest
        image = NewImage(image_id, blob.key if blob else None, sha256, photo, size_bytes)
        try:
            faces = await self._insert_once(tenant_id, image, blob, ticket)
        except Exception as error:
            # If the outcome of the commit is unknown, a row may name the blob, which must stay. A
            # cancellation passes by here for the same reason. The next sweep removes orphans.
            outcome_unknown = isinstance(error, StoreUnavailableError) and error.outcome_unknown
            if self._blobs is not None and blob is not None and not outcome_unknown:
                await self._blobs.delete([blob.key])
            raise
        return IngestedPhoto(image_id, faces, photo.turned)

    async def _insert_once(
        self, tenant_id: TenantId, image: NewImage, blob: _Blob | None, ticket: Ticket
    ) -> tuple[NewFace, ...]:
        """Store an image once, with retries while the database does not answer.

        A retry looks for the image first. The lock of the tenant ensures that the former
        transaction has ended by then, committed or not.
        """
        photo = image.photo.faces
        query = ClusterQuery(
            tuple(face.embedding for face in photo),
            self._space,
            self._rule,
            tuple(doubt_of(face.quality.score, self._min_quality) for face in photo),
        )
        last_try_at = min(ticket.deadline, time.monotonic() + self._retry_s)
        pause_s = _FIRST_PAUSE_S
        faces: tuple[NewFace, ...] = ()
        perhaps_stored = tried = False
        while True:
            try:
                async with self._store.inserting(tenant_id, query) as (tenant, candidates):
                    if tried:
                        perhaps_stored = await tenant.has_image(image.image_id)
                    if not perhaps_stored:
                        await self._put_again_if_old(blob)
                        faces = await self._insert(tenant, image, candidates)
            except StoreUnavailableError as error:
                tried, perhaps_stored = True, perhaps_stored or error.outcome_unknown
                if time.monotonic() + pause_s > last_try_at:
                    raise StoreUnavailableError(
                        error.message, outcome_unknown=perhaps_stored
                    ) from error
            else:
                return faces
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _put_again_if_old(self, blob: _Blob | None) -> None:
        """Put a blob again that a sweep may have removed as an orphan during the wait.

        Call it while holding the lock of the tenant, which a sweep holds while it removes blobs. A
        sweep that held the lock before may have removed blobs older than the grace; a sweep that
        gets it afterwards sees the row. Half the grace allows for a difference between this clock
        and that of the blob store.
        """
        if self._blobs is None or blob is None:
            return
        now = time.monotonic()
        if now - blob.put_at > self._orphan_grace_s / 2:
            await self._blobs.put(blob.key, await blob.read())
            blob.was_put(now)

    async def _insert(
        self,
        tenant: TenantWrites,
        image: NewImage,
        candidates: Candidates,
    ) -> tuple[NewFace, ...]:
        matches = assign_clusters(candidates.of_faces, candidates.max_distances)
        faces = tuple(
            self._new_face(face, match, image.photo)
            for face, match in zip(image.photo.faces, matches, strict=True)
        )
        opened = [face.cluster_id for face in faces if not face.is_auto_matched]
        await tenant.insert_photo(image, opened, faces, self._space)
        return faces

    def _new_face(
        self, face: EmbeddedFace, match: ClusterDistance | None, photo: AnalyzedPhoto
    ) -> NewFace:
        return NewFace(
            FaceId(str(uuid4())),
            match.cluster_id if match else ClusterId(str(uuid4())),
            face,
            face.detection.facial_area(photo.width, photo.height),
            match is not None,
            match.distance if match else None,
            face.quality.score >= self._min_quality,
        )
