"""Ingestion of a photo: find its faces, match them, and store all of it or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from service.batching import InputMemory, Ticket
from service.domain.errors import DuplicateImageError, NotFoundError, StoreUnavailableError
from service.domain.matching import (
    Candidates,
    ClusterQuery,
    MatchRule,
    assign_clusters,
    doubt_of,
)
from service.domain.people import KeptAnswer
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
from service.usecases.once import Once
from service.usecases.ports import (
    BlobStore,
    FaceStore,
    PhotoAnalyzer,
    TenantReads,
    TenantWrites,
)

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


class OnDuplicate(StrEnum):
    """What an insert does where the tenant has a file of the same bytes."""

    INSERT = "insert"
    RETURN = "return"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class InsertCondition:
    """When a photo is not stored.

    sha256: of the file, in hex; empty where duplicates are stored.
    is_limited: whether the tenant may have reached a limit or be missing, so that it is asked
    before the photo is analysed. The limits hold without it.
    """

    on_duplicate: OnDuplicate = OnDuplicate.INSERT
    sha256: str = ""
    once: Once[IngestedPhoto] | None = None
    is_limited: bool = False

    @property
    def decides(self) -> bool:
        """Whether the photo may be one that was stored before."""
        return self.once is not None or self.on_duplicate is not OnDuplicate.INSERT

    async def check(self, tenant: TenantReads) -> KeptAnswer | ImageId | None:
        """The kept answer, or the image of the same bytes; None where the photo is to be stored.

        Raises:
            DuplicateImageError, IdempotencyError: as `IngestPhoto.once` does.
        """
        if self.once is not None and (kept := await self.once.recall(tenant)) is not None:
            return kept
        if self.on_duplicate is OnDuplicate.INSERT:
            return None
        return self.answer(await tenant.image_by_sha256(self.sha256))

    def answer(self, duplicate: ImageId | None) -> ImageId | None:
        """The image of the same bytes, where it is returned.

        Raises:
            DuplicateImageError: it is refused.
        """
        if duplicate is not None and self.on_duplicate is OnDuplicate.REJECT:
            raise DuplicateImageError(duplicate)
        return duplicate


_UNCONDITIONAL = InsertCondition()
_LIMITED = InsertCondition(is_limited=True)


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

    async def check_tenant(self, tenant_id: TenantId) -> None:
        """Return where photos can be stored in a tenant, as far as that is known before they come.

        Raises:
            NotFoundError: the tenant does not exist, and a photo does not make it.
            StoreUnavailableError: the database does not answer.
        """
        if not self._store.makes_tenants:
            async with self._store.reading(tenant_id) as tenant:
                await tenant.facts()

    async def __call__(
        self,
        tenant_id: TenantId,
        read: PhotoSource,
        clock: StageClock,
        ticket: Ticket,
        *,
        is_limited: bool = False,
    ) -> IngestedPhoto:
        """Store a photo with its faces, each in the cluster it matches or in a new one.

        The blob is durable before its row is visible, and both are stored when this returns. Once
        storing has begun, it is completed even if the ticket fails.

        Args:
            is_limited: as `InsertCondition` says.

        Raises:
            InputError: the bytes are no usable photo.
            NotFoundError: the tenant does not exist, and a photo does not make it.
            LimitReachedError: the tenant's limits allow no more; nothing was stored.
            WithdrawnError, DeadlineError: the ticket failed before storing began.
            UnavailableError: nothing was stored, or the outcome of the commit is unknown.
        """
        condition = _LIMITED if is_limited else _UNCONDITIONAL
        stored = await self.once(tenant_id, read, clock, ticket, condition)
        assert isinstance(stored, IngestedPhoto)  # no condition lets it be another one
        return stored

    async def once(
        self,
        tenant_id: TenantId,
        read: PhotoSource,
        clock: StageClock,
        ticket: Ticket,
        condition: InsertCondition,
    ) -> IngestedPhoto | KeptAnswer | ImageId:
        """Store a photo unless a condition says that it was stored before.

        Returns:
            The stored photo, or the kept answer to the same request, or the image that has the same
            bytes where `condition.on_duplicate` is RETURN.

        Raises:
            DuplicateImageError: there is an image of the same bytes, and it is REJECT.
            IdempotencyError: the key was used for another request.
            Error: as `__call__` does.
        """
        if (before := await self._done_before(tenant_id, condition)) is not None:
            return before
        photo = await self._analyzer.analyze(read, clock, ticket)
        ticket.check()
        with clock.stage("store"):
            stored = await self._store_photo(tenant_id, read, photo, ticket, condition)
        if isinstance(stored, IngestedPhoto):
            for face in stored.faces:
                self._on_face(face.is_auto_matched)
        return stored

    async def _done_before(
        self, tenant_id: TenantId, condition: InsertCondition
    ) -> KeptAnswer | ImageId | None:
        """What the condition finds before the photo is analysed: most repeated and refused ones."""
        if not condition.decides and not condition.is_limited:
            return None
        if condition.once is None and not condition.is_limited:
            same = await self._store.image_of_bytes(tenant_id, condition.sha256)
            return condition.answer(same)
        async with self._store.reading(tenant_id) as tenant:
            if (before := await condition.check(tenant)) is not None:
                return before
            if condition.is_limited:
                await self._check_room(tenant)
        return None

    async def _check_room(self, tenant: TenantReads) -> None:
        """Return where the tenant has room for a photo, or is made by it."""
        try:
            facts = await tenant.facts()
        except NotFoundError:
            if not self._store.makes_tenants:
                raise
            return
        facts.room.check(0)

    async def _store_photo(
        self,
        tenant_id: TenantId,
        read: PhotoSource,
        photo: AnalyzedPhoto,
        ticket: Ticket,
        condition: InsertCondition,
    ) -> IngestedPhoto | KeptAnswer | ImageId:
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
            stored = await self._insert_once(tenant_id, image, blob, ticket, condition)
        except Exception as error:
            # If the outcome of the commit is unknown, a row may name the blob, which must stay. A
            # cancellation passes by here for the same reason. The next sweep removes orphans.
            outcome_unknown = isinstance(error, StoreUnavailableError) and error.outcome_unknown
            if self._blobs is not None and blob is not None and not outcome_unknown:
                await self._blobs.delete([blob.key])
            raise
        if not isinstance(stored, IngestedPhoto) and self._blobs is not None and blob is not None:
            await self._blobs.delete([blob.key])
        return stored

    async def _insert_once(
        self,
        tenant_id: TenantId,
        image: NewImage,
        blob: _Blob | None,
        ticket: Ticket,
        condition: InsertCondition,
    ) -> IngestedPhoto | KeptAnswer | ImageId:
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
        stored = IngestedPhoto(image.image_id, (), image.photo.turned)
        perhaps_stored = tried = False
        while True:
            try:
                async with self._store.inserting(tenant_id, query) as (tenant, candidates):
                    if tried:
                        perhaps_stored = await tenant.has_image(image.image_id)
                    if not perhaps_stored:
                        before = await condition.check(tenant) if condition.decides else None
                        if before is not None:
                            return before
                        await self._put_again_if_old(blob)
                        faces = await self._insert(tenant, image, candidates)
                        stored = IngestedPhoto(image.image_id, faces, image.photo.turned)
                        if condition.once is not None:
                            await condition.once.keep(tenant, stored)
            except StoreUnavailableError as error:
                tried, perhaps_stored = True, perhaps_stored or error.outcome_unknown
                if time.monotonic() + pause_s > last_try_at:
                    raise StoreUnavailableError(
                        error.message, outcome_unknown=perhaps_stored
                    ) from error
            else:
                return stored
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
            self._new_face(face, match, near, limit, image.photo)
            for face, match, near, limit in zip(
                image.photo.faces,
                matches,
                candidates.of_faces,
                candidates.max_distances,
                strict=True,
            )
        )
        opened = [face.cluster_id for face in faces if not face.is_auto_matched]
        await tenant.insert_photo(image, opened, faces, self._space)
        return faces

    def _new_face(
        self,
        face: EmbeddedFace,
        match: ClusterDistance | None,
        near: Sequence[ClusterDistance],
        limit: float,
        photo: AnalyzedPhoto,
    ) -> NewFace:
        similarity = margin = None
        if match is not None:
            similarity = self._rule.limit.similarity(match.distance, limit)
            others = (each.distance for each in near if each.cluster_id != match.cluster_id)
            margin = min((other - match.distance for other in others), default=None)
        is_matchable = face.quality.score >= self._min_quality
        return NewFace(
            FaceId(str(uuid4())),
            match.cluster_id if match else ClusterId(str(uuid4())),
            face,
            face.detection.facial_area(photo.width, photo.height),
            match is not None,
            match.distance if match else None,
            is_matchable,
            similarity,
            margin,
            self._rule.doubt(match, near, limit) if is_matchable else None,
        )
