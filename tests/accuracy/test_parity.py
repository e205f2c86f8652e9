"""In compatible mode faces and vectors are facenet-pytorch's, and distances tell people apart."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.accuracy.parity import analyze_folder, compare, load_reference, pair_distances, summarize
from service.domain.types import AnalyzedPhoto
from service.runtime.manifest import load_manifest

# Of one person and of strangers, by the number of photos: some of them, and all.
PAIRS = {18: (33, 120), 69: (38, 262)}


def names_of_some(folder: Path) -> list[str]:
    """The photos of the first pairs of one person, which have most of these pairs."""
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as stream:
        same = [row for row in csv.DictReader(stream) if row["Decision"] == "Yes"][:12]
    return list(dict.fromkeys(row[key] for row in same for key in ("file_x", "file_y")))


@pytest.fixture(scope="module", params=["some", pytest.param("all", marks=pytest.mark.slow)])
def photos(faces_dir: Path, request: pytest.FixtureRequest) -> Mapping[str, AnalyzedPhoto]:
    some = request.param == "some"
    names = names_of_some(faces_dir) if some else list(load_reference(faces_dir))
    return asyncio.run(analyze_folder(faces_dir, names))


def test_faces_are_those_of_facenet_pytorch(
    photos: Mapping[str, AnalyzedPhoto], faces_dir: Path
) -> None:
    reference = load_reference(faces_dir)
    found = summarize([compare(name, reference[name], photo) for name, photo in photos.items()])
    assert found["photos_with_the_same_faces"] >= len(photos) - 1
    assert found["mean_iou"] >= 0.98
    assert found["share_with_cosine_0.99"] >= 0.98


def test_no_photo_is_turned(photos: Mapping[str, AnalyzedPhoto]) -> None:
    assert {photo.turned for photo in photos.values()} == {0}


def test_recommended_distance_joins_people_and_keeps_strangers_apart(
    photos: Mapping[str, AnalyzedPhoto], faces_dir: Path, models_dir: Path
) -> None:
    facts = load_manifest(models_dir).models["embedder"].embeddings[1]
    pairs = pair_distances(faces_dir, photos)
    assert (len(pairs.same_person), len(pairs.strangers)) == PAIRS[len(photos)]
    joined = sum(d <= facts.recommended_max_distance for d in pairs.same_person)
    assert joined >= len(pairs.same_person) - 2
    # A margin, not merely a separation: clusters grow face by face.
    assert min(pairs.strangers) >= facts.recommended_max_distance + 0.1
