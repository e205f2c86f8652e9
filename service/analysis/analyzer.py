"""The whole path of one photo: decode, detect, crop, embed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.analysis.detector import CascadeDetector
from service.analysis.embedder import EncodedCrop, FaceEmbedder, NotCheapError
from service.analysis.finder import FaceFinder
from service.analysis.scan import open_screen
from service.analysis.stages import StageFactory
from service.batching import Gate, Ticket, WorkerPool
from service.domain.errors import StoppingError
from service.domain.types import (
    AnalyzedPhoto,
    DetectedFace,
    DetectedPhoto,
    Detection,
    EmbeddedFace,
    Embedding,
    FacePlace,
    FaceQuality,
    PhotoSource,
)
from service.machine.memory import release_free_memory
from service.runtime.manifest import EmbeddingFacts, load_manifest
from service.runtime.sessions import SessionSettings, open_sessions
from service.telemetry import Metrics, StageClock
from service.vision.cascade import CascadeSettings
from service.vision.crop import cut_face, resize_face
from service.vision.decode import DecodedPhoto, blank_png, decode, read_header
from service.vision.quality import face_quality
from service.vision.resample import summed_area_table
from service.vision.views import View

_QUIET_S = 1.0
# A larger file is not cheap to decode, whatever it holds.
_MAX_CHEAP_BYTES = 1 << 18
# A pixel's bytes while faces are looked for: itself, its sums, and those of a coarser table.
_BYTES_KEPT = 3 + 12 + 3
# Of a photo with more pixels, eight million, the copies are given back to the system at once.
_LARGE_BYTES = 3 * 8_000_000
_NO_TABLE = np.empty((0, 0, 3), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """How photos are analysed.

    min_confidence: smallest probability of what counts as a face.
    compatible: find what facenet-pytorch finds, by one look at each photo.
    max_detections: at most so many faces a photo, the most probable ones.
    max_pixels: largest width x height that is decoded.
    max_photos: photos in work at once, so that those begun are soon done. One tenant gets all but
        one of them.
    max_decoded_bytes: what the photos in work may take decoded, all together; one tenant gets
        three quarters of it. A photo that is larger alone is in work alone.
    screen: whether cells for P-Net are chosen by its eight-bit screen where that runs.
    workers: threads that run the stages.
    """

    cascade: CascadeSettings
    sessions: SessionSettings
    min_confidence: float
    compatible: bool
    max_detections: int
    max_pixels: int
    max_photos: int
    max_decoded_bytes: int
    screen: bool
    workers: int


@dataclass(frozen=True, slots=True)
class _EncodedPhoto:
    """A file, and what is wanted of it besides its pixels: its hash, and to be searched."""

    data: bytes
    hashed: bool
    searched: bool


@dataclass(frozen=True, slots=True, eq=False)
class _OpenedPhoto:
    """table: the photo's summed-area table, uint32 [height + 1, width + 1, 3]; empty if unasked."""

    decoded: DecodedPhoto
    table: NDArray[np.uint32]

    @property
    def width(self) -> int:
        return int(self.decoded.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.decoded.pixels.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class _CropRequest:
    """Faces of a photo, to be cut out (or only looked at) once it is turned upright."""

    pixels: NDArray[np.uint8]
    detections: Sequence[Detection]
    turned: int
    cuts: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """crop: uint8 [size, size, 3]; None where none was asked for."""

    detection: Detection
    quality: FaceQuality
    crop: NDArray[np.uint8] | None


class Analyzer:
    """Finds and embeds the faces of photos; every stage runs in the shared worker pool.

    Every method that takes a ticket raises WithdrawnError or DeadlineError once that fails, and
    StoppingError while the service is shutting down.
    """

    def __init__(
        self,
        models: Path,
        settings: AnalysisSettings,
        metrics: Metrics,
        space: str | None = None,
    ) -> None:
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
        self._places = Gate(
            settings.max_photos,
            max(1, settings.max_photos - 1),
            room=settings.max_decoded_bytes,
        )
        # Files that wait for a place are in memory only while their headers are looked at.
        self._readers = Gate(settings.workers)
        self._pool = WorkerPool(settings.workers)
        stages = StageFactory(self._pool, metrics)
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
        self._finder = FaceFinder(
            self._detector,
            settings.cascade,
            min_confidence=settings.min_confidence,
            compatible=settings.compatible,
        )
        self._cropper = stages.make("crop", self._crop)
        self._resizer = stages.make("resize", self._resize)
        self._embedder = FaceEmbedder(sessions["embedder"], stages, space)
        # Made last, it goes first: it takes next to no time, and work to begin with depends on it.
        self._measurer = stages.make("measure", self._measure)

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

        Times the stages queue (until a place and memory are free), decode, detect and embed.

        Raises:
            InputError: the bytes are no usable photo.
        """
        async with self._place(read, clock, ticket):
            photo = await self._open(read, clock, ticket, hashed=hashed)
            kept, turned = await self._find(photo, clock, ticket)
            with clock.stage("embed"):
                faces = await self._embed(photo.decoded.pixels, kept, turned, ticket)
            decoded = photo.decoded
            return AnalyzedPhoto(
                decoded.format, photo.width, photo.height, decoded.phash, faces, turned
            )

    async def detect(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> DetectedPhoto:
        """Find the faces of a photo, largest first; times queue, decode and detect.

        Raises:
            InputError: the bytes are no usable photo.
        """
        async with self._place(read, clock, ticket):
            photo = await self._open(read, clock, ticket, hashed=False)
            kept, turned = await self._find(photo, clock, ticket)
            with clock.stage("detect"):
                cut = await self._cut(photo.decoded.pixels, kept, turned, ticket, cuts=False)
            faces = tuple(DetectedFace(each.detection, each.quality) for each in cut)
            return DetectedPhoto(photo.width, photo.height, faces, turned)

    async def embed_crop(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> Embedding:
        """Embed an image that shows one face and nothing else; times decode and embed.

        A network that sees a box gets the image resized, without regard to its proportions. One
        that sees an aligned face gets an image of just its size as it is, of another size the
        largest face in it aligned, and resized where there is none.

        Raises:
            InputError: the bytes are no usable image.
        """
        data = await read()
        with self._in_use(ticket), suppress(NotCheapError):
            if len(data) <= _MAX_CHEAP_BYTES and self.embedding.crop.kind == "box":
                with clock.stage("embed"):
                    (embedding,) = await self._embedder.embed([EncodedCrop(data)], ticket)
                    return embedding
        del data  # while it waits for a place it need not be held
        async with self._place(read, clock, ticket):
            crop = await self._face_alone(read, clock, ticket)
            with clock.stage("embed"):
                (embedding,) = await self._embedder.embed([crop], ticket)
                return embedding

    async def aclose(self) -> None:
        """Finish every photo in work, refuse the rest, then end the workers."""
        self._closing = True
        if self._tidying is not None:
            self._tidying.cancel()
        await self._unused.wait()
        await self._measurer.drain()
        await self._decoder.drain()
        await self._detector.drain()
        await self._cropper.drain()
        await self._resizer.drain()
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
    async def _place(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> AsyncIterator[None]:
        """A place among the photos in work; the file is read again once there is one."""
        with self._in_use(ticket):
            with clock.stage("queue"):
                size = await self._decoded_bytes(read, ticket)
                await self._places.enter(ticket, size)
            self._in_work += 1
            self._metrics.photos_in_work.inc()
            try:
                if self._closing:
                    raise StoppingError("The service is shutting down.")
                self._pool.expect(ticket)
                yield
            finally:
                self._places.leave(ticket, size)
                self._metrics.photos_in_work.dec()
                self._in_work -= 1
                if not self._in_work:
                    self._tidy_up_later()

    async def _decoded_bytes(self, read: PhotoSource, ticket: Ticket) -> int:
        """How much memory a photo takes, by its header."""
        await self._readers.enter(ticket)
        try:
            return await self._measurer.submit(await read(), ticket)
        finally:
            self._readers.leave(ticket)
            self._pool.no_more(ticket)  # for now: it may have to wait

    async def _open(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool
    ) -> _OpenedPhoto:
        with clock.stage("decode"):
            photo = _EncodedPhoto(await read(), hashed=hashed, searched=True)
            return await self._decoder.submit(photo, ticket)

    async def _find(
        self, photo: _OpenedPhoto, clock: StageClock, ticket: Ticket
    ) -> tuple[list[Detection], int]:
        """The faces that count, largest first, and how the photo has to be turned for them."""
        with clock.stage("detect"):
            found = await self._finder.find(photo.table, ticket)
            return self._select(found.faces), found.turned

    async def _face_alone(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> NDArray[np.uint8]:
        """What the network sees of an image that shows one face."""
        aligns, size = self.embedding.crop.kind == "landmarks", self.embedding.crop.size
        with clock.stage("decode"):
            encoded = _EncodedPhoto(await read(), hashed=False, searched=aligns)
            photo = await self._decoder.submit(encoded, ticket)
        pixels = photo.decoded.pixels
        if aligns and pixels.shape[:2] != (size, size):
            kept, turned = await self._find(photo, clock, ticket)
            for cut in await self._cut(pixels, kept[:1], turned, ticket, cuts=True):
                if cut.crop is not None:
                    return cut.crop
        return await self._resizer.submit(pixels, ticket)

    def _warm_up(self) -> None:
        # A file, not an array: kernels are compiled for the kind of array that decoding makes.
        (opened,) = self._open_photos([_EncodedPhoto(blank_png(64), hashed=True, searched=True)])
        self._detector.warm_up(View.of(opened.table))
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
        self,
        pixels: NDArray[np.uint8],
        detections: Sequence[Detection],
        turned: int,
        ticket: Ticket,
    ) -> tuple[EmbeddedFace, ...]:
        cut = await self._cut(pixels, detections, turned, ticket, cuts=True)
        crops = [each.crop for each in cut if each.crop is not None]
        embeddings = await self._embedder.embed(crops, ticket) if crops else ()
        return tuple(
            EmbeddedFace(each.detection, embedding, each.quality)
            for each, embedding in zip(cut, embeddings, strict=True)
        )

    async def _cut(
        self,
        pixels: NDArray[np.uint8],
        detections: Sequence[Detection],
        turned: int,
        ticket: Ticket,
        *,
        cuts: bool,
    ) -> list[_Cut]:
        """Each face with its quality, and if asked for its crop; none that lies outside."""
        if not detections:
            return []
        return await self._cropper.submit(_CropRequest(pixels, detections, turned, cuts), ticket)

    def _measure(self, batch: Sequence[bytes]) -> list[int]:
        return [self._measure_photo(data) for data in batch]

    def _measure_photo(self, data: bytes) -> int:
        header = read_header(data, self._settings.max_pixels)
        kept = header.width * header.height * _BYTES_KEPT
        return max(header.decoding_bytes, kept) + len(data)

    def _open_photos(self, batch: Sequence[_EncodedPhoto]) -> list[_OpenedPhoto]:
        return [self._open_photo(photo) for photo in batch]

    def _open_photo(self, photo: _EncodedPhoto) -> _OpenedPhoto:
        decoded = decode(photo.data, self._settings.max_pixels, hashed=photo.hashed)
        if decoded.pixels.size > _LARGE_BYTES:
            release_free_memory()  # else each worker keeps what decoding took, for the next time
        return _OpenedPhoto(
            decoded, summed_area_table(decoded.pixels) if photo.searched else _NO_TABLE
        )

    def _crop(self, batch: Sequence[_CropRequest]) -> list[list[_Cut]]:
        return [self._crop_faces(request) for request in batch]

    def _resize(self, batch: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        return [resize_face(pixels, self.embedding.crop.size) for pixels in batch]

    def _crop_faces(self, request: _CropRequest) -> list[_Cut]:
        found = []
        for face in request.detections:
            crop = None
            if request.cuts:
                place = FacePlace(face.box, face.landmarks)
                crop = cut_face(request.pixels, place, self.embedding.crop, request.turned)
                if crop is None:
                    continue
            found.append(_Cut(face, face_quality(request.pixels, face), crop))
        return found


def _area(face: Detection) -> float:
    return (face.box.x2 - face.box.x1) * (face.box.y2 - face.box.y1)
