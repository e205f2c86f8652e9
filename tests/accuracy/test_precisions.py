"""Vectors written under one precision stay comparable with those written under another."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.accuracy.parity import ReferenceFace, load_reference
from service.domain.types import FacePlace
from service.runtime.manifest import EmbeddingFacts, Precision, load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.vision.crop import cut_face
from service.vision.decode import decode
from service.vision.formats.base import DecodeLimits
from tests.support.processor import EXACT_INT8, OFFERED, needs_exact_int8

# On CPUs fp16 takes several times as long.
_FP16_FACES = 12

Crops = list[tuple[str, NDArray[np.uint8]]]
Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def embedders(models_dir: Path) -> Mapping[str, ModelSession]:
    """The embedder in fp32 and every precision that is offered."""
    manifest = load_manifest(models_dir)
    alone = manifest.model_copy(update={"models": {"embedder": manifest.models["embedder"]}})

    def opened(precision: Precision) -> ModelSession:
        settings = SessionSettings(provider="cpu", precision=precision)
        return open_sessions(models_dir, alone, settings)["embedder"]

    return {precision: opened(precision) for precision in ("fp32", *OFFERED)}


def embed(session: ModelSession, output: str, crops: list[NDArray[np.uint8]]) -> Vectors:
    starts = range(0, len(crops), 8)
    return np.concatenate([session.run(np.stack(crops[i : i + 8]), [output])[0] for i in starts])


@pytest.fixture(scope="module", params=[0, 1], ids=["default", "compatible"])
def facts(models_dir: Path, request: pytest.FixtureRequest) -> EmbeddingFacts:
    return load_manifest(models_dir).models["embedder"].embeddings[request.param]


@pytest.fixture(scope="module")
def pictures(faces_dir: Path) -> Mapping[str, NDArray[np.uint8]]:
    """The pixels of every reference photo."""
    return {
        name: decode((faces_dir / name).read_bytes(), DecodeLimits()).pixels
        for name in load_reference(faces_dir)
    }


@pytest.fixture(scope="module")
def crops(
    faces_dir: Path, pictures: Mapping[str, NDArray[np.uint8]], facts: EmbeddingFacts
) -> Crops:
    """Every reference face with its photo's name, the largest of a photo first."""

    def area(face: ReferenceFace) -> float:
        return (face.box.x2 - face.box.x1) * (face.box.y2 - face.box.y1)

    found = []
    for name, faces in load_reference(faces_dir).items():
        for face in sorted(faces, key=area, reverse=True):
            crop = cut_face(pictures[name], FacePlace(face.box, ()), facts.crop)
            assert crop is not None
            found.append((name, crop))
    return found


@pytest.fixture(scope="module")
def vectors(
    embedders: Mapping[str, ModelSession], crops: Crops, facts: EmbeddingFacts
) -> Mapping[str, Vectors]:
    faces, output = [crop for _, crop in crops], facts.output
    return {
        "fp32": embed(embedders["fp32"], output, faces),
        **({"int8": embed(embedders["int8"], output, faces)} if EXACT_INT8 else {}),
        "fp16": embed(embedders["fp16"], output, faces[:_FP16_FACES]),
    }


@needs_exact_int8
def test_8_bits_move_no_face_far(vectors: Mapping[str, Vectors]) -> None:
    cosines = (vectors["fp32"] * vectors["int8"]).sum(axis=1)
    assert len(cosines) == 82
    assert cosines.min() >= 0.995


def test_half_precision_moves_no_face_at_all(vectors: Mapping[str, Vectors]) -> None:
    cosines = (vectors["fp32"][:_FP16_FACES] * vectors["fp16"]).sum(axis=1)
    assert len(cosines) == _FP16_FACES
    assert cosines.min() >= 0.9999


@needs_exact_int8
@pytest.mark.parametrize(("known", "new"), [("fp32", "int8"), ("int8", "fp32")])
def test_people_are_told_apart_across_precisions(
    vectors: Mapping[str, Vectors],
    crops: Crops,
    faces_dir: Path,
    facts: EmbeddingFacts,
    known: str,
    new: str,
) -> None:
    largest: dict[str, int] = {}
    for row, (name, _) in enumerate(crops):
        largest.setdefault(name, row)
    distances: dict[str, list[float]] = {"Yes": [], "No": []}
    with (faces_dir / "pairs.csv").open(encoding="utf-8", newline="") as stream:
        for pair in csv.DictReader(stream):
            one = vectors[known][largest[pair["file_x"]]]
            other = vectors[new][largest[pair["file_y"]]]
            distances[pair["Decision"]].append(1 - float(one @ other))
    same, strangers = distances["Yes"], distances["No"]
    assert len(same) + len(strangers) == 300
    # A threshold between them exists: all 300 pairs are separated.
    assert max(same) < min(strangers)
    assert sum(distance <= facts.recommended_max_distance for distance in same) >= 36
    assert min(strangers) >= facts.recommended_max_distance + 0.1


def test_every_precision_has_the_spaces_of_its_weights(
    embedders: Mapping[str, ModelSession],
) -> None:
    spaces = {
        tuple(facts.space for facts in session.spec.embeddings) for session in embedders.values()
    }
    assert len(spaces) == 1
    assert len(spaces.pop()) == 2
