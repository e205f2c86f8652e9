"""A photo comes in: find its faces, match each, store all of it or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

from service.batching import Ticket
from service.domain.errors import StoreUnavailableError
from service.domain.matching import assign_clusters
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


class IngestPhoto:
    """Takes photos in.

    Args:
        space: identifies the weights that made the embeddings; only equal spaces are compared.
        max_distance: largest cosine distance at which a face joins a cluster.
        retry_s: how long storing is tried again while the database does not answer; inference is
            not repeated. 0 for once.
        on_face: told of each stored face whether it was matched.
    """

    def __init__(
        self,
        analyzer: PhotoAnalyzer,
        store: FaceStore,
        blobs: BlobStore,
        *,
        space: ModelSpace,
        max_distance: float,
        retry_s: float = 0.0,
        on_face: Callable[[bool], None],
    ) -> None:
        self._analyzer = analyzer
        self._store = store
        self._blobs = blobs
        self._space = space
        self._max_distance = max_distance
        self._retry_s = retry_s
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
        key = self._blobs.key(tenant_id, image_id, _SUFFIX.get(photo.format, photo.format))
        sha256 = await self._blobs.put(key, data)
        image = NewImage(image_id, key, sha256, photo, len(data))
        try:
            faces = await self._insert_once(tenant_id, image, ticket)
        except Exception as error:
            # Where the commit may have taken effect, a row may name the blob, and garbage is the
            # lesser evil; the same goes for a cancellation, which passes by here.
            if not (isinstance(error, StoreUnavailableError) and error.outcome_unknown):
                await self._blobs.delete([key])
            raise
        return IngestedPhoto(image_id, faces)

    async def _insert_once(
        self, tenant_id: TenantId, image: NewImage, ticket: Ticket
    ) -> tuple[NewFace, ...]:
        """Store an image, again while the database does not answer, but not twice.

        Every further try looks for the image before it stores it. The tenant's lock makes sure
        that the transaction before has ended by then, one way or the other.
        """
        last_try_at = min(ticket.deadline, time.monotonic() + self._retry_s)
        pause_s = _FIRST_PAUSE_S
        faces: tuple[NewFace, ...] = ()
        perhaps_stored = tried = False
        while True:
            try:
                async with self._store.writing(tenant_id, create=True) as tenant:
                    if tried:
                        perhaps_stored = await tenant.has_image(image.image_id)
                    if not perhaps_stored:
                        faces = await self._insert(tenant, image)
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

    async def _insert(self, tenant: TenantWrites, image: NewImage) -> tuple[NewFace, ...]:
        found = image.photo.faces
        candidates = await tenant.nearest_clusters(
            [face.embedding for face in found], self._space, self._max_distance
        )
        matches = assign_clusters(candidates, self._max_distance)
        faces = tuple(
            _new_face(face, match, image.photo) for face, match in zip(found, matches, strict=True)
        )
        await tenant.insert_image(image)
        if opened := [face.cluster_id for face in faces if not face.is_auto_matched]:
            await tenant.insert_clusters_with_reviews(opened)
        await tenant.insert_faces(image.image_id, faces, self._space)
        return faces


def _new_face(face: EmbeddedFace, match: ClusterDistance | None, photo: AnalyzedPhoto) -> NewFace:
    return NewFace(
        FaceId(str(uuid4())),
        match.cluster_id if match else ClusterId(str(uuid4())),
        face,
        face.detection.facial_area(photo.width, photo.height),
        match is not None,
        match.distance if match else None,
    )
