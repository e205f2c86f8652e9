"""In compatible mode faces and vectors are facenet-pytorch's, and distances tell people apart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.accuracy.parity import analyze_folder, compare, load_reference, pair_distances, summarize
from service.domain.types import AnalyzedPhoto
from service.runtime.manifest import load_manifest


@pytest.fixture(scope="module")
def photos(faces_dir: Path) -> Mapping[str, AnalyzedPhoto]:
    return asyncio.run(analyze_folder(faces_dir, list(load_reference(faces_dir))))


def test_faces_are_those_of_facenet_pytorch(
    photos: Mapping[str, AnalyzedPhoto], faces_dir: Path
) -> None:
    reference = load_reference(faces_dir)
    found = summarize([compare(name, faces, photos[name]) for name, faces in reference.items()])
    assert found["photos"] == 69
    assert found["photos_with_the_same_faces"] >= 68
    assert found["mean_iou"] >= 0.98
    assert found["share_with_cosine_0.99"] >= 0.98


def test_no_photo_is_turned(photos: Mapping[str, AnalyzedPhoto]) -> None:
    assert {photo.turned for photo in photos.values()} == {0}


def test_recommended_distance_joins_people_and_keeps_strangers_apart(
    photos: Mapping[str, AnalyzedPhoto], faces_dir: Path, models_dir: Path
) -> None:
    facts = load_manifest(models_dir).models["embedder"].embeddings[1]
    pairs = pair_distances(faces_dir, photos)
    assert len(pairs.same_person) + len(pairs.strangers) == 300
    assert sum(d <= facts.recommended_max_distance for d in pairs.same_person) >= 36
    # A margin, not merely a separation: clusters grow face by face.
    assert min(pairs.strangers) >= facts.recommended_max_distance + 0.1
