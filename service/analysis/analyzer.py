"""The whole path of one photo: decode, detect, crop, embed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.analysis.detector import CascadeDetector
from service.analysis.embedder import EncodedCrop, FaceEmbedder, NotCheapError
from service.analysis.finder import FaceFinder
from service.analysis.screens import Screens, open_screens
from service.analysis.stages import StageFactory
from service.batching import Gate, InputMemory, Ticket, WorkerPool
from service.domain.errors import StoppingError
from service.domain.types import (
    AnalyzedPhoto,
    Box,
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
from service.vision.formats.base import DecodeLimits
from service.vision.phash import perceptual_hash
from service.vision.pictures import Picture, read_picture_header, render
from service.vision.quality import face_quality
from service.vision.resample import summed_area_table
from service.vision.views import View

_QUIET_S = 1.0
# A larger file is never cheap to decode.
_MAX_CHEAP_BYTES = 1 << 18
# A photo whose decoding is predicted to take longer, in microseconds, waits while other such photos
# keep all workers but one. A usual photo of 12 million pixels takes less.
_LONG_WORK_US = 250_000
# The memory of a photo with more than eight million pixels goes back to the system at once.
_LARGE_BYTES = 3 * 8_000_000
# Files that are decoded, or wait for it, take at most so much memory; smaller ones are few.
_FILES_BYTES = 192 << 20
_SMALL_FILE_BYTES = 4 << 20
# The number of photos whose faces one job cuts out, and whose headers one job reads.
_CROP_JOBS, _MEASURE_JOBS = 4, 8
_NO_TABLE = np.empty((0, 0, 3), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """How photos are analysed.

    min_confidence: the smallest probability of a face.
    compatible: whether to detect the faces that facenet-pytorch detects, in one full pass.
    max_detections: the largest number of faces of a photo; the most probable ones are kept.
    decoding: the limits of one photo.
    max_photos: the largest number of photos in work at once, so that each is soon done. One tenant
        gets all places but one.
    max_decoded_bytes: the memory for the decoded photos in work, all together. One tenant gets
        three quarters of it. A photo that needs more than all of it is in work without others.
    screen: whether eight-bit screens choose what P-Net and R-Net judge, on machines that can run
        them.
    workers: the number of threads that run the stages.
    keep_location: whether the facts of an analysed photo have the location that its file names.
    """

    cascade: CascadeSettings
    sessions: SessionSettings
    min_confidence: float
    compatible: bool
    max_detections: int
    decoding: DecodeLimits
    max_photos: int
    max_decoded_bytes: int
    screen: bool
    workers: int
    keep_location: bool = False


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a photo takes, by its header: memory while it is in work, and time to decode it."""

    decoded_bytes: int
    work_us: float


@dataclass(frozen=True, slots=True)
class _EncodedPhoto:
    """A file to decode.

    hashed: whether to compute the perceptual hash. searched: whether faces are detected in it.
    """

    data: bytes
    hashed: bool
    searched: bool


@dataclass(frozen=True, slots=True)
class _PictureRequest:
    """A file to make a picture of."""

    data: bytes
    picture: Picture


@dataclass(frozen=True, slots=True)
class _MeasureRequest:
    """A file whose cost is wanted, for an analysis, or for a picture."""

    data: bytes
    picture: Picture | None


@dataclass(frozen=True, slots=True, eq=False)
class _OpenedPhoto:
    """A decoded photo.

    Faces are detected and cut out in the decoded pixels, at the scale that they have.

    table: the summed-area table, uint32 [height + 1, width + 1, 3]; empty if the photo is not
    searched.
    """

    decoded: DecodedPhoto
    table: NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class _CropRequest:
    """Faces of a photo whose quality is wanted, and if `cuts` is set, their crops.

    turned: the rotation that makes the faces upright, in degrees clockwise.
    """

    pixels: NDArray[np.uint8]
    detections: Sequence[Detection]
    turned: int
    cuts: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """crop: uint8 [size, size, 3]; None if no crop was requested."""

    detection: Detection
    quality: FaceQuality
    crop: NDArray[np.uint8] | None


class Analyzer:
    """Detects and embeds the faces of photos; every stage runs in the shared worker pool.

    Every method with a ticket raises WithdrawnError or DeadlineError once the ticket has failed,
    and StoppingError while the service is shutting down.
    """

    def __init__(
        self,
        models: Path,
        settings: AnalysisSettings,
        metrics: Metrics,
        space: str | None = None,
    ) -> None:
        # The workers take all cores: OpenCV's own threads would only wait for them, spinning.
        cv2.setNumThreads(1)
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
        # A file that waits for a place is in memory only while its header is read.
        self._readers = Gate(settings.workers)
        self._files = InputMemory(_FILES_BYTES, _SMALL_FILE_BYTES)
        # A worker cannot leave a decoder. One worker therefore stays free for other photos.
        self._long_decoding = Gate(max(1, settings.workers - 1))
        self._pool = WorkerPool(settings.workers)
        stages = StageFactory(self._pool, metrics)
        # The stages are made in the order of the pipeline, because the stage made last goes first.
        # Pictures stand back behind the photos in work, which hold more memory.
        self._renderer = stages.make("render", self._render_pictures, apart=True)
        self._decoder = stages.make("decode", self._open_photos)
        self._detector = CascadeDetector(
            sessions["pnet"],
            sessions["rnet"],
            sessions["onet"],
            settings.cascade,
            stages=stages,
            screens=open_screens(models, manifest, sessions) if settings.screen else Screens(),
        )
        self._finder = FaceFinder(
            self._detector,
            settings.cascade,
            min_confidence=settings.min_confidence,
            compatible=settings.compatible,
        )
        self._cropper = stages.make("crop", self._crop, full=_CROP_JOBS)
        self._resizer = stages.make("resize", self._resize)
        self._embedder = FaceEmbedder(sessions["embedder"], stages, space)
        # It goes before all other stages, because it takes next to no time and each photo waits for
        # it before any other stage.
        self._measurer = stages.make("measure", self._measure, full=_MEASURE_JOBS)

    @property
    def embedding(self) -> EmbeddingFacts:
        """The facts about the embeddings of this analyzer."""
        return self._embedder.facts

    async def warm_up(self) -> None:
        """Run every stage once, so that the first photo is as fast as the next ones."""
        await asyncio.to_thread(self._warm_up)

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto:
        """Detect and embed the faces of a photo, largest first.

        Times the stages queue (until a place and memory are free), decode, detect and embed.

        Args:
            hashed: whether to compute the perceptual hash of the photo.

        Raises:
            InputError: the bytes are not a usable photo.
        """
        async with self._place(read, clock, ticket) as cost:
            photo = await self._open(read, cost, clock, ticket, hashed=hashed)
            kept, turned = await self._find(photo, clock, ticket)
            with clock.stage("embed"):
                faces = await self._embed(photo.decoded, kept, turned, ticket)
            decoded = photo.decoded
            return AnalyzedPhoto(
                decoded.format,
                decoded.width,
                decoded.height,
                decoded.phash,
                faces,
                turned,
                decoded.facts,
            )

    async def detect(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> DetectedPhoto:
        """Detect the faces of a photo, largest first; times queue, decode and detect.

        Raises:
            InputError: the bytes are not a usable photo.
        """
        async with self._place(read, clock, ticket) as cost:
            photo = await self._open(read, cost, clock, ticket, hashed=False)
            kept, turned = await self._find(photo, clock, ticket)
            with clock.stage("detect"):
                cut = await self._cut(photo.decoded.pixels, kept, turned, ticket, cuts=False)
            decoded = photo.decoded
            faces = tuple(
                DetectedFace(each.detection.scaled(decoded.shrink), each.quality) for each in cut
            )
            return DetectedPhoto(decoded.width, decoded.height, faces, turned)

    async def embed_crop(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> Embedding:
        """Embed an image that shows one face and nothing else; times decode and embed.

        A network that takes the box of a face gets the image resized to a square. A network that
        takes an aligned face gets an image of its input size unchanged. Of an image of another size
        it gets the largest face, aligned. If no face is detected, it gets the resized image.

        Raises:
            InputError: the bytes are not a usable image.
        """
        if ticket.size_bytes <= _MAX_CHEAP_BYTES and self.embedding.crop.kind == "box":
            data = await read()
            with self._in_use(ticket), suppress(NotCheapError):
                if len(data) <= _MAX_CHEAP_BYTES:
                    with clock.stage("embed"):
                        (embedding,) = await self._embedder.embed([EncodedCrop(data)], ticket)
                        return embedding
            del data  # it is read again once there is a place
        async with self._place(read, clock, ticket) as cost:
            crop = await self._single_face(read, cost, clock, ticket)
            with clock.stage("embed"):
                (embedding,) = await self._embedder.embed([crop], ticket)
                return embedding

    async def thumbnail(self, read: PhotoSource, size: int, ticket: Ticket) -> bytes:
        """A small JPEG file of a photo, upright; its longest side has at most `size` pixels.

        Times the stages queue and render. A photo with fewer pixels is not enlarged.

        Raises:
            InputError: the bytes are not a usable photo.
        """
        return await self._render(read, Picture(size), ticket)

    async def crop(
        self, read: PhotoSource, box: Box, size: int, margin: float, ticket: Ticket
    ) -> bytes:
        """A JPEG file of the part of an upright photo around a box; else as `thumbnail`.

        Args:
            box: in pixels of the upright photo.
            margin: the sides of the part as multiples of those of the box; it ends at the edges of
                the photo.

        Raises:
            InputError: the bytes are not a usable photo.
        """
        return await self._render(read, Picture(size, box, margin), ticket)

    async def aclose(self) -> None:
        """Refuse new photos, finish every photo in work, then end the workers."""
        self._closing = True
        if self._tidying is not None:
            self._tidying.cancel()
        await self._unused.wait()
        await self._measurer.drain()
        await self._renderer.drain()
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
        self,
        read: PhotoSource,
        clock: StageClock,
        ticket: Ticket,
        picture: Picture | None = None,
    ) -> AsyncIterator[_Cost]:
        """Hold a place among the photos in work; the caller reads the file again inside."""
        with self._in_use(ticket):
            with clock.stage("queue"):
                cost = await self._cost(read, ticket, picture)
                await self._places.enter(ticket, cost.decoded_bytes)
            self._in_work += 1
            self._metrics.photos_in_work.inc()
            try:
                if self._closing:
                    raise StoppingError("The service is shutting down.")
                self._pool.expect(ticket)
                yield cost
            finally:
                self._places.leave(ticket, cost.decoded_bytes)
                self._metrics.photos_in_work.dec()
                self._in_work -= 1
                if not self._in_work:
                    self._tidy_up_later()

    async def _cost(self, read: PhotoSource, ticket: Ticket, picture: Picture | None) -> _Cost:
        """What a photo takes, by its header."""
        await self._readers.enter(ticket)
        try:
            async with self._files.hold(ticket):
                return await self._measurer.submit(_MeasureRequest(await read(), picture), ticket)
        finally:
            self._readers.leave(ticket)
            self._pool.no_more(ticket)  # it may have to wait for a place

    async def _open(
        self,
        read: PhotoSource,
        cost: _Cost,
        clock: StageClock,
        ticket: Ticket,
        *,
        hashed: bool,
        searched: bool = True,
    ) -> _OpenedPhoto:
        with clock.stage("decode"):
            async with self._decoding(cost, ticket):
                photo = _EncodedPhoto(await read(), hashed=hashed, searched=searched)
                return await self._decoder.submit(photo, ticket)

    async def _render(self, read: PhotoSource, picture: Picture, ticket: Ticket) -> bytes:
        clock = StageClock(self._metrics)
        async with self._place(read, clock, ticket, picture) as cost:
            with clock.stage("render"):
                async with self._decoding(cost, ticket):
                    request = _PictureRequest(await read(), picture)
                    return await self._renderer.submit(request, ticket)

    @asynccontextmanager
    async def _decoding(self, cost: _Cost, ticket: Ticket) -> AsyncIterator[None]:
        """Hold the memory of a file, and the turn that a long decoding needs."""
        if cost.work_us <= _LONG_WORK_US:
            async with self._files.hold(ticket):
                yield
            return
        self._pool.no_more(ticket)
        await self._long_decoding.enter(ticket)
        try:
            self._pool.expect(ticket)
            async with self._files.hold(ticket):
                yield
        finally:
            self._long_decoding.leave(ticket)

    async def _find(
        self, photo: _OpenedPhoto, clock: StageClock, ticket: Ticket
    ) -> tuple[list[Detection], int]:
        """The faces to keep, largest first, and the rotation that makes them upright."""
        with clock.stage("detect"):
            found = await self._finder.find(photo.table, ticket)
            return self._select(found.faces), found.turned

    async def _single_face(
        self, read: PhotoSource, cost: _Cost, clock: StageClock, ticket: Ticket
    ) -> NDArray[np.uint8]:
        """The input of the network for an image that shows one face."""
        aligns, size = self.embedding.crop.kind == "landmarks", self.embedding.crop.size
        photo = await self._open(read, cost, clock, ticket, hashed=False, searched=aligns)
        pixels = photo.decoded.pixels
        if aligns and pixels.shape[:2] != (size, size):
            kept, turned = await self._find(photo, clock, ticket)
            for cut in await self._cut(pixels, kept[:1], turned, ticket, cuts=True):
                if cut.crop is not None:
                    return cut.crop
        return await self._resizer.submit(pixels, ticket)

    def _warm_up(self) -> None:
        # Kernels are compiled for the kind of array that decoding returns, so this decodes a file.
        (opened,) = self._open_photos([_EncodedPhoto(blank_png(64), hashed=True, searched=True)])
        perceptual_hash(opened.decoded.pixels)  # of a JPEG file it is computed from its pixels
        self._detector.warm_up(View.of(opened.table))
        self._embedder.warm_up()

    def _tidy_up_later(self) -> None:
        """Return memory to the system once no photo has been in work for a moment."""
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
        photo: DecodedPhoto,
        detections: Sequence[Detection],
        turned: int,
        ticket: Ticket,
    ) -> tuple[EmbeddedFace, ...]:
        cut = await self._cut(photo.pixels, detections, turned, ticket, cuts=True)
        crops = [each.crop for each in cut if each.crop is not None]
        embeddings = await self._embedder.embed(crops, ticket) if crops else ()
        return tuple(
            EmbeddedFace(each.detection.scaled(photo.shrink), embedding, each.quality)
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
        """The quality of each face; with `cuts` also its crop, without faces outside the photo."""
        if not detections:
            return []
        return await self._cropper.submit(_CropRequest(pixels, detections, turned, cuts), ticket)

    def _measure(self, batch: Sequence[_MeasureRequest]) -> list[_Cost]:
        return [self._measure_photo(request) for request in batch]

    def _measure_photo(self, request: _MeasureRequest) -> _Cost:
        data, limits = request.data, self._settings.decoding
        if request.picture is None:
            header = read_header(data, limits)
        else:
            header = read_picture_header(data, request.picture, limits)
        return _Cost(header.decoding_bytes + len(data), header.work_us)

    def _render_pictures(self, batch: Sequence[_PictureRequest]) -> list[bytes]:
        return [render(each.data, each.picture, self._settings.decoding) for each in batch]

    def _open_photos(self, batch: Sequence[_EncodedPhoto]) -> list[_OpenedPhoto]:
        return [self._open_photo(photo) for photo in batch]

    def _open_photo(self, photo: _EncodedPhoto) -> _OpenedPhoto:
        decoded = decode(
            photo.data,
            self._settings.decoding,
            hashed=photo.hashed,
            located=self._settings.keep_location,
        )
        if decoded.pixels.size > _LARGE_BYTES:
            release_free_memory()  # else each worker keeps the memory of its decoder
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
