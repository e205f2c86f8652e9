"""An image of one face: resized for a network that sees boxes, aligned for one that wants that."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from bench.common.harness import default_settings, running_analyzer
from bench.common.photos import source
from service.analysis.analyzer import Analyzer
from service.batching import free_ticket
from service.domain.types import Embedding
from service.telemetry import StageClock
from service.vision.crop import resize_face

# They share two analyzers, and the event loop of these.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 160
TEMPLATE = [(55.0, 74.0), (105.0, 74.0), (80.0, 102.0), (59.0, 132.0), (101.0, 132.0)]


@pytest.fixture(scope="module")
def aligning_models(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, as if FaceNet had been trained on aligned faces."""
    folder = tmp_path_factory.mktemp("models")
    for file in models_dir.iterdir():
        if file.is_file() and file.name != "manifest.json":
            (folder / file.name).symlink_to(file)
    manifest = json.loads((models_dir / "manifest.json").read_text())
    crop = {"kind": "landmarks", "size": SIZE, "template": TEMPLATE}
    first = manifest["models"]["embedder"]["embeddings"][0]
    manifest["models"]["embedder"]["embeddings"] = [{**first, "crop": crop}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def portrait(portraits: list[Path]) -> Image.Image:
    with Image.open(portraits[1]) as file:
        return file.convert("RGB").resize((213, 250))


def embedding(models: Path) -> AbstractAsyncContextManager[Analyzer]:
    settings = default_settings()
    sessions = replace(settings.sessions, precision="fp32")  # else two of them are measured
    return running_analyzer(replace(settings, sessions=sessions), models)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain(models_dir: Path) -> AsyncIterator[Analyzer]:
    async with embedding(models_dir) as analyzer:
        yield analyzer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aligning(aligning_models: Path) -> AsyncIterator[Analyzer]:
    async with embedding(aligning_models) as analyzer:
        yield analyzer


def coded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


async def crop_vector(analyzer: Analyzer, image: Image.Image) -> Embedding:
    return await analyzer.embed_crop(source(coded(image)), StageClock(), free_ticket())


async def photo_vector(analyzer: Analyzer, image: Image.Image) -> Embedding:
    photo = await analyzer.analyze(source(coded(image)), StageClock(), free_ticket())
    return photo.faces[0].embedding


async def test_a_network_of_boxes_sees_the_image_as_it_is(
    plain: Analyzer, portrait: Image.Image
) -> None:
    whole = await crop_vector(plain, portrait)
    resized = await crop_vector(plain, Image.fromarray(resize_face(np.array(portrait), SIZE)))
    found = await photo_vector(plain, portrait)
    assert whole @ resized > 0.9999
    assert whole @ found < 0.9


async def test_a_network_of_aligned_faces_gets_the_face_in_the_image_aligned(
    aligning: Analyzer, portrait: Image.Image
) -> None:
    assert aligning.embedding.crop.kind == "landmarks"
    expected = await photo_vector(aligning, portrait)
    assert await crop_vector(aligning, portrait) @ expected > 0.9999
    turned = portrait.transpose(Image.Transpose.ROTATE_180)
    assert await crop_vector(aligning, turned) @ expected > 0.999


async def test_an_image_of_the_network_s_own_size_is_taken_as_aligned(
    aligning: Analyzer, plain: Analyzer, portrait: Image.Image
) -> None:
    own = portrait.resize((SIZE, SIZE))
    aligned = await crop_vector(aligning, own)
    assert aligned @ await crop_vector(plain, own) > 0.9999
    assert aligned @ await photo_vector(aligning, portrait) < 0.9


async def test_an_image_without_a_face_is_resized(aligning: Analyzer, plain: Analyzer) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)
    nobody = Image.fromarray(pixels)
    assert await crop_vector(aligning, nobody) @ await crop_vector(plain, nobody) > 0.9999
