"""The roofline counts the work of networks, and says what bounds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.common.harness import MODELS
from bench.inprocess import operations, peaks
from bench.inprocess.operations import Work
from bench.inprocess.roofline import Roofs
from bench.report import roofline
from service.analysis.screens import SCREEN_FLAGS
from service.machine.cpu import cpu_flags
from tests.bench.test_bench import run_quickly


def small_model() -> onnx.ModelProto:
    """A convolution in two groups with weights in bytes, and a matrix product."""
    rng = np.random.default_rng(0)
    constants = {
        "bytes": rng.integers(-9, 9, (6, 2, 3, 3), np.int8),
        "scale": np.float32(0.1),
        "zero": np.int8(0),
        "columns": np.array([0, -1], dtype=np.int64),
        "matrix": rng.random((5, 6 * 4 * 4), np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["weight"]),
        helper.make_node("Conv", ["image", "weight"], ["seen"], group=2),
        helper.make_node("Relu", ["seen"], ["positive"]),
        helper.make_node("Reshape", ["positive", "columns"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix"], ["found"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def test_the_work_of_a_graph_is_that_of_its_convolutions_and_products() -> None:
    work = operations.of_model(small_model(), (7, 4, 6, 6))
    # 6 channels of 4 x 4 places, each from 3 x 3 places of the 2 channels of a group.
    convolution, product = 6 * 4 * 4 * 3 * 3 * 2, 5 * 96
    assert work.multiply_adds == 7 * (convolution + product)
    assert work.weight_bytes == 6 * 2 * 3 * 3 + 4 + 1 + 2 * 8 + 5 * 96 * 4
    assert work.data_bytes == 7 * (4 * 6 * 6 + 5) * 4
    # The results of a layer in bytes are bytes; each is written and read.
    assert work.activation_bytes == 7 * 2 * (6 * 4 * 4 + 5 * 4)


def test_a_product_of_two_computed_matrices_is_not_counted_but_refused() -> None:
    model = small_model()
    model.graph.node[4].input[1] = "flat"
    with pytest.raises(ValueError, match="flat is not a constant"):
        operations.of_model(model, (5, 4, 6, 6))


def test_the_work_of_a_cell_of_pnet() -> None:
    work = operations.of_file(MODELS / "pnet.onnx", (64, 3, 12, 12))
    cell = (
        10 * 10 * 16 * (3 * 3 * 3)  # ten channels, six of them with the other sign as well
        + 5 * 5 * 10 * 16 * 2  # back to ten, in two parts
        + 3 * 3 * 16 * (3 * 3 * 10)
        + 32 * (3 * 3 * 16)
        + 5 * 32  # a logit, and four numbers of a box
    )
    assert work.multiply_adds == 64 * cell
    assert work.data_bytes == 64 * (3 * 12 * 12 + 5) * 4


def test_the_screens_do_the_arithmetic_of_their_networks() -> None:
    (first, second, third, logit) = operations.pnet_screen_layers(12, 12)
    assert first.multiply_adds == 10 * 10 * 16 * 27
    assert (second.multiply_adds, third.multiply_adds) == (3 * 3 * 16 * 90, 32 * 144)
    assert logit.multiply_adds == 32
    crop = sum(layer.multiply_adds for layer in operations.rnet_screen_layers())
    network = operations.of_file(MODELS / "rnet.onnx", (1, 3, 24, 24)).multiply_adds
    # The graph has 48 channels for the first 28, takes them to 32 by two products, and its head
    # has five results.
    more = 22 * 22 * 20 * 27 + 11 * 11 * 2 * 48 * 32 + 81 * 48 * 4 * 9 + 4 * 128
    assert network - crop == more


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_a_loop_does_the_multiply_adds_that_are_counted(kind: str) -> None:
    if kind == "int8" and not cpu_flags() >= SCREEN_FLAGS:
        assert kind not in peaks.arithmetic(1)
        return
    if kind == "int8":
        words = np.arange(14 * 16, dtype=np.int32)
        one, other = words[192:208].view(np.uint8), words[208:].view(np.int8)
    else:
        values = np.arange(14 * 16, dtype=np.float32) / 1e3
        one, other = values[192:208], values[208:]
    products = one.astype(np.float64) * other.astype(np.float64)
    none, once, thrice = (peaks.arithmetic(times)[kind] for times in (0, 1, 3))
    assert once.amount % len(products) == 0
    assert thrice.amount == 3 * once.amount
    start = cast(float, none.loop())
    for each in (once, thrice):
        grown = cast(float, each.loop()) - start
        assert grown == pytest.approx(each.amount // len(products) * products.sum(), rel=1e-4)


def test_a_network_is_bounded_by_the_lower_roof() -> None:
    roofs = Roofs({"float32": 100.0}, 10.0)
    light = Work(multiply_adds=4000, weight_bytes=800, data_bytes=200, activation_bytes=100)
    heavy = Work(multiply_adds=40_000, weight_bytes=800, data_bytes=200, activation_bytes=0)
    spilled = Work(multiply_adds=40_000, weight_bytes=800, data_bytes=200, activation_bytes=9000)
    assert roofs.ceiling("float32", light) == 40.0
    assert roofs.ceiling("float32", heavy) == roofs.ceiling("float32", spilled) == 100.0
    assert roofs.bound("float32", light) == "memory"
    assert roofs.bound("float32", heavy) == "arithmetic"
    assert roofs.bound("float32", spilled) == "arithmetic, with activations in a cache"
    assert roofs.ceiling("int8", heavy) is None
    assert roofs.bound("int8", heavy) is None


def record(ceiling: float | None) -> dict[str, Any]:
    """Two cores; a photo takes two faces, and 30 ms of which the network takes 20."""
    rate = {"median": 90.0, "min": 80.0, "max": 100.0}
    row = {
        "network": "N",
        "multiply_adds": 1e9,
        "ceiling": ceiling,
        "share": ceiling and 100.0 / ceiling,
        "ceiling_all_cores": ceiling and 1.5 * ceiling,
        "reached": rate,
    }
    part = {"network": "N", "items": 2.0, "multiply_adds": 2e9}
    return {
        "roofline": {
            "cores": 2,
            "networks": [row],
            "photo": {"processor_ms": 30.0, "parts": [part]},
            "embedder": "N",
            "analysis": {"max": 50.0},
            "raw_session": {"max": 150.0},
        }
    }


def newest(ceiling: float | None) -> dict[str, Any]:
    analyze = {"compared": {"analyze_vs_facenet_pytorch": ["A", "P"]}}
    embed = {"compared": {"batcher_vs_raw_session": ["B", "R"]}}
    return {
        "roofline": record(ceiling),
        "analyze": {**analyze, "rates": {"A": {"median": 40.0}}},
        "embed": {**embed, "rates": {"R": {"median": 140.0}}},
    }


def cells(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows]


def test_the_limit_of_a_photo_follows_from_the_ceilings() -> None:
    # 2 x 10^9 multiply-adds take 10 ms of a core at the ceiling; at 300 on all cores, 6.7 ms.
    alone, kept, faces = cells(roofline.limits(newest(200.0)))
    assert alone[1:] == ["150", "50.0", "33%", "40.0"]
    assert kept[1:] == ["100", "50.0", "50%", "40.0"]
    assert faces[1:] == ["300", "150", "50%", "140"]
    assert "30.0 ms of a core: 20.0 ms in the networks, 10.0 ms at their ceilings; and 10.0 ms" in (
        roofline.limits(newest(200.0))
    )
    network, total, rest, analysis = cells(roofline.photo(record(200.0)))
    assert network[1:] == ["2.00", "2000", "10.0", "20.0"]
    assert (total[-1], rest[-1], analysis[-1]) == ("20.0", "10.0", "30.0")


def test_a_network_without_a_ceiling_has_no_limit() -> None:
    for row in cells(roofline.limits(newest(None))):
        assert row[1] == "not measured"
    assert cells(roofline.photo(record(None)))[0][3] == "not measured"


@pytest.mark.slow
def test_the_bench_puts_every_network_under_its_ceiling(tmp_path: Path) -> None:
    document, (line,) = run_quickly("roofline", tmp_path)
    assert document["results"] == {"roofline": line}
    found = line["roofline"]
    names = {row["network"] for row in found["networks"]}
    assert {"P-Net fp32, 64 cells", "R-Net fp32, 12 crops", "O-Net fp32, 4 crops"} <= names
    assert {f"FaceNet {p}, 1 face" for p in ("int8", "fp32", "fp16")} <= names
    for row in found["networks"]:
        assert row["reached"]["max"] > 0
        if row["kind"] == "float32":
            assert row["ceiling"] > 0
            assert row["bound"]
    parts = {part["network"]: part for part in found["photo"]["parts"]}
    assert found["embedder"] in parts
    assert all(part["items"] > 0 and part["multiply_adds"] > 0 for part in parts.values())
    assert all(text.strip() for text in (roofline.peaks(line), roofline.networks(line)))
