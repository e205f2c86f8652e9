"""One export run: load, fold, convert and verify every model, then publish them together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import onnxruntime

from export import publish
from export.embedders import facts
from export.embedders.embedder import Embedder
from export.embedders.facenet import FaceNet
from export.embedders.sface import SFace
from export.graphs import convert, fold_mtcnn, networks
from export.graphs.signature import STAGES, Signature, StageName
from export.precisions import calibration, eight_bits, rnet_screen, screen, variants
from export.recipe import WeightsChoice, fingerprint, versions
from export.verification import faces, photos, samples, verify
from export.verification.faces import FaceSet
from export.verification.photos import Album
from export.verification.samples import Samples
from service.runtime.manifest import (
    EmbeddingFacts,
    Manifest,
    ModelName,
    ModelSpec,
    ScreenSpec,
    Source,
    file_sha256,
)

Progress = Callable[[str], None]

_STAGES: tuple[StageName, ...] = ("pnet", "rnet", "onet")
# Networks with a screen, and what it judges.
_SCREENED: dict[StageName, str] = {"pnet": "cells", "rnet": "crops"}


def run(models_dir: Path, choice: WeightsChoice, progress: Progress) -> Manifest:
    """Export all models into `models_dir`; nothing there changes unless every check passed.

    Raises:
        ExportError: a step failed.
    """
    recipe = fingerprint(choice)
    with publish.staging(models_dir) as stage:
        # First, since only this step needs a file or a download that may be missing.
        embedder = open_embedder(choice)
        progress(f"{embedder.signature.name}: weights read, {_spaces_text(embedder)}")
        album = photos.find()
        inputs = samples.gather(album)
        progress(f"verification inputs: {inputs.description}")
        files: dict[str, bytes] = {}
        specs: dict[ModelName, ModelSpec] = {}
        for name in _STAGES:
            network = networks.mtcnn_stage(name)
            signature = STAGES[name]
            data = convert.to_onnx(signature, fold_mtcnn.fold_mtcnn_stage(network))
            source = facts.mtcnn_source(name, file_sha256(networks.mtcnn_weights_path(name)))
            original = verify.reference(signature, network)
            spec = _verified(signature, data, original, source, inputs, (), progress)
            files[spec.file], specs[name] = data, spec
        screens = {name: _screen(name, album, progress) for name in _SCREENED}
        files |= {found[1].file: found[0] for found in screens.values() if found is not None}
        data = embedder.to_onnx()
        spec = _verified(
            embedder.signature,
            data,
            embedder.reference(),
            embedder.source,
            inputs,
            embedder.embeddings,
            progress,
        )
        others, offered = variants.make(embedder, data, _cuts(embedder, album), progress)
        files |= {spec.file: data, **others}
        specs["embedder"] = spec.model_copy(update={"variants": offered})
        manifest = Manifest(
            schema_version=2,
            weights=choice.name,
            download=choice.download,
            fingerprint=recipe,
            tools=_tool_versions(),
            models=specs,
            screen=_spec(screens["pnet"]),
            rnet_screen=_spec(screens["rnet"]),
        )
        publish.publish(stage, models_dir, files, manifest)
    progress(f"published {len(files)} model files and their manifest in {models_dir}")
    return manifest


def calibrate(choice: WeightsChoice, progress: Progress) -> Path:
    """Measure the activation ranges of the chosen weights anew and record them beside the code.

    Raises:
        ExportError: there are too few labelled faces, or a step failed.
    """
    album = photos.find()
    embedder = open_embedder(choice)
    cuts = _cuts(embedder, album)
    for faces_at_hand in cuts:
        calibration.require_enough(faces_at_hand)
    progress(f"{embedder.signature.name}: weights read, {_spaces_text(embedder)}")
    progress(f"calibrating on {cuts[0].description}")
    measured = calibration.measure(embedder.to_onnx(), embedder.weights, cuts)
    path = calibration.save(measured)
    progress(f"ranges of {len(measured.ranges)} activations recorded in {path}")
    return path


def open_embedder(choice: WeightsChoice) -> Embedder:
    """The chosen embedder, its weights read.

    Raises:
        WeightsError: they cannot be found, fetched or used.
        RecordError: a record of them cannot be read.
    """
    return SFace() if choice.kind == "sface" else FaceNet(choice)


def _cuts(embedder: Embedder, album: Album) -> list[FaceSet]:
    return [faces.gather(album, space.crop) for space in embedder.embeddings]


def _spaces_text(embedder: Embedder) -> str:
    return " and ".join(f"space {space.space}" for space in embedder.embeddings)


def _screen(name: StageName, album: Album, progress: Progress) -> tuple[bytes, ScreenSpec] | None:
    """The file and manifest entry of a network's screen; None if it fails its check."""
    pnet, file = networks.mtcnn_stage("pnet"), f"{name}-screen.npz"
    if name == "pnet":
        cells = screen.quantize(pnet)
        data = eight_bits.to_bytes(cells)
        found = screen.measure(pnet, cells, album, file, hashlib.sha256(data).hexdigest())
    else:
        rnet = networks.mtcnn_stage("rnet")
        crops = rnet_screen.quantize(rnet)
        data = eight_bits.to_bytes(crops)
        sha256 = hashlib.sha256(data).hexdigest()
        found = rnet_screen.measure(pnet, rnet, crops, album, file, sha256)
    if objection := eight_bits.objection(found):
        progress(f"{name} screen: not offered: {objection}")
        return None
    inputs = _SCREENED[name]
    progress(
        f"{name} screen: passes {found.looked_at / found.cells:.1%} of {found.cells:,} {inputs}; "
        f"{found.passing_cells:,} pass {name} itself, the lowest {found.worst_shortfall:.2f} "
        f"logits under its threshold, margin {found.margin}"
    )
    return data, found


def _spec(screened: tuple[bytes, ScreenSpec] | None) -> ScreenSpec | None:
    return None if screened is None else screened[1]


def _verified(
    signature: Signature,
    data: bytes,
    expected: verify.Reference,
    source: Source,
    inputs: Samples,
    embeddings: tuple[EmbeddingFacts, ...],
    progress: Progress,
) -> ModelSpec:
    differences = verify.verify(signature, data, expected, inputs.batches(signature))
    worst = max(differences.values())
    progress(
        f"{signature.name}: exported; names, shapes, dtypes checked; max |difference| {worst:.1e}"
    )
    return facts.model_spec(
        signature, data, convert.OPSET, source, differences, inputs.description, embeddings
    )


def _tool_versions() -> dict[str, str]:
    return {
        **versions(),
        "onnxscript": version("onnxscript"),
        "onnxruntime": onnxruntime.__version__,
    }
