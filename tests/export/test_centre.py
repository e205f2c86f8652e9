"""The centre of a space: recorded, found again, part of the space's id, taken away exactly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from export.embedders import centre, curves
from export.embedders.centre import Centre
from export.embedders.facenet import FaceNet, default_crop
from export.errors import RecordError
from export.graphs import fold
from export.recipe import parse_weights

PACKAGED = parse_weights("casia-webface", download=False)
WEIGHTS = "inception-resnet-v1/casia-webface/2272f5b12c98"

# They share the network with those who export it.
pytestmark = pytest.mark.xdist_group("export to ONNX")


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the recorded centres."""
    folder = tmp_path / "centres"
    monkeypatch.setattr(centre, "FOLDER", folder)
    return folder


def unit_vectors(count: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(5).standard_normal((count, 512)) + 0.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def a_centre(weights_id: str = WEIGHTS) -> Centre:
    return centre.measure(unit_vectors(40), weights_id, 1.3, "made up", people=20)


def test_a_recorded_centre_is_found_again_to_the_last_bit(recording: Path) -> None:
    saved = a_centre()
    path = centre.save(saved)
    assert path == recording / "casia-webface.json"
    found = centre.tracked(WEIGHTS)
    assert found == saved
    assert found is not None
    np.testing.assert_array_equal(found.vector, saved.vector)
    assert (found.people, found.faces) == (20, 40)
    assert centre.tracked("inception-resnet-v1/casia-webface/000000000000") is None


def test_the_mean_is_that_of_the_vectors() -> None:
    wanted = unit_vectors(40).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(a_centre().vector, wanted, rtol=0, atol=1e-7)


def test_the_digest_is_of_the_numbers_and_of_nothing_else() -> None:
    one = a_centre()
    bytes_of_it = np.asarray(one.mean, "<f4").tobytes()
    assert one.digest == hashlib.sha256(bytes_of_it).hexdigest()[:8]
    assert one.model_copy(update={"population": "another"}).digest == one.digest
    moved = (one.mean[0] + 1e-4, *one.mean[1:])
    assert one.model_copy(update={"mean": moved}).digest != one.digest


@pytest.mark.parametrize("mean", [[0.01] * 511, [0.05] * 512, [float("nan")] * 512])
def test_what_is_no_mean_of_unit_vectors_is_refused(mean: list[float]) -> None:
    with pytest.raises(ValidationError, match="mean of unit vectors"):
        Centre(weights=WEIGHTS, margin=1.2, population="", people=1, faces=1, mean=tuple(mean))


def test_a_damaged_record_is_an_error_and_not_ignored(recording: Path) -> None:
    recording.mkdir()
    (recording / "mine.json").write_text(json.dumps({"weights": WEIGHTS}))
    with pytest.raises(RecordError, match=r"mine\.json' holds no centre"):
        centre.tracked(WEIGHTS)


def test_a_centre_and_its_margin_are_in_the_id_of_the_default_space(recording: Path) -> None:
    del recording
    saved = a_centre()
    centre.save(saved)
    default, compatible = FaceNet(PACKAGED).embeddings
    assert default.space == f"{WEIGHTS}/box1.3-centred-{saved.digest}"
    assert (default.output, default.crop.margin, default.crop.fill) == ("embedding", 1.3, "black")
    assert (compatible.space, compatible.output) == (WEIGHTS, "compatible")
    assert (compatible.crop.margin, compatible.crop.fill) == (1.0, "clip")


@pytest.mark.usefixtures("recording")
def test_weights_without_a_centre_have_two_spaces_of_one_output() -> None:
    embedder = FaceNet(PACKAGED)
    default, compatible = embedder.embeddings
    assert embedder.signature.output_names == ["embedding"]
    assert default.output == compatible.output == "embedding"
    assert (default.space, compatible.space) == (f"{WEIGHTS}/box1.2", WEIGHTS)
    assert default.crop == default_crop(1.2)


def test_the_graphs_two_vectors_are_facenets_and_that_less_the_centre(facenet: nn.Module) -> None:
    middle = a_centre()
    images = torch.randint(
        0, 256, (2, 3, 160, 160), generator=torch.Generator().manual_seed(2)
    ).float()
    with torch.inference_mode():
        wanted = facenet(fold.standardise(images)).double().numpy()
        centred, compatible = fold.fold_facenet(facenet, middle.vector)(images)
    np.testing.assert_allclose(compatible.numpy(), wanted, rtol=0, atol=1e-5)
    less = wanted - middle.vector
    less /= np.linalg.norm(less, axis=1, keepdims=True)
    np.testing.assert_allclose(centred.numpy(), less, rtol=0, atol=1e-5)


def test_a_space_without_a_curve_gets_the_default_distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "FOLDER", tmp_path)
    found = curves.facts("made-up/space", default_crop(1.2), "embedding", 512)
    assert found.curve is None
    assert found.recommended_max_distance == curves.DEFAULT_MAX_DISTANCE
