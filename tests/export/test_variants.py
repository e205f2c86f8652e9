"""FaceNet's other precisions: same interface, faithful vectors, and nothing offered that is not."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from export.embedders.embedder import Embedder
from export.embedders.facenet import FaceNet
from export.errors import ConversionError
from export.graphs.signature import FACENET_CENTRED
from export.precisions import calibration, variants
from export.precisions.activations import activations
from export.precisions.quantize import quantize
from export.recipe import parse_weights
from export.verification import faces, photos
from export.verification.faces import FaceSet
from export.verification.fidelity import MIN_COSINE, Baseline
from service.domain.types import Box, FacePlace
from service.runtime.manifest import (
    EmbeddingFacts,
    Fidelity,
    ModelSpec,
    PairAccuracy,
    Variant,
    load_manifest,
)
from service.vision.crop import cut_face
from tests.support.processor import INT8, needs_exact_int8

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def spec(models_dir: Path) -> ModelSpec:
    return load_manifest(models_dir).models["embedder"]


@pytest.fixture(scope="module", params=[0, 1], ids=["default", "compatible"])
def facts(spec: ModelSpec, request: pytest.FixtureRequest) -> EmbeddingFacts:
    found: EmbeddingFacts = spec.embeddings[request.param]
    return found


@pytest.fixture(scope="module")
def fp32(models_dir: Path, spec: ModelSpec) -> bytes:
    return (models_dir / spec.file).read_bytes()


@pytest.fixture(scope="module")
def facenet() -> FaceNet:
    return FaceNet(parse_weights("casia-webface", download=False))


@pytest.fixture(scope="module")
def recorded(facenet: FaceNet) -> calibration.Calibration:
    found = calibration.tracked(facenet.weights)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def stand_ins(spec: ModelSpec) -> list[FaceSet]:
    """For each of the two spaces, one of every kind."""
    gathered = [faces.gather(photos.Album(), facts.crop) for facts in spec.embeddings]
    return [replace(cut, crops=cut.crops[: len(faces._PATCHES)]) for cut in gathered]


def variant(spec: ModelSpec, precision: str) -> Variant:
    return next(found for found in spec.variants if found.precision == precision)


def written_fidelity(spec: ModelSpec, precision: str, facts: EmbeddingFacts) -> Fidelity:
    (found,) = (f for f in variant(spec, precision).fidelity if f.space == facts.space)
    return found


def interface(model: Path) -> list[list[tuple[str, str, list[object]]]]:
    """Name, type and shape of all inputs, and of all outputs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [
        [(value.name, value.type, value.shape) for value in values]
        for values in (opened.get_inputs(), opened.get_outputs())
    ]


def embedder(model: Path, output: str) -> Callable[[NDArray[np.uint8]], Floats]:
    opened = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def embed(crops: NDArray[np.uint8]) -> Floats:
        batches = np.array_split(crops, max(1, len(crops) // 8))
        return np.concatenate([opened.run([output], {"image": batch})[0] for batch in batches])

    return embed


def baselines(facenet: FaceNet, model: bytes, cuts: Sequence[FaceSet]) -> list[Baseline]:
    return [
        Baseline.of(facenet.signature, model, facts, cut)
        for facts, cut in zip(facenet.embeddings, cuts, strict=True)
    ]


@pytest.mark.parametrize("precision", [INT8, "fp16"])
def test_a_variant_has_the_signature_of_the_fp32_model(
    models_dir: Path, spec: ModelSpec, precision: str
) -> None:
    found = interface(models_dir / variant(spec, precision).file)
    assert found == interface(models_dir / spec.file)
    assert all(found)


@pytest.fixture(scope="module")
def pictures(
    models_dir: Path, spec: ModelSpec, facts: EmbeddingFacts
) -> tuple[NDArray[np.uint8], Floats]:
    """Crops without any photo, and what fp32 makes of them."""
    crops = faces.gather(photos.Album(), facts.crop).crops
    return crops, embedder(models_dir / spec.file, facts.output)(crops)


@pytest.mark.parametrize(
    ("precision", "smallest_cosine"),
    [pytest.param("int8", 0.995, marks=needs_exact_int8), ("fp16", 0.9999)],
)
def test_a_variant_gives_unit_vectors_close_to_fp32s_without_any_photo(
    models_dir: Path,
    spec: ModelSpec,
    facts: EmbeddingFacts,
    pictures: tuple[NDArray[np.uint8], Floats],
    precision: str,
    smallest_cosine: float,
) -> None:
    crops, wanted = pictures
    found = embedder(models_dir / variant(spec, precision).file, facts.output)(crops)
    assert found.dtype == np.float32
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    assert np.sum(found * wanted, axis=1).min() >= smallest_cosine


@pytest.fixture(scope="module")
def reference_crops(
    faces_dir: Path, facts: EmbeddingFacts
) -> dict[str, list[tuple[float, NDArray[np.uint8]]]]:
    """(area, crop) of every reference face, by photo; read without the export program."""
    images = json.loads((faces_dir / "reference.json").read_text(encoding="utf-8"))["images"]
    crops: dict[str, list[tuple[float, NDArray[np.uint8]]]] = {}
    for name, image in images.items():
        pixels = np.ascontiguousarray(cv2.imread(str(faces_dir / name))[:, :, ::-1])
        for face in image["faces"]:
            if face["probability"] >= 0.9:
                x1, y1, x2, y2 = face["box"]
                crop = cut_face(pixels, FacePlace(Box(x1, y1, x2, y2), ()), facts.crop)
                assert crop is not None
                crops.setdefault(name, []).append(((x2 - x1) * (y2 - y1), crop))
    return crops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "smallest_cosine"),
    [pytest.param("int8", 0.995, marks=needs_exact_int8), ("fp16", 0.9999)],
)
def test_a_variant_keeps_the_reference_faces_and_the_labelled_pairs(
    models_dir: Path,
    spec: ModelSpec,
    facts: EmbeddingFacts,
    faces_dir: Path,
    reference_crops: dict[str, list[tuple[float, NDArray[np.uint8]]]],
    precision: str,
    smallest_cosine: float,
) -> None:
    crops = np.stack([crop for found in reference_crops.values() for _, crop in found])
    assert len(crops) == 82
    embed = embedder(models_dir / variant(spec, precision).file, facts.output)
    original = embedder(models_dir / spec.file, facts.output)
    cosines = np.sum(embed(crops) * original(crops), axis=1)
    assert cosines.min() >= smallest_cosine
    largest = np.stack([max(f, key=lambda face: face[0])[1] for f in reference_crops.values()])
    vectors = dict(zip(reference_crops, embed(largest), strict=True))
    with (faces_dir / "pairs.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    distances: dict[str, list[float]] = {"Yes": [], "No": []}
    for row in rows:
        distance = 1 - float(vectors[row["file_x"]] @ vectors[row["file_y"]])
        distances[row["Decision"]].append(distance)
    assert (len(distances["Yes"]), len(distances["No"])) == (38, 262)
    assert max(distances["Yes"]) < min(distances["No"])
    pairs = written_fidelity(spec, precision, facts).pairs
    if pairs is not None:  # None when the models were exported without these photos
        assert pairs.max_same_person_distance == pytest.approx(max(distances["Yes"]), abs=1e-4)
        assert pairs.min_stranger_distance == pytest.approx(min(distances["No"]), abs=1e-4)
        assert (pairs.same_person_pairs, pairs.stranger_pairs) == (38, 262)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [INT8, "fp16"])
def test_the_manifest_says_what_a_fresh_measurement_says(
    models_dir: Path, spec: ModelSpec, facts: EmbeddingFacts, fp32: bytes, precision: str
) -> None:
    at_hand = faces.gather(photos.find(), facts.crop)
    assert [each.space for each in variant(spec, precision).fidelity] == [
        each.space for each in spec.embeddings
    ]
    written = written_fidelity(spec, precision, facts)
    if written.inputs != at_hand.description:
        pytest.skip(f"the models were measured on {written.inputs}: export them again")
    fresh = Baseline.of(FACENET_CENTRED, fp32, facts, at_hand).measure(
        (models_dir / variant(spec, precision).file).read_bytes()
    )
    assert (fresh.space, fresh.least_cosine) == (written.space, written.least_cosine)
    assert fresh.faces == written.faces
    assert fresh.min_cosine == pytest.approx(written.min_cosine, abs=1e-5)
    assert fresh.median_cosine == pytest.approx(written.median_cosine, abs=1e-5)
    assert (fresh.pairs is None) == (written.pairs is None)


@needs_exact_int8
def test_the_int8_file_follows_from_the_fp32_file_and_the_recorded_ranges(
    spec: ModelSpec, fp32: bytes, recorded: calibration.Calibration
) -> None:
    digest = hashlib.sha256(quantize(fp32, recorded.ranges)).hexdigest()
    assert digest == variant(spec, "int8").sha256


@needs_exact_int8
def test_onnx_runtime_fuses_every_convolution_of_the_int8_file_into_an_integer_kernel(
    models_dir: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that an optimised file is made for this machine
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(
        models_dir / variant(spec, "int8").file, options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 132
    assert kinds.count("QLinearAdd") == 20
    # What is left in float32 is the last sum and the mean's input; pixels are never quantised.
    assert kinds.count("Conv") + kinds.count("Relu") + kinds.count("QuantizeLinear") == 0
    assert kinds.count("DequantizeLinear") == 2
    assert kinds.count("Transpose") <= 2


def test_activations_keep_their_names_when_the_exporter_numbers_tensors_otherwise(
    fp32: bytes,
) -> None:
    model = onnx.load_from_string(fp32)
    before = activations(model.graph)
    inner = {output for node in model.graph.node for output in node.output}
    inner -= {"embedding", "compatible"}
    other = {name: f"value_{place}" for place, name in enumerate(sorted(inner))}
    for node in model.graph.node:
        node.input[:] = [other.get(name, name) for name in node.input]
        node.output[:] = [other.get(name, name) for name in node.output]
    assert activations(model.graph) == {other[tensor]: name for tensor, name in before.items()}


def test_a_missing_range_is_named(fp32: bytes, recorded: calibration.Calibration) -> None:
    ranges = {name: span for name, span in recorded.ranges.items() if name != "repeat_2.3"}
    with pytest.raises(ConversionError, match=r"no activation range for repeat_2\.3$"):
        quantize(fp32, ranges)


@needs_exact_int8
def test_layers_that_share_a_constant_or_have_no_bias_keep_scales_of_their_own(
    facenet: FaceNet, fp32: bytes, recorded: calibration.Calibration, stand_ins: list[FaceSet]
) -> None:
    model = onnx.load_from_string(fp32)
    by_weight = {node.input[1]: node for node in model.graph.node if node.op_type == "Conv"}
    one, other, third = (
        by_weight[f"network.repeat_1.0.branch2.{place}.conv.weight"] for place in (0, 1, 2)
    )
    other.input[2] = one.input[2]
    del third.input[2]
    shared = model.SerializeToString()
    spoilt = quantize(shared, recorded.ranges)
    for baseline in baselines(facenet, shared, stand_ins):
        assert baseline.measure(spoilt).min_cosine >= MIN_COSINE


def make(embedder: Embedder, model: bytes, cuts: Sequence[FaceSet]) -> tuple[list[str], str]:
    """File names that are offered, and what progress said."""
    said: list[str] = []
    files, offered = variants.make(embedder, model, cuts, said.append)
    assert [found.file for found in offered] == list(files)
    return list(files), "\n".join(said)


def test_a_variant_with_spoilt_ranges_is_not_offered_and_the_others_are(
    facenet: FaceNet,
    fp32: bytes,
    recorded: calibration.Calibration,
    stand_ins: list[FaceSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow = {name: (low / 10, high / 10) for name, (low, high) in recorded.ranges.items()}
    monkeypatch.setattr(calibration, "FOLDER", tmp_path)
    calibration.save(recorded.model_copy(update={"ranges": narrow}))
    files, said = make(facenet, fp32, stand_ins)
    assert files == ["facenet-fp16.onnx"]
    assert re.search(rf"int8: not offered: its smallest cosine .* below {MIN_COSINE}", said)


@pytest.fixture
def unknown(facenet: FaceNet) -> FaceNet:
    """The network under weights of which nothing is recorded."""
    found = copy.copy(facenet)
    found.weights = "inception-resnet-v1/mine/0123456789ab"
    return found


def test_unknown_weights_without_labelled_faces_get_no_int8_and_say_why(
    unknown: FaceNet, fp32: bytes, stand_ins: list[FaceSet]
) -> None:
    files, said = make(unknown, fp32, stand_ins)
    assert files == ["facenet-fp16.onnx"]
    assert "int8: not offered: " in said
    assert "no activation ranges are recorded for these weights" in said
    assert "at least 32 labelled faces, and there are 0" in said


@needs_exact_int8
def test_unknown_weights_are_calibrated_on_the_labelled_faces_at_hand(
    unknown: FaceNet, fp32: bytes, stand_ins: list[FaceSet]
) -> None:
    enough = calibration.MIN_FACES
    labelled = [
        replace(cut, faces=enough, labelled_faces=enough, description="they pass for faces")
        for cut in stand_ins
    ]
    files, _ = make(unknown, fp32, labelled)
    assert files == ["facenet-int8.onnx", "facenet-fp16.onnx"]


@needs_exact_int8
def test_what_was_measured_without_a_photo_does_not_pass_for_faces(
    models_dir: Path, spec: ModelSpec, facenet: FaceNet, fp32: bytes, stand_ins: list[FaceSet]
) -> None:
    model = (models_dir / variant(spec, "int8").file).read_bytes()
    for baseline in baselines(facenet, fp32, stand_ins):
        found = baseline.measure(model)
        assert (found.faces, found.pairs) == (0, None)
        assert "no photograph was at hand" in found.inputs


# Two people, two photos each, on a circle: angles in degrees.
def people(*angles: float) -> Floats:
    radians = np.radians(np.asarray(angles))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


PAIRS = ((0, 1, True), (2, 3, True), (0, 2, False), (1, 3, False))
CROPS = np.zeros((4, 160, 160, 3), np.uint8)
FOUR = FaceSet(CROPS, 4, 4, PAIRS, "four angles")


def fidelity(min_cosine: float, same: float, strangers: float) -> Fidelity:
    pairs = PairAccuracy(
        same_person_pairs=2,
        stranger_pairs=2,
        max_same_person_distance=same,
        min_stranger_distance=strangers,
    )
    return Fidelity(
        space="a/b/c",
        least_cosine=MIN_COSINE,
        faces=4,
        min_cosine=min_cosine,
        median_cosine=1,
        inputs="",
        pairs=pairs,
    )


def baseline(facts: EmbeddingFacts, *angles: float) -> Baseline:
    return Baseline(FACENET_CENTRED, facts, FOUR, people(*angles))


@pytest.mark.parametrize(
    ("found", "objection"),
    [
        (fidelity(0.995, 0.4, 0.6), None),
        (fidelity(0.9949, 0.4, 0.6), "smallest cosine"),
        (fidelity(float("nan"), 0.4, 0.6), "smallest cosine"),
        (fidelity(0.999, 0.6, 0.6), "apart"),
    ],
)
def test_a_variant_is_refused_for_its_cosine_and_for_joining_strangers(
    facts: EmbeddingFacts, found: Fidelity, objection: str | None
) -> None:
    reason = baseline(facts, 0, 10, 90, 100).objection(found)
    assert (reason is None) if objection is None else (reason is not None and objection in reason)


def test_a_variant_is_not_blamed_for_pairs_that_fp32_confuses_too(facts: EmbeddingFacts) -> None:
    confused = baseline(facts, 0, 60, 20, 80)
    assert confused.objection(fidelity(0.999, 0.6, 0.5)) is None
