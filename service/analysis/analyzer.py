"""The whole path of one photo: decode, detect, crop, embed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.analysis.detector import CascadeDetector
from service.analysis.embedder import FaceEmbedder
from service.analysis.scan import PreparedPhoto, open_screen
from service.batching import BatchReport, MicroBatcher, WorkerPool
from service.domain.errors import StoppingError
from service.domain.types import AnalyzedPhoto, Detection, EmbeddedFace, PhotoSource
from service.runtime.manifest import EmbeddingFacts, load_manifest
from service.runtime.memory import release_free_memory
from service.runtime.sessions import SessionSettings, open_sessions
from service.telemetry import Metrics, StageClock
from service.vision.cascade import CascadeSettings
from service.vision.crop import crop_face
from service.vision.decode import DecodedPhoto, blank_png, decode
from service.vision.resample import summed_area_table

_QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """How photos are analysed.

    min_confidence: smallest probability of what counts as a face.
    max_detections: at most so many faces a photo, the most probable ones.
    max_pixels: largest width x height that is decoded.
    max_photos: photos in work at once; the bytes of others are not even read, so that memory is
        bounded by this number of decoded photos.
    screen: whether cells for P-Net are chosen by its eight-bit screen where that runs.
    workers: threads that run the stages. The other numbers bound one batch (0: as many as suit
        the provider), and how long crops may wait for one to fill.
    """

    cascade: CascadeSettings
    sessions: SessionSettings
    min_confidence: float
    max_detections: int
    max_pixels: int
    max_photos: int
    screen: bool
    workers: int
    max_batch_faces: int
    max_batch_crops: int
    max_queue_delay_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _OpenedPhoto:
    decoded: DecodedPhoto
    prepared: PreparedPhoto


@dataclass(frozen=True, slots=True, eq=False)
class _CropRequest:
    pixels: NDArray[np.uint8]
    detections: Sequence[Detection]


class Analyzer:
    """Finds and embeds the faces of photos; every stage runs in the shared worker pool."""

    def __init__(self, models: Path, settings: AnalysisSettings, metrics: Metrics) -> None:
        manifest = load_manifest(models)
        sessions = open_sessions(models, manifest, settings.sessions)
        for name, session in sessions.items():
            place = session.placement
            metrics.model.labels(name, place.provider, place.precision).set(1)
        self._settings = settings
        self._closing = False
        self._in_work = 0
        self._tidying: asyncio.TimerHandle | None = None
        self._photos = asyncio.Semaphore(settings.max_photos)
        self._pool = WorkerPool(settings.workers)
        report = _reporter(metrics)
        # Registration order is priority order: what is nearest to its end goes first.
        self._decoder = MicroBatcher(
            self._open_photos, pool=self._pool, name="decode", report=report
        )
        self._detector = CascadeDetector(
            sessions["pnet"],
            sessions["rnet"],
            sessions["onet"],
            settings.cascade,
            pool=self._pool,
            screen=open_screen(models, manifest, sessions["pnet"]) if settings.screen else None,
            max_batch_crops=settings.max_batch_crops,
            max_queue_delay_s=settings.max_queue_delay_s,
            report=report,
        )
        self._cropper = MicroBatcher(self._crop, pool=self._pool, name="crop", report=report)
        self._embedder = FaceEmbedder(
            sessions["facenet"],
            pool=self._pool,
            max_batch_size=settings.max_batch_faces,
            max_queue_delay_s=settings.max_queue_delay_s,
            report=report,
        )

    @property
    def embedding(self) -> EmbeddingFacts:
        """What this analyzer's vectors mean."""
        return self._embedder.facts

    async def warm_up(self) -> None:
        """Run every stage once, so that the first photo is not the slow one."""
        await asyncio.to_thread(self._warm_up)

    async def analyze(self, read: PhotoSource, clock: StageClock) -> AnalyzedPhoto:
        """Find and embed the faces of a photo, largest first.

        Times the stages queue (until a place is free), decode, detect and embed.

        Raises:
            InputError: the bytes are no usable photo.
            StoppingError: the service is shutting down.
        """
        async with self._place(clock):
            with clock.stage("decode"):
                photo = await self._decoder.submit(await read())
            with clock.stage("detect"):
                found = await self._detector.detect(photo.prepared)
                kept = self._select(found)
            with clock.stage("embed"):
                faces = await self._embed(photo.decoded.pixels, kept)
            decoded = photo.decoded
            height, width = decoded.pixels.shape[:2]
            return AnalyzedPhoto(decoded.format, width, height, decoded.phash, faces)

    async def aclose(self) -> None:
        """Finish every photo in work, refuse the rest, then end the workers."""
        self._closing = True
        if self._tidying is not None:
            self._tidying.cancel()
        for _ in range(self._settings.max_photos):
            await self._photos.acquire()
        await self._decoder.drain()
        await self._detector.drain()
        await self._cropper.drain()
        await self._embedder.drain()
        await self._pool.aclose()

    @asynccontextmanager
    async def _place(self, clock: StageClock) -> AsyncIterator[None]:
        with clock.stage("queue"):
            await self._photos.acquire()
        self._in_work += 1
        try:
            if self._closing:
                raise StoppingError("The service is shutting down.")
            yield
        finally:
            self._photos.release()
            self._in_work -= 1
            if not self._in_work:
                self._tidy_up_later()

    def _warm_up(self) -> None:
        # A file, not an array: kernels are compiled for the kind of array that decoding makes.
        (opened,) = self._open_photos([blank_png(64)])
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
        self, pixels: NDArray[np.uint8], detections: Sequence[Detection]
    ) -> tuple[EmbeddedFace, ...]:
        if not detections:
            return ()
        cut = await self._cropper.submit(_CropRequest(pixels, detections))
        embeddings = await self._embedder.embed([crop for _, crop in cut])
        return tuple(
            EmbeddedFace(detection, embedding)
            for (detection, _), embedding in zip(cut, embeddings, strict=True)
        )

    def _open_photos(self, batch: Sequence[bytes]) -> list[_OpenedPhoto]:
        opened = []
        for data in batch:
            decoded = decode(data, self._settings.max_pixels)
            height, width = decoded.pixels.shape[:2]
            prepared = PreparedPhoto(summed_area_table(decoded.pixels), width, height)
            opened.append(_OpenedPhoto(decoded, prepared))
        return opened

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


def _reporter(metrics: Metrics) -> Callable[[BatchReport], None]:
    def report(batch: BatchReport) -> None:
        metrics.batch_size.labels(batch.stage).observe(batch.cost)
        metrics.batch_waiting.labels(batch.stage).set(batch.waiting)
        metrics.batch_queue_seconds.labels(batch.stage).observe(batch.queued_s)
        metrics.batch_run_seconds.labels(batch.stage).observe(batch.run_s)

    return report
