"""A photo comes in: find its faces, match each, store all of it or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from service.batching import Ticket
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
_SUFFIX = {"jpeg": "jpg", "mpo": "jpg"}


@dataclass(slots=True)
class _Blob:
    """Bytes in the blob store that no row names yet.

    put_at: when they were last put, monotonic seconds.
    """

    key: str
    data: bytes
    put_at: float

    def was_put(self, now: float) -> None:
        """Take note that the bytes were put again."""
        self.put_at = now


class IngestPhoto:
    """Takes photos in.

    Args:
        blobs: where their bytes go; None to keep none.
        space: identifies the weights that made the embeddings; only equal spaces are compared.
        rule: how far a face is from a cluster, and how far it may be to join it.
        min_quality: no other face is matched against a face with a lower score, and one
            that is not much better is to be nearer to a cluster itself.
        retry_s: how long storing is tried again while the database does not answer; inference is
            not repeated. 0 for once.
        orphan_grace_s: age, in seconds, at which a sweep may remove a blob that no row names.
        on_face: told of each stored face whether it was matched.
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

    async def __call__(
        self, tenant_id: TenantId, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> IngestedPhoto:
        """Store a photo with its faces, each in the cluster it matches or in a new one.

        The bytes are durable before the row that names them is visible, and both are there
        before this returns. Once storing has begun it is finished, whether or not the ticket still
        holds.

        Raises:
            InputError: the bytes are no usable photo.
            WithdrawnError, DeadlineError: the ticket failed before storing began.
            UnavailableError: nothing was stored, or the commit's outcome is not known.
        """
        photo = await self._analyzer.analyze(read, clock, ticket)
        ticket.check()
        with clock.stage("store"):
            stored = await self._store_photo(tenant_id, await read(), photo, ticket)
        for face in stored.faces:
            self._on_face(face.is_auto_matched)
        return stored

    async def _store_photo(
        self, tenant_id: TenantId, data: bytes, photo: AnalyzedPhoto, ticket: Ticket
    ) -> IngestedPhoto:
        image_id = ImageId(str(uuid4()))
        blob = None
        if self._blobs is None:
            sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
        else:
            key = self._blobs.key(tenant_id, image_id, _SUFFIX.get(photo.format, photo.format))
            blob = _Blob(key, data, time.monotonic())
            sha256 = await self._blobs.put(key, data)
        image = NewImage(image_id, blob.key if blob else None, sha256, photo, len(data))
        try:
            faces = await self._insert_once(tenant_id, image, blob, ticket)
        except Exception as error:
            # Where the commit may have taken effect, a row may name the blob, and garbage is the
            # lesser evil; the same goes for a cancellation, which passes by here. The next sweep
            # finds it.
            outcome_unknown = isinstance(error, StoreUnavailableError) and error.outcome_unknown
            if self._blobs is not None and blob is not None and not outcome_unknown:
                await self._blobs.delete([blob.key])
            raise
        return IngestedPhoto(image_id, faces, photo.turned)

    async def _insert_once(
        self, tenant_id: TenantId, image: NewImage, blob: _Blob | None, ticket: Ticket
    ) -> tuple[NewFace, ...]:
        """Store an image, again while the database does not answer, but not twice.

        Every further try looks for the image before it stores it. The tenant's lock makes sure
        that the transaction before has ended by then, one way or the other.
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
        """Replace a blob that a sweep may have taken for an orphan while this waited.

        To be called with the tenant's lock: a sweep holds it while it removes blobs. One that had
        it before may have removed what was older than the grace, so that is put again; one that
        gets it afterwards finds the row. Half the grace leaves room for two clocks, this one and
        the blob store's, that do not run alike.
        """
        if self._blobs is None or blob is None:
            return
        now = time.monotonic()
        if now - blob.put_at > self._orphan_grace_s / 2:
            await self._blobs.put(blob.key, blob.data)
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
