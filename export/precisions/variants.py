"""Precisions beside fp32: converted from its file, measured, and offered if they are accurate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from export.embedders import facts
from export.embedders.embedder import Embedder
from export.errors import CalibrationError, ConversionError
from export.precisions import calibration
from export.precisions.half import to_half
from export.precisions.quantize import quantize
from export.verification.faces import FaceSet
from export.verification.fidelity import Baseline
from service.runtime.manifest import Precision, Variant

Progress = Callable[[str], None]


def make(
    embedder: Embedder, model: bytes, cuts: Sequence[FaceSet], progress: Progress
) -> tuple[dict[str, bytes], tuple[Variant, ...]]:
    """Files by name, and manifest entries, of the variants that keep the accuracy.

    A variant is left out if it cannot be converted, if there are too few faces to measure it, or if
    it loses accuracy; `progress` gets the reason.

    Args:
        model: the verified fp32 file of the embedder.
        cuts: the faces at hand, in the crop of each space of the embedder.

    Raises:
        NamesError, ShapesError, DtypesError: a variant has another signature.
    """
    name = embedder.signature.name
    baselines = [
        Baseline.of(embedder.signature, model, space, faces)
        for space, faces in zip(embedder.embeddings, cuts, strict=True)
    ]
    files: dict[str, bytes] = {}
    variants: list[Variant] = []
    for precision in embedder.precisions:
        try:
            data, recipe = _CONVERSIONS[precision](model, embedder.weights, cuts)
        except (CalibrationError, ConversionError) as error:
            progress(f"{name} {precision}: not offered: {error}")
            continue
        found = [baseline.measure(data) for baseline in baselines]
        objections = [b.objection(f) for b, f in zip(baselines, found, strict=True)]
        if objection := next(filter(None, objections), None):
            progress(f"{name} {precision}: not offered: {objection}")
            continue
        file = facts.file_name(name, precision)
        files[file] = data
        variants.append(
            Variant(
                precision=precision,
                file=file,
                sha256=hashlib.sha256(data).hexdigest(),
                recipe=recipe,
                fidelity=tuple(found),
            )
        )
        for fidelity in found:
            progress(
                f"{name} {precision}: smallest cosine to fp32 {fidelity.min_cosine:.4f}, "
                f"median {fidelity.median_cosine:.4f} in {fidelity.space} ({fidelity.inputs})"
            )
    return files, tuple(variants)


def _int8(model: bytes, weights: str, cuts: Sequence[FaceSet]) -> tuple[bytes, str]:
    """The recorded ranges of these weights, else ranges measured on the faces at hand."""
    ranges = calibration.tracked(weights)
    if ranges is None:
        try:
            ranges = calibration.measure(model, weights, cuts)
        except CalibrationError as error:
            raise CalibrationError(
                f"no activation ranges are recorded for these weights, and {error}"
            ) from error
    recipe = (
        "static QDQ: uint8 activations, int8 weights per output channel; ranges: "
        f"{ranges.method} ({ranges.inputs}); for CPUs with VNNI or AMX: on x86 without them "
        "16-bit sums can saturate"
    )
    return quantize(model, ranges.ranges), recipe


def _fp16(model: bytes, weights: str, cuts: Sequence[FaceSet]) -> tuple[bytes, str]:
    recipe = (
        "weights and activations rounded to float16, unit length in float32; for GPUs: "
        "x86 CPUs compute it in float32"
    )
    return to_half(model), recipe


_Conversion = Callable[[bytes, str, Sequence[FaceSet]], tuple[bytes, str]]
_CONVERSIONS: dict[Precision, _Conversion] = {"int8": _int8, "fp16": _fp16}
