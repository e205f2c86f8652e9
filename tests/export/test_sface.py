"""SFace as one plain graph: the function of its packaged file, of pixels as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from export import recipe
from export.embedders import sface
from export.embedders.sface import SFace
from export.errors import MissingExtraError, WeightsMismatchError
from export.graphs import networks, sface_file
from export.graphs.sface_file import Layer, Layers
from export.graphs.signature import SFACE
from export.verification import faces, photos, verify

# PyTorch prepares its exporter once in a process, which takes longer than a test.
pytestmark = pytest.mark.xdist_group("export to ONNX")


@pytest.fixture(scope="module")
def embedder() -> SFace:
    return SFace()


@pytest.fixture(scope="module")
def model(embedder: SFace) -> bytes:
    return embedder.to_onnx()


@pytest.fixture(scope="module")
def portraits_cut() -> NDArray[np.uint8]:
    """uint8 [2, 112, 112, 3]: two public-domain portraits, aligned."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FACES_DIR", "/nowhere")
        return faces.gather(photos.find(), sface.CROP).crops


def test_the_graph_gives_the_unit_vectors_of_the_packaged_file(
    embedder: SFace, model: bytes, portraits_cut: NDArray[np.uint8]
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (3, 112, 112, 3), np.uint8)
    batches = [portraits_cut, noise]
    assert portraits_cut.shape == (2, 112, 112, 3)
    worst = verify.verify(SFACE, model, embedder.reference(), batches)
    assert worst["embedding"] <= 1e-5
    (vectors,) = verify.open_checked(SFACE, model).run(None, {"image": noise})
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_packaged_file_sees_red_first_as_opencv_gives_it(
    embedder: SFace, portraits_cut: NDArray[np.uint8]
) -> None:
    """Blue first is another vector: whatever tells people apart, it is not this space."""
    expected = embedder.reference()
    right, swapped = (
        expected(np.ascontiguousarray(crops))["embedding"]
        for crops in (portraits_cut, portraits_cut[..., ::-1])
    )
    assert (right * swapped).sum(axis=1).max() < 0.99


@pytest.mark.slow
def test_two_exports_give_the_same_bytes(embedder: SFace, model: bytes) -> None:
    assert SFace().to_onnx() == model


def test_the_graph_has_plain_weights_and_nothing_left_to_undo_in_a_run(model: bytes) -> None:
    graph = onnx.load_from_string(model).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Conv") == 27
    assert kinds.count("Gemm") == 1
    assert {"DequantizeLinear", "BatchNormalization", "PRelu", "Dropout"}.isdisjoint(kinds)
    # The maps are laid out for the linear layer; no weights are.
    assert kinds.count("Reshape") == 1


def test_the_space_names_the_file_and_the_alignment(embedder: SFace) -> None:
    (facts,) = embedder.embeddings
    assert facts.space == f"mobilenet-v1/sface-2021dec/{sface_file.SHA256[:12]}/landmarks"
    assert (facts.dimension, facts.crop.kind, facts.crop.size) == (128, "landmarks", 112)
    assert len(facts.crop.template) == 5


def test_sface_comes_from_its_package_whatever_is_asked_of_downloads() -> None:
    for download in (False, True):
        choice = recipe.parse_weights("sface", download=download)
        assert (choice.kind, choice.identity) == ("sface", "sface package")


@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_chain_that_lacks_a_node_is_refused(tmp_path: Path, place: int) -> None:
    original = onnx.load(sface_file.weights_path())
    computing = [node for node in original.graph.node if node.op_type not in _CONSTANT]
    original.graph.node.remove(computing[place])
    onnx.save(original, str(tmp_path / "spoiled.onnx"))
    with pytest.raises(WeightsMismatchError, match="SFace's file"):
        sface_file.read(tmp_path / "spoiled.onnx")


_CONSTANT = ("DequantizeLinear", "Reshape", "Constant")


def layer(name: str, channels: int, groups: int, slopes: list[float], seed: int) -> Layer:
    random = np.random.default_rng(seed)
    shape = (channels, 1 if groups > 1 else channels, 3, 3)
    return Layer(
        name,
        random.standard_normal(shape),
        random.standard_normal(channels),
        np.asarray(slopes),
        stride=1,
        padding=1,
        groups=groups,
    )


def plain(layers: list[Layer], images: torch.Tensor) -> torch.Tensor:
    for each in layers:
        images = torch.nn.functional.conv2d(
            images,
            torch.from_numpy(each.weight),
            torch.from_numpy(each.bias),
            padding=each.padding,
            groups=each.groups,
        )
        images = torch.nn.functional.prelu(images, torch.from_numpy(each.slope))
    return images


@pytest.mark.parametrize("groups", [(1, 4, 1), (4, 4, 1), (1, 1, 4)])
def test_slopes_above_one_are_turned_round_without_a_trace(groups: tuple[int, ...]) -> None:
    """Also where layers that follow each other both have them."""
    slopes = [[1.4, 0.5, -0.3, 2.0], [0.2, 1.1, 3.0, 1.0], [0.1, 0.2, -0.4, 0.9]]
    layers = [
        layer(f"layer_{place}", 4, count, slope, seed=place)
        for place, (count, slope) in enumerate(zip(groups, slopes, strict=True))
    ]
    turned: Layers = sface_file.with_slopes_below_one(layers, np.zeros((1, 1)), np.zeros(1))
    assert max(float(each.slope.max()) for each in turned.convolutions) <= 1
    images = torch.randn(
        2, 4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    found, wanted = plain(list(turned.convolutions), images), plain(layers, images)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_a_last_slope_above_one_is_refused() -> None:
    last = layer("last", 2, 1, [0.5, 1.5], seed=0)
    with pytest.raises(WeightsMismatchError, match="slope above one"):
        sface_file.with_slopes_below_one([last], np.zeros((1, 1)), np.zeros(1))
    within = replace(last, slope=np.asarray([0.5, 1.0]))
    assert sface_file.with_slopes_below_one([within], np.zeros((1, 1)), np.zeros(1))


def test_a_missing_package_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="'export' extra"):
        sface_file.weights_path()


def test_aligned_faces_of_a_labelled_folder_tell_all_pairs_apart(
    faces_dir: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACES_DIR", str(faces_dir))
    found = faces.gather(photos.find(), sface.CROP)
    session = verify.open_checked(SFACE, model)
    vectors = np.concatenate(
        [session.run(None, {"image": found.crops[i : i + 8]})[0] for i in range(0, 82, 8)]
    )
    distances: dict[bool, list[float]] = {True: [], False: []}
    for one, other, same in found.pairs:
        distances[same].append(1 - float(vectors[one] @ vectors[other]))
    assert (len(distances[True]), len(distances[False])) == (38, 262)
    assert max(distances[True]) + 0.15 < min(distances[False])
