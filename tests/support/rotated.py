"""Another FaceNet without other weights: the same one behind a rotation of its embeddings.

Every distance within its space is FaceNet's, and none between a vector of it and one of FaceNet's
means anything: what is compared across shows as a stranger.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from service.runtime.manifest import MANIFEST_NAME, file_sha256

DIMENSION = 512


def rotation(seed: int) -> np.ndarray:
    """An orthogonal matrix, float32 [dimension, dimension]."""
    noise = np.random.default_rng(seed).standard_normal((DIMENSION, DIMENSION))
    return np.linalg.qr(noise)[0].astype(np.float32)


def add_rotated_models(models: Path, name: str, seed: int) -> str:
    """Make the model set `name` of a models directory; returns its space."""
    folder = models / name
    folder.mkdir()
    manifest = json.loads((models / MANIFEST_NAME).read_text(encoding="utf-8"))
    facenet = manifest["models"]["embedder"]
    for each in (
        *manifest["models"].values(),
        manifest["screen"] or {},
        manifest["rnet_screen"] or {},
    ):
        if each and each is not facenet:
            shutil.copy(models / each["file"], folder / each["file"])
    # The half-precision variant is for GPUs.
    facenet["variants"] = [each for each in facenet["variants"] if each["precision"] == "int8"]
    for each in (facenet, *facenet["variants"]):
        _rotate(models / each["file"], folder / each["file"], rotation(seed))
        each["sha256"] = file_sha256(folder / each["file"])
    first, *others = facenet["embeddings"]
    first["space"] = f"rotated/{seed}"
    for each in others:
        each["space"] = f"rotated/{seed}/{each['output']}"
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    return str(first["space"])


def _rotate(source: Path, target: Path, matrix: np.ndarray) -> None:
    model = onnx.load(str(source))
    graph = model.graph
    before = {output.name: f"{output.name}_before_rotation" for output in graph.output}
    for node in graph.node:
        node.input[:] = [before.get(name, name) for name in node.input]
        node.output[:] = [before.get(name, name) for name in node.output]
    graph.initializer.append(numpy_helper.from_array(matrix, "rotation"))
    for output, name in before.items():
        graph.node.append(helper.make_node("MatMul", [name, "rotation"], [output]))
    onnx.save(model, str(target))
