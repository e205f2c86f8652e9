"""FaceNet's other precisions: made from the fp32 file, measured, and offered only if they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from export import calibration, facts
from export.errors import CalibrationError, ConversionError
from export.faces import FaceSet
from export.fidelity import Baseline
from export.half import to_half
from export.quantize import quantize
from service.runtime.manifest import Precision, Variant

Progress = Callable[[str], None]


def make(
    model: bytes, space: str, faces: FaceSet, progress: Progress
) -> tuple[dict[str, bytes], tuple[Variant, ...]]:
    """Files by name, and manifest entries, of the variants that keep the accuracy.

    model: the verified fp32 file of weights with this embedding space.

    A variant that cannot be made of these weights, for which there are too few faces, or which
    loses accuracy is left out, and progress says why.

    Raises:
        NamesError, ShapesError, DtypesError: a variant has another signature.
    """
    baseline = Baseline.of(model, faces)
    files: dict[str, bytes] = {}
    variants: list[Variant] = []
    for precision, convert in _CONVERSIONS.items():
        try:
            data, recipe = convert(model, space, faces)
        except (CalibrationError, ConversionError) as error:
            progress(f"facenet {precision}: not offered: {error}")
            continue
        found = baseline.measure(data)
        if objection := baseline.objection(found):
            progress(f"facenet {precision}: not offered: {objection}")
            continue
        file = facts.file_name("facenet", precision)
        files[file] = data
        variants.append(
            Variant(
                precision=precision,
                file=file,
                sha256=hashlib.sha256(data).hexdigest(),
                recipe=recipe,
                fidelity=found,
            )
        )
        progress(
            f"facenet {precision}: smallest cosine to fp32 {found.min_cosine:.4f}, "
            f"median {found.median_cosine:.4f} ({found.inputs})"
        )
    return files, tuple(variants)


def _int8(model: bytes, space: str, faces: FaceSet) -> tuple[bytes, str]:
    """The recorded ranges of these weights, else ranges measured on the faces at hand."""
    ranges = calibration.tracked(space)
    if ranges is None:
        try:
            ranges = calibration.measure(model, space, faces)
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


def _fp16(model: bytes, space: str, faces: FaceSet) -> tuple[bytes, str]:
    recipe = (
        "weights and activations rounded to float16, unit length in float32; for GPUs: "
        "x86 CPUs compute it in float32"
    )
    return to_half(model), recipe


_Conversion = Callable[[bytes, str, FaceSet], tuple[bytes, str]]
_CONVERSIONS: dict[Precision, _Conversion] = {"int8": _int8, "fp16": _fp16}
