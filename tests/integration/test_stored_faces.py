"""Faces that are embedded again by their stored boxes get the vectors that inserting gave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.photos import source
from service.analysis.analyzer import Analyzer
from service.analysis.stored_faces import StoredFaceEmbedder
from service.batching import free_ticket
from service.config import AuthConfig, Config
from service.config.sections import InferenceConfig
from service.derived import analysis_settings
from service.domain.errors import InputError
from service.domain.types import Box
from service.runtime.sessions import SessionSettings
from service.telemetry import Metrics, StageClock


@pytest.fixture(scope="module")
def embedder(models_dir: Path) -> StoredFaceEmbedder:
    return StoredFaceEmbedder(models_dir, SessionSettings("cpu", "fp32"))


def _as_stored(box: Box) -> Box:
    """Through the column's real[]."""
    return Box(*(float(np.float32(side)) for side in (box.x1, box.y1, box.x2, box.y2)))


async def test_vectors_are_those_of_the_analyzer(
    embedder: StoredFaceEmbedder, models_dir: Path, portraits: list[Path]
) -> None:
    config = Config(
        auth=AuthConfig(token="a-token-for-tests"),
        inference=InferenceConfig(provider="cpu", precision="fp32", workers=1),
    )
    analyzer = Analyzer(models_dir, analysis_settings(config), Metrics())
    assert embedder.facts == analyzer.embedding
    for portrait in portraits:
        data = portrait.read_bytes()
        photo = await analyzer.analyze(source(data), StageClock(), free_ticket())
        crops = embedder.cut(data, [_as_stored(face.detection.box) for face in photo.faces])
        found = embedder.embed([crop for crop in crops if crop is not None])
        assert len(found) == len(photo.faces) > 0
        for face, embedding in zip(photo.faces, found, strict=True):
            assert float(face.embedding @ embedding) > 0.999999
    await analyzer.aclose()


def test_box_outside_the_photo_has_no_crop(
    embedder: StoredFaceEmbedder, portraits: list[Path]
) -> None:
    data = portraits[0].read_bytes()
    outside, inside = embedder.cut(data, [Box(-50.0, -50.0, -1.0, -1.0), Box(9.0, 9.0, 99.0, 99.0)])
    assert outside is None
    assert inside is not None


def test_file_that_is_no_photo_is_an_input_error(embedder: StoredFaceEmbedder) -> None:
    with pytest.raises(InputError):
        embedder.cut(b"half a photo", [])
