"""A photo too large to be decoded whole gives the faces of the same photo at a usual size."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.common.photos import source
from service.analysis.analyzer import Analyzer
from service.analysis.stored_faces import StoredFaceEmbedder
from service.app.settings import analysis_settings
from service.batching import free_ticket
from service.config import AuthConfig, Config
from service.config.sections import ImagesConfig, InferenceConfig
from service.domain.types import AnalyzedPhoto, Box, FacePlace
from service.runtime.sessions import SessionSettings
from service.telemetry import Metrics, StageClock
from service.vision.formats.base import DecodeLimits

# MTCNN places a face a little differently at each scale. Measured at worst against the plain photo:
# 0.856 and 0.035; against the photo at the scale at which it is decoded: 0.991 and 0.003.
LEAST_IOU, MOST_DISTANCE = 0.8, 0.05
LEAST_IOU_AT_SCALE, MOST_DISTANCE_AT_SCALE = 0.97, 0.005


@asynccontextmanager
async def running_analyzer(models_dir: Path, images: ImagesConfig) -> AsyncIterator[Analyzer]:
    inference = InferenceConfig(provider="cpu", precision="fp32", workers=1)
    config = Config(auth=AuthConfig(token="a-token-for-tests"), inference=inference, images=images)
    analyzer = Analyzer(models_dir, analysis_settings(config), Metrics())
    yield analyzer
    await analyzer.aclose()


def jpeg(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


async def analyze(analyzer: Analyzer, data: bytes) -> AnalyzedPhoto:
    return await analyzer.analyze(source(data), StageClock(), free_ticket())


def iou(one: Box, other: Box) -> float:
    wide = min(one.x2, other.x2) - max(one.x1, other.x1)
    high = min(one.y2, other.y2) - max(one.y1, other.y1)
    shared = max(0.0, wide) * max(0.0, high)
    areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other)]
    return shared / (sum(areas) - shared)


def assert_same_faces(
    found: AnalyzedPhoto, wanted: AnalyzedPhoto, factor: float, least_iou: float, most: float
) -> None:
    assert len(found.faces) == len(wanted.faces) > 0
    for face, other in zip(found.faces, wanted.faces, strict=True):
        assert iou(face.detection.box, other.detection.box.scaled(factor)) > least_iou
        assert 1 - float(face.embedding @ other.embedding) < most


@pytest.mark.parametrize(
    ("megapixels", "max_decoded_pixels", "shrink"),
    [
        (4, 1_200_000, 2),
        (12, 1_000_000, 4),
        *(pytest.param(size, 32_000_000, 2, marks=pytest.mark.slow) for size in (36, 48, 100)),
        pytest.param(200, 32_000_000, 4, marks=pytest.mark.slow),
    ],
)
async def test_an_enlarged_photo_has_the_faces_of_the_plain_one(
    models_dir: Path,
    portraits: list[Path],
    megapixels: int,
    max_decoded_pixels: int,
    shrink: int,
) -> None:
    images = ImagesConfig(max_decoded_pixels=max_decoded_pixels)
    plain = Image.open(portraits[1]).convert("RGB")
    factor = (megapixels * 1e6 / (plain.width * plain.height)) ** 0.5
    size = (round(plain.width * factor), round(plain.height * factor))
    large = plain.resize(size, Image.Resampling.BILINEAR)
    # Stored on its side, so that scale and orientation come together.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(large.transpose(Image.Transpose.ROTATE_90), exif=exif)
    async with running_analyzer(models_dir, images) as analyzer:
        found = await analyze(analyzer, data)
        reduced = await analyze(analyzer, jpeg(large.reduce(shrink)))
        original = await analyze(analyzer, jpeg(plain))
    assert (found.width, found.height) == size
    assert_same_faces(found, reduced, shrink, LEAST_IOU_AT_SCALE, MOST_DISTANCE_AT_SCALE)
    assert_same_faces(found, original, factor, LEAST_IOU, MOST_DISTANCE)
    limits = DecodeLimits(max_decoded_pixels=max_decoded_pixels)
    embedder = StoredFaceEmbedder(models_dir, SessionSettings("cpu", "fp32"), limits=limits)
    places = [FacePlace(each.detection.box, each.detection.landmarks) for each in found.faces]
    crops = [crop for crop in embedder.cut(data, places, found.turned) if crop is not None]
    for face, embedding in zip(found.faces, embedder.embed(crops), strict=True):
        np.testing.assert_allclose(embedding, face.embedding, atol=1e-6)
