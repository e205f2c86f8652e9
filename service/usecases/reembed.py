"""Re-embedding: gives stored faces vectors of another model, then searches by that model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InputError, LostFacesError, NotFoundError
from service.domain.types import Embedding, FaceId, FacePlace, ImageId, TenantId
from service.usecases.ports import BlobStore

_logger = logging.getLogger(__name__)

T = TypeVar("T")
Crop = NDArray[np.uint8]

# Work that a killed process loses at most, and crops in memory at once.
_BATCH_FACES = 64
# Files that are read ahead while a photo is decoded.
_READ_AHEAD = 4
# A round with at most this many faces is the last one before the activation. Inserts wait, each
# with a connection, while the faces that came since are embedded: the same limit holds for them.
_FEW_FACES = 32
_PAUSE_S = 2.0
# Seconds of pause for each second that a worker waited for a core in use by others.
_REST_PER_WAIT = 4.0
_MOST_LOGGED = 20

Phase = Literal["embedding", "indexing", "changing over", "deleting", "done"]


@dataclass(frozen=True, slots=True)
class LackingFace:
    """A stored face without a vector of the new model.

    number: its position in the order of all faces. turned: degrees clockwise by which its image
    must be rotated for upright faces.
    """

    tenant_id: TenantId
    number: int
    face_id: FaceId
    image_id: ImageId
    place: FacePlace
    turned: int
    blob_key: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run.

    faces: stored faces. embedded: faces with a vector of the new model. lost: faces that cannot get
    one. deleted: deleted vectors of other models. added: vectors added by this run.
    """

    phase: Phase
    faces: int = 0
    embedded: int = 0
    lost: int = 0
    deleted: int = 0
    added: int = 0


class FaceVectors(Protocol):
    """The vectors of stored faces; each method raises StoreUnavailableError."""

    async def counts(self) -> tuple[int, int]:
        """The number of faces, and of faces with a vector of the new model."""

    async def without_bytes(self) -> int:
        """The number of faces without a vector whose image bytes were not kept."""

    async def last_number(self) -> int:
        """A number such that no face with a lower or equal number is still to be committed."""

    async def lacking(
        self, after: LackingFace | None, since: int, until: int | None, limit: int
    ) -> list[LackingFace]:
        """Faces without a vector after `after`, with numbers above `since` and up to `until`."""

    async def add(self, vectors: Sequence[tuple[LackingFace, Embedding]]) -> None:
        """Store the vectors of the faces that still exist."""

    async def still_there(self, faces: Sequence[LackingFace]) -> int:
        """The number of these faces that still exist."""

    async def analyze(self) -> None:
        """Update the planner statistics of the vectors."""

    def changing(self) -> AbstractAsyncContextManager[bool]:
        """A transaction that excludes inserts; False where the locks are not available in time."""

    async def activate(self) -> None:
        """Make the new model the active one."""

    def delete_replaced(self) -> AsyncIterator[int]:
        """Delete vectors of other models of embedded faces; yields the size of each batch."""


class FaceEmbedder(Protocol):
    """Cuts faces out of photos and embeds them; its methods are CPU-bound."""

    def cut(self, data: bytes, places: Sequence[FacePlace], turned: int) -> list[Crop | None]:
        """The crops of a photo; None for a face outside it. Raises InputError."""

    def embed(self, crops: Sequence[Crop]) -> list[Embedding]:
        """Unit vectors, in order."""


class Reembed:
    """Gives every stored face a vector of another model, then activates that model.

    Searches use the old vectors until the activation, which is one commit. After an interruption,
    the next run embeds the faces that still lack a vector.

    Args:
        build_indexes: updates the vector indexes; returns False while another process does.
        leave_lost: activate the model even if some faces have no usable image, and so no vector.
        keep_old: keep the vectors of other models.
        on_progress: called after each step.
    """

    def __init__(
        self,
        vectors: FaceVectors,
        blobs: BlobStore,
        embedder: FaceEmbedder,
        build_indexes: Callable[[], Awaitable[bool]],
        *,
        leave_lost: bool,
        keep_old: bool,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._vectors = vectors
        self._blobs = blobs
        self._embedder = embedder
        self._build_indexes = build_indexes
        self._leave_lost = leave_lost
        self._keep_old = keep_old
        self._on_progress = on_progress
        self._faces = self._embedded = self._lost = self._deleted = self._added = 0
        self._waited_s = 0.0

    async def __call__(self) -> Progress:
        """Work until the new model is active and the old vectors are gone.

        Raises:
            LostFacesError: some faces cannot be embedded, and `leave_lost` is off. The active model
                stays; vectors of the new model are kept.
            StoreUnavailableError: the database or the blob store does not answer.
        """
        self._check(await self._vectors.without_bytes(), "their images were not kept")
        done = await self._vectors.last_number()
        await self._round(0, done)
        await self._finish_indexes()
        while True:
            since, done = done, await self._vectors.last_number()
            if await self._round(since, done) <= _FEW_FACES and await self._change_over(done):
                break
        if not self._keep_old:
            async for deleted in self._vectors.delete_replaced():
                self._deleted += deleted
                self._tell("deleting")
            await self._finish_indexes()
        return self._tell("done")

    async def _round(self, since: int, until: int) -> int:
        """Embed the faces without a vector between two numbers; returns their count."""
        self._faces, self._embedded = await self._vectors.counts()
        self._tell("embedding")
        found, after = 0, None
        while batch := await self._vectors.lacking(after, since, until, _BATCH_FACES):
            after = batch[-1]
            found += len(batch)
            self._waited_s = 0.0
            await self._embed(batch)
            self._tell("embedding")
            await asyncio.sleep(self._waited_s * _REST_PER_WAIT)
        self._check(self._lost, "their images are missing or cannot be read")
        return found

    async def _change_over(self, since: int) -> bool:
        """Embed the last faces and activate the model, while inserts are excluded."""
        self._tell("changing over")
        async with self._vectors.changing() as alone:
            if alone:
                last = await self._vectors.lacking(None, since, None, _FEW_FACES + 1)
                if len(last) <= _FEW_FACES:
                    await self._embed(last)
                    self._check(self._lost, "their images are missing or cannot be read")
                    await self._vectors.activate()
                    return True
        await asyncio.sleep(_PAUSE_S)  # lets the waiting inserts through
        return False

    async def _finish_indexes(self) -> None:
        self._tell("indexing")
        await self._vectors.analyze()
        while True:
            if await self._build_indexes():
                return
            await asyncio.sleep(_PAUSE_S)

    async def _embed(self, faces: Sequence[LackingFace]) -> None:
        crops: list[tuple[LackingFace, Crop]] = []
        lost: list[LackingFace] = []
        async with aclosing(self._photos(faces)) as photos:
            async for photo, data in photos:
                for face, crop in zip(photo, await self._cut(photo, data), strict=True):
                    if crop is None:
                        lost.append(face)
                    else:
                        crops.append((face, crop))
        embeddings = await self._work(lambda: self._embedder.embed([crop for _, crop in crops]))
        await self._vectors.add(
            [(face, each) for (face, _), each in zip(crops, embeddings, strict=True)]
        )
        self._added += len(crops)
        self._embedded += len(crops)
        # A face that was deleted since it was listed is not lost.
        self._lost += await self._vectors.still_there(lost) if lost else 0

    async def _cut(self, photo: Sequence[LackingFace], data: bytes | None) -> list[Crop | None]:
        if data is not None:
            try:
                return await self._work(
                    lambda: self._embedder.cut(
                        data, [face.place for face in photo], photo[0].turned
                    )
                )
            except InputError as error:
                self._say_lost(photo[0], error.message)
        elif photo[0].blob_key is not None:
            self._say_lost(photo[0], "Its file is gone.")
        return [None] * len(photo)

    async def _photos(
        self, faces: Sequence[LackingFace]
    ) -> AsyncGenerator[tuple[list[LackingFace], bytes | None]]:
        """The faces grouped by image, with the bytes of the image; some files are read ahead."""
        photos = [list(group) for _, group in groupby(faces, lambda f: (f.tenant_id, f.image_id))]
        reading: list[asyncio.Task[bytes | None]] = []
        try:
            for nth, photo in enumerate(photos):
                ahead = photos[nth + len(reading) : nth + _READ_AHEAD]
                reading += [asyncio.create_task(self._read(each[0].blob_key)) for each in ahead]
                yield photo, await reading.pop(0)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _read(self, blob_key: str | None) -> bytes | None:
        if blob_key is None:
            return None
        try:
            return await self._blobs.get(blob_key)
        except NotFoundError:
            return None

    async def _work(self, work: Callable[[], T]) -> T:
        """Run CPU-bound work in a thread, and add up the time that it waited for a core."""

        def timed() -> T:
            began, ran = time.perf_counter(), time.thread_time()
            try:
                return work()
            finally:
                took, ran = time.perf_counter() - began, time.thread_time() - ran
                self._waited_s += max(0.0, took - ran)

        return await asyncio.to_thread(timed)

    def _check(self, lost: int, why: str) -> None:
        if lost and not self._leave_lost:
            raise LostFacesError(
                f"{lost} faces cannot be embedded by the new model, since {why}: the active model "
                "stays. With --leave-lost-faces the new model is activated all the same; these "
                "faces stay in their clusters, and no new face is matched with them"
            )

    def _say_lost(self, face: LackingFace, why: str) -> None:
        if self._lost <= _MOST_LOGGED:
            _logger.warning("the faces of image %s cannot be embedded: %s", face.image_id, why)

    def _tell(self, phase: Phase) -> Progress:
        progress = Progress(
            phase, self._faces, self._embedded, self._lost, self._deleted, self._added
        )
        self._on_progress(progress)
        return progress
