"""One export run: load, fold, convert and verify every model, then publish them together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from torch import nn

from export import (
    calibration,
    convert,
    faces,
    facts,
    fold,
    fold_mtcnn,
    networks,
    photos,
    publish,
    samples,
    screen,
    variants,
    verify,
    weights,
)
from export.photos import Album
from export.recipe import WeightsChoice, fingerprint, versions
from export.samples import Samples
from service.runtime.manifest import (
    Manifest,
    ModelName,
    ModelSpec,
    ScreenSpec,
    Source,
    file_sha256,
)

Progress = Callable[[str], None]

_STAGES: tuple[networks.StageName, ...] = ("pnet", "rnet", "onet")


def run(models_dir: Path, choice: WeightsChoice, progress: Progress) -> Manifest:
    """Export all models into `models_dir`; nothing there changes unless every check passed.

    Raises:
        ExportError: a step failed.
    """
    recipe = fingerprint(choice)
    with publish.staging(models_dir) as stage:
        # First, because only this can fail for want of a file or a network.
        embedder = networks.inception_resnet_v1()
        loaded = weights.load(choice, embedder)
        progress(f"facenet: weights read, {len(loaded.state)} tensors, space {loaded.space}")
        album = photos.find()
        inputs = samples.gather(album)
        progress(f"verification inputs: {inputs.description}")
        files: dict[str, bytes] = {}
        specs: dict[ModelName, ModelSpec] = {}
        for name in _STAGES:
            original = networks.mtcnn_stage(name)
            source = facts.mtcnn_source(name, file_sha256(networks.mtcnn_weights_path(name)))
            data, spec = _export(
                name,
                original,
                fold_mtcnn.fold_mtcnn_stage(original),
                source,
                inputs,
                None,
                progress,
            )
            files[spec.file], specs[name] = data, spec
        screened = _screen(album, progress)
        files |= {} if screened is None else {screened[1].file: screened[0]}
        source = facts.facenet_source(choice, loaded)
        data, spec = _export(
            "facenet", embedder, fold.fold_facenet(embedder), source, inputs, loaded.space, progress
        )
        others, offered = variants.make(data, loaded.space, faces.gather(album), progress)
        files |= {spec.file: data, **others}
        specs["facenet"] = spec.model_copy(update={"variants": offered})
        manifest = Manifest(
            schema_version=1,
            weights=choice.name,
            download=choice.download,
            fingerprint=recipe,
            tools=_tool_versions(),
            models=specs,
            screen=None if screened is None else screened[1],
        )
        publish.publish(stage, models_dir, files, manifest)
    progress(f"published {len(files)} model files and their manifest in {models_dir}")
    return manifest


def calibrate(choice: WeightsChoice, progress: Progress) -> Path:
    """Measure the activation ranges of the chosen weights anew and record them beside the code.

    Raises:
        ExportError: there are too few labelled faces, or a step failed.
    """
    found = faces.gather(photos.find())
    calibration.require_enough(found)
    embedder = networks.inception_resnet_v1()
    loaded = weights.load(choice, embedder)
    progress(f"facenet: weights read, space {loaded.space}; calibrating on {found.description}")
    model = convert.to_onnx("facenet", fold.fold_facenet(embedder))
    measured = calibration.measure(model, loaded.space, found)
    path = calibration.save(measured)
    progress(f"ranges of {len(measured.ranges)} activations recorded in {path}")
    return path


def _screen(album: Album, progress: Progress) -> tuple[bytes, ScreenSpec] | None:
    """The file and manifest entry of P-Net's screen, if it leaves out nothing that matters."""
    network = networks.mtcnn_stage("pnet")
    quantized = screen.quantize(network)
    data = screen.to_bytes(quantized)
    found = screen.measure(
        network, quantized, album, "pnet-screen.npz", hashlib.sha256(data).hexdigest()
    )
    if objection := screen.objection(found):
        progress(f"pnet screen: not offered: {objection}")
        return None
    progress(
        f"pnet screen: passes {found.looked_at / found.cells:.1%} of {found.cells:,} cells; "
        f"{found.passing_cells:,} are P-Net's, the lowest {found.worst_shortfall:.2f} logits under "
        f"its threshold, margin {found.margin}"
    )
    return data, found


def _export(
    name: ModelName,
    original: nn.Module,
    folded: nn.Module,
    source: Source,
    inputs: Samples,
    space: str | None,
    progress: Progress,
) -> tuple[bytes, ModelSpec]:
    data = convert.to_onnx(name, folded)
    differences = verify.verify(name, data, verify.reference(name, original), inputs.batches(name))
    worst = max(differences.values())
    progress(f"{name}: exported; names, shapes, dtypes checked; max |difference| {worst:.1e}")
    spec = facts.model_spec(
        name, data, convert.OPSET, source, differences, inputs.description, space
    )
    return data, spec


def _tool_versions() -> dict[str, str]:
    return {**versions(), **{tool: version(tool) for tool in ("onnxscript", "onnxruntime")}}
