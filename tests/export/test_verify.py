"""Each verification stage refuses its own kind of wrong graph, and says so."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.errors import DtypesError, NamesError, NumbersError, ShapesError
from export.graphs import convert, fold_mtcnn, networks
from export.graphs.signature import FACENET, FACENET_CENTRED, SFACE, STAGES
from export.verification import photos, samples, verify
from export.verification.samples import Samples

RNET = STAGES["rnet"]
INPUTS = Samples((), (), "random pixels only")

# PyTorch prepares its exporter once in a process, which takes longer than a test.
pytestmark = pytest.mark.xdist_group("export to ONNX")


@pytest.fixture(scope="module")
def rnet() -> tuple[bytes, verify.Reference]:
    network = networks.mtcnn_stage("rnet")
    model = convert.to_onnx(RNET, fold_mtcnn.fold_mtcnn_stage(network))
    return model, verify.reference(RNET, network)


def check(model: ModelProto, rnet: tuple[bytes, verify.Reference]) -> dict[str, float]:
    return verify.verify(RNET, model.SerializeToString(), rnet[1], INPUTS.batches(RNET))


def loaded(rnet: tuple[bytes, verify.Reference]) -> ModelProto:
    return onnx.load_from_string(rnet[0])


def rename_output(model: ModelProto, old: str, new: str) -> None:
    next(output for output in model.graph.output if output.name == old).name = new
    for node in model.graph.node:
        node.output[:] = [new if name == old else name for name in node.output]


def shift_regression(model: ModelProto, by: float) -> None:
    """Shift the first output of the heads' common layer."""
    name = "network.head.bias"
    tensor = next(t for t in model.graph.initializer if t.name == name)
    shifted = numpy_helper.to_array(tensor) + np.array([by, 0, 0, 0, 0], np.float32)
    tensor.CopyFrom(numpy_helper.from_array(shifted.astype(np.float32), name))


def test_the_exported_graph_passes_with_one_difference_per_output(
    rnet: tuple[bytes, verify.Reference],
) -> None:
    differences = check(loaded(rnet), rnet)
    assert list(differences) == ["regression", "probability"]
    assert max(differences.values()) <= verify.TOLERANCE


def test_two_exports_give_the_same_bytes(rnet: tuple[bytes, verify.Reference]) -> None:
    network = networks.mtcnn_stage("rnet")
    assert convert.to_onnx(RNET, fold_mtcnn.fold_mtcnn_stage(network)) == rnet[0]


def test_another_output_name_is_a_names_error(rnet: tuple[bytes, verify.Reference]) -> None:
    model = loaded(rnet)
    rename_output(model, "probability", "score")
    with pytest.raises(NamesError, match="score"):
        check(model, rnet)


def test_a_fixed_batch_is_a_shapes_error(rnet: tuple[bytes, verify.Reference]) -> None:
    model = loaded(rnet)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ShapesError, match="'image' is declared"):
        check(model, rnet)


def test_a_byte_input_is_a_dtypes_error(rnet: tuple[bytes, verify.Reference]) -> None:
    model = loaded(rnet)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    first = model.graph.node[0]
    assert first.input[0] == "image"
    first.input[0] = "image_as_floats"
    cast = helper.make_node("Cast", ["image"], ["image_as_floats"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    with pytest.raises(DtypesError, match="'image' is declared"):
        check(model, rnet)


def test_a_shifted_weight_is_a_numbers_error(rnet: tuple[bytes, verify.Reference]) -> None:
    model = loaded(rnet)
    shift_regression(model, 2e-4)
    with pytest.raises(NumbersError) as caught:
        check(model, rnet)
    assert caught.value.output == "regression"
    assert caught.value.difference == pytest.approx(2e-4, rel=0.05)


def test_a_nan_is_a_numbers_error(rnet: tuple[bytes, verify.Reference]) -> None:
    model = loaded(rnet)
    shift_regression(model, float("nan"))
    with pytest.raises(NumbersError):
        check(model, rnet)


def test_the_graph_carries_no_trace_of_the_machine_that_made_it(
    rnet: tuple[bytes, verify.Reference],
) -> None:
    model = loaded(rnet)
    assert b"site-packages" not in rnet[0]
    assert b"/export/" not in rnet[0]
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_samples_hold_every_listed_kind_for_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACES_DIR", "/nowhere")
    found = samples.gather(photos.find())
    assert found.description.startswith("random pixels and 2 public-domain portraits")
    assert len(found.faces) == len(found.photos) == 2
    assert {batch.shape[2] % 2 for batch in found.batches(STAGES["pnet"])} == {0, 1}
    assert all(batch.shape[1] == 3 for batch in found.batches(STAGES["pnet"]))
    for signature, side in ((FACENET, 160), (FACENET_CENTRED, 160), (SFACE, 112)):
        batches = list(found.batches(signature))
        assert {len(batch) for batch in batches} == {1, 2, 3, 8}
        assert {batch.shape[1:] for batch in batches} == {(side, side, 3)}


def test_without_any_photograph_the_description_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACES_DIR", "/nowhere")
    monkeypatch.setattr(photos, "_PORTRAITS", ())
    assert samples.gather(photos.find()).description.startswith("random pixels only")
