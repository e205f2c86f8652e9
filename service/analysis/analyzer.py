"""The whole path of one photo: decode, detect, crop, embed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.analysis.detector import CascadeDetector
from service.analysis.embedder import EncodedCrop, FaceEmbedder, NotCheapError
from service.analysis.scan import PreparedPhoto, open_screen
from service.analysis.stages import StageFactory, StageSettings
from service.batching import Gate, Ticket, WorkerPool
from service.domain.errors import StoppingError
from service.domain.types import (
    AnalyzedPhoto,
    Box,
    DetectedPhoto,
    Detection,
    EmbeddedFace,
    Embedding,
    PhotoSource,
)
from service.runtime.manifest import EmbeddingFacts, load_manifest
from service.runtime.memory import release_free_memory
from service.runtime.sessions import SessionSettings, open_sessions
from service.telemetry import Metrics, StageClock
from service.vision.cascade import CascadeSettings
from service.vision.crop import crop_face
from service.vision.decode import DecodedPhoto, blank_png, decode
from service.vision.resample import summed_area_table

_QUIET_S = 1.0
# A larger file is not cheap to decode, whatever it holds.
_MAX_CHEAP_BYTES = 1 << 18
_NO_TABLE = np.empty((0, 0, 3), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """How photos are analysed.

    min_confidence: smallest probability of what counts as a face.
    max_detections: at most so many faces a photo, the most probable ones.
    max_pixels: largest width x height that is decoded.
    max_photos: photos in work at once; the bytes of others are not even read, so that memory is
        bounded by this number of decoded photos. One tenant gets all but one of them.
    screen: whether cells for P-Net are chosen by its eight-bit screen where that runs.
    workers: threads that run the stages.
    stages: how batches are formed, by the name of the network.
    latency_objective_s: how long a crop may take in a network, waiting and running; 0 for any time.
    """

    cascade: CascadeSettings
    sessions: SessionSettings
    min_confidence: float
    max_detections: int
    max_pixels: int
    max_photos: int
    screen: bool
    workers: int
    stages: Mapping[str, StageSettings]
    latency_objective_s: float


@dataclass(frozen=True, slots=True)
class _EncodedPhoto:
    """A file, and what is wanted of it besides its pixels: its hash, and to be searched."""

    data: bytes
    hashed: bool
    searched: bool


@dataclass(frozen=True, slots=True, eq=False)
class _OpenedPhoto:
    decoded: DecodedPhoto
    prepared: PreparedPhoto

    @property
    def width(self) -> int:
        return int(self.decoded.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.decoded.pixels.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class _CropRequest:
    pixels: NDArray[np.uint8]
    detections: Sequence[Detection]


class Analyzer:
    """Finds and embeds the faces of photos; every stage runs in the shared worker pool.

    Every method that takes a ticket raises WithdrawnError or DeadlineError once that fails, and
    StoppingError while the service is shutting down.
    """

    def __init__(self, models: Path, settings: AnalysisSettings, metrics: Metrics) -> None:
        manifest = load_manifest(models)
        sessions = open_sessions(models, manifest, settings.sessions)
        self.placements = frozenset(
            (name, session.placement.provider, session.placement.precision)
            for name, session in sessions.items()
        )
        for labels in self.placements:
            metrics.model.labels(*labels).set(1)
        self._settings = settings
        self._metrics = metrics
        self._closing = False
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._in_work = 0
        self._tidying: asyncio.TimerHandle | None = None
        self._places = Gate(settings.max_photos, max(1, settings.max_photos - 1))
        self._pool = WorkerPool(settings.workers)
        stages = StageFactory(self._pool, settings.stages, settings.latency_objective_s, metrics)
        # The order of the pipeline: what is nearest to its end goes first.
        self._decoder = stages.make("decode", self._open_photos)
        self._detector = CascadeDetector(
            sessions["pnet"],
            sessions["rnet"],
            sessions["onet"],
            settings.cascade,
            stages=stages,
            screen=open_screen(models, manifest, sessions["pnet"]) if settings.screen else None,
        )
        self._cropper = stages.make("crop", self._crop)
        self._embedder = FaceEmbedder(sessions["facenet"], stages)

    @property
    def embedding(self) -> EmbeddingFacts:
        """What this analyzer's vectors mean."""
        return self._embedder.facts

    async def warm_up(self) -> None:
        """Run every stage once, so that the first photo is not the slow one."""
        await asyncio.to_thread(self._warm_up)

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto:
        """Find and embed the faces of a photo, largest first; `hashed` asks for its phash, too.

        Times the stages queue (until a place is free), decode, detect and embed.

        Raises:
            InputError: the bytes are no usable photo.
        """
        async with self._place(clock, ticket):
            photo = await self._open(read, clock, ticket, hashed=hashed)
            kept = await self._find(photo, clock, ticket)
            with clock.stage("embed"):
                faces = await self._embed(photo.decoded.pixels, kept, ticket)
            decoded = photo.decoded
            return AnalyzedPhoto(decoded.format, photo.width, photo.height, decoded.phash, faces)

    async def detect(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> DetectedPhoto:
        """Find the faces of a photo, largest first; times queue, decode and detect.

        Raises:
            InputError: the bytes are no usable photo.
        """
        async with self._place(clock, ticket):
            photo = await self._open(read, clock, ticket, hashed=False)
            kept = await self._find(photo, clock, ticket)
            return DetectedPhoto(photo.width, photo.height, tuple(kept))

    async def embed_crop(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> Embedding:
        """Embed an image that shows one face and nothing else; times embed.

        It is resized to what the network takes, without regard to its proportions.

        Raises:
            InputError: the bytes are no usable image.
        """
        data = await read()
        with self._in_use(ticket), suppress(NotCheapError):
            if len(data) <= _MAX_CHEAP_BYTES:
                with clock.stage("embed"):
                    (embedding,) = await self._embedder.embed([EncodedCrop(data)], ticket)
                    return embedding
        async with self._place(clock, ticket):
            with clock.stage("decode"):
                photo = await self._decoder.submit(
                    _EncodedPhoto(data, hashed=False, searched=False), ticket
                )
            with clock.stage("embed"):
                whole = Detection(Box(0.0, 0.0, photo.width, photo.height), (), 1.0)
                (face,) = await self._embed(photo.decoded.pixels, [whole], ticket)
                return face.embedding

    async def aclose(self) -> None:
        """Finish every photo in work, refuse the rest, then end the workers."""
        self._closing = True
        if self._tidying is not None:
            self._tidying.cancel()
        await self._unused.wait()
        await self._decoder.drain()
        await self._detector.drain()
        await self._cropper.drain()
        await self._embedder.drain()
        await self._pool.aclose()

    @contextmanager
    def _in_use(self, ticket: Ticket) -> Iterator[None]:
        if self._closing:
            raise StoppingError("The service is shutting down.")
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._pool.no_more(ticket)
            self._users -= 1
            if not self._users:
                self._unused.set()

    @asynccontextmanager
    async def _place(self, clock: StageClock, ticket: Ticket) -> AsyncIterator[None]:
        with self._in_use(ticket):
            with clock.stage("queue"):
                await self._places.enter(ticket)
            self._in_work += 1
            self._metrics.photos_in_work.inc()
            try:
                if self._closing:
                    raise StoppingError("The service is shutting down.")
                self._pool.expect(ticket)
                yield
            finally:
                self._places.leave(ticket)
                self._metrics.photos_in_work.dec()
                self._in_work -= 1
                if not self._in_work:
                    self._tidy_up_later()

    async def _open(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool
    ) -> _OpenedPhoto:
        with clock.stage("decode"):
            photo = _EncodedPhoto(await read(), hashed=hashed, searched=True)
            return await self._decoder.submit(photo, ticket)

    async def _find(
        self, photo: _OpenedPhoto, clock: StageClock, ticket: Ticket
    ) -> list[Detection]:
        with clock.stage("detect"):
            return self._select(await self._detector.detect(photo.prepared, ticket))

    def _warm_up(self) -> None:
        # A file, not an array: kernels are compiled for the kind of array that decoding makes.
        (opened,) = self._open_photos([_EncodedPhoto(blank_png(64), hashed=True, searched=True)])
        self._detector.warm_up(opened.prepared)
        self._embedder.warm_up()

    def _tidy_up_later(self) -> None:
        """Give memory back once nothing has been going on for a moment."""
        loop = asyncio.get_running_loop()
        if self._tidying is not None:
            self._tidying.cancel()
        self._tidying = loop.call_later(
            _QUIET_S, lambda: loop.run_in_executor(None, release_free_memory)
        )

    def _select(self, found: Sequence[Detection]) -> list[Detection]:
        sure = [face for face in found if face.confidence >= self._settings.min_confidence]
        sure.sort(key=lambda face: face.confidence, reverse=True)
        return sorted(sure[: self._settings.max_detections], key=_area, reverse=True)

    async def _embed(
        self, pixels: NDArray[np.uint8], detections: Sequence[Detection], ticket: Ticket
    ) -> tuple[EmbeddedFace, ...]:
        if not detections:
            return ()
        cut = await self._cropper.submit(_CropRequest(pixels, detections), ticket)
        embeddings = await self._embedder.embed([crop for _, crop in cut], ticket)
        return tuple(
            EmbeddedFace(detection, embedding)
            for (detection, _), embedding in zip(cut, embeddings, strict=True)
        )

    def _open_photos(self, batch: Sequence[_EncodedPhoto]) -> list[_OpenedPhoto]:
        return [self._open_photo(photo) for photo in batch]

    def _open_photo(self, photo: _EncodedPhoto) -> _OpenedPhoto:
        decoded = decode(photo.data, self._settings.max_pixels, hashed=photo.hashed)
        height, width = decoded.pixels.shape[:2]
        table = summed_area_table(decoded.pixels) if photo.searched else _NO_TABLE
        return _OpenedPhoto(decoded, PreparedPhoto(table, width, height))

    def _crop(
        self, batch: Sequence[_CropRequest]
    ) -> list[list[tuple[Detection, NDArray[np.uint8]]]]:
        size = self._embedder.crop_size
        return [
            [
                (detection, crop)
                for detection in request.detections
                if (crop := crop_face(request.pixels, detection.box, size)) is not None
            ]
            for request in batch
        ]


def _area(face: Detection) -> float:
    return (face.box.x2 - face.box.x1) * (face.box.y2 - face.box.y1)
