"""FaceNet's other precisions: made from the fp32 file, measured, and offered only if they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from export import calibration, facts
from export.errors import CalibrationError
from export.faces import FaceSet
from export.fidelity import Baseline
from export.half import to_half
from export.quantize import quantize
from service.runtime.manifest import Precision, Variant

Progress = Callable[[str], None]

_HALF_RECIPE = (
    "weights and activations rounded to float16, unit length in float32; for GPUs: "
    "on CPUs it is slower than fp32"
)


def make(
    model: bytes, space: str, faces: FaceSet, progress: Progress
) -> tuple[dict[str, bytes], tuple[Variant, ...]]:
    """Files by name, and manifest entries, of the variants that keep the accuracy.

    model: the verified fp32 file of weights with this embedding space.

    Raises:
        ExportError: a file cannot be made, or has another signature. A variant that cannot be
            calibrated here or loses accuracy is no error: progress says so.
    """
    baseline = Baseline.of(model, faces)
    made: list[tuple[Precision, bytes, str]] = []
    try:
        ranges = calibration.tracked(space) or calibration.measure(model, space, faces)
    except CalibrationError as error:
        progress(f"facenet int8: not offered: no calibration of these weights is recorded; {error}")
    else:
        made.append(("int8", quantize(model, ranges.ranges), _int8_recipe(ranges)))
    made.append(("fp16", to_half(model), _HALF_RECIPE))
    files: dict[str, bytes] = {}
    variants: list[Variant] = []
    for precision, data, recipe in made:
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


def _int8_recipe(ranges: calibration.Calibration) -> str:
    return (
        "static QDQ: uint8 activations, int8 weights per output channel; ranges: "
        f"{ranges.method} ({ranges.inputs}); for CPUs with VNNI or AMX: elsewhere 16-bit sums "
        "saturate and the vectors drift"
    )
