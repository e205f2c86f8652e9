"""Stored faces get vectors of another model, and then all of them are searched by these at once."""

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

# What a killed process loses at most, and what is held in memory as crops.
_BATCH_FACES = 64
# So many files are read ahead while the photo before them is decoded.
_READ_AHEAD = 4
# A round that found no more than this is the last one before the change, and no more may have come
# since: inserts wait, each with a connection, while those are embedded.
_FEW_FACES = 32
_PAUSE_S = 2.0
# Seconds of rest for each second that a worker waited for a core, which somebody else had.
_REST_PER_WAIT = 4.0
_MOST_LOGGED = 20

Phase = Literal["embedding", "indexing", "changing over", "deleting", "done"]


@dataclass(frozen=True, slots=True)
class LackingFace:
    """A stored face without a vector of the new model; `number` is its place in the order.

    turned: degrees clockwise by which its image has to be turned for upright faces.
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
    """How far the work has come.

    faces: stored by now. embedded: those with a vector of the new model. lost: those that cannot
    get one. deleted: vectors of other models that went. added: vectors made by this run.
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
        """How many faces there are, and how many have a vector of the new model."""

    async def without_bytes(self) -> int:
        """How many faces lack a vector, on images whose bytes were not kept."""

    async def last_number(self) -> int:
        """All faces up to this number are there by now, or never will be."""

    async def lacking(
        self, after: LackingFace | None, since: int, until: int | None, limit: int
    ) -> list[LackingFace]:
        """Faces without a vector behind `after`, with numbers above `since` and up to `until`."""

    async def add(self, vectors: Sequence[tuple[LackingFace, Embedding]]) -> None:
        """Store vectors of those faces that are still there."""

    async def still_there(self, faces: Sequence[LackingFace]) -> int:
        """How many of the faces are."""

    async def analyze(self) -> None:
        """Have the statistics of the vectors taken anew."""

    def changing(self) -> AbstractAsyncContextManager[bool]:
        """Keep inserts out for the block, which all else belongs to; False where that fails."""

    async def activate(self) -> None:
        """Let the new model be the one that searches use."""

    def delete_replaced(self) -> AsyncIterator[int]:
        """Delete vectors of other models where there is a new one; gives each batch's number."""


class FaceEmbedder(Protocol):
    """Cuts faces out of photos and embeds them; its methods take a core for a while."""

    def cut(self, data: bytes, places: Sequence[FacePlace], turned: int) -> list[Crop | None]:
        """The crops of a photo; None for a face outside it. Raises InputError."""

    def embed(self, crops: Sequence[Crop]) -> list[Embedding]:
        """Unit vectors, in order."""


class Reembed:
    """Gives every stored face a vector of another model, then changes the database over to it.

    Searches use the old vectors until one commit. Whatever ends it, it goes on where it was: what
    is left to do is what the database lacks.

    Args:
        build_indexes: brings the vector indexes up to date; returns False while somebody else is
            at it.
        leave_lost: change over although faces without a usable image stay without a vector.
        keep_old: leave the vectors of other models where they are.
        on_progress: told after every step.
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
            LostFacesError: faces cannot be embedded, and are not to be left. Nothing was changed
                over; vectors of the new model are kept.
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
        """Embed what lacks a vector between two numbers; returns how many faces there were."""
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
        """Embed the last faces and activate the model, while nobody inserts any."""
        self._tell("changing over")
        async with self._vectors.changing() as alone:
            if alone:
                last = await self._vectors.lacking(None, since, None, _FEW_FACES + 1)
                if len(last) <= _FEW_FACES:
                    await self._embed(last)
                    self._check(self._lost, "their images are missing or cannot be read")
                    await self._vectors.activate()
                    return True
        await asyncio.sleep(_PAUSE_S)  # for those who waited meanwhile
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
        # An image that was deleted since it was listed is no loss.
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
        """The faces image by image, with the image's bytes; some are read ahead."""
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
        """Run in a thread, and note how long it had to wait for a core."""

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
                f"{lost} faces cannot be embedded by the new model, since {why}: nothing was "
                "changed over. With --leave-lost-faces they stay in their clusters, and no new "
                "face is matched with them"
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
