"""Ranges of an embedder's activations over real faces, measured once and recorded.

Each 8-bit activation needs a smallest and a largest value. The photographs that they are measured
on are not in the repository. The ranges are, in one file for each set of weights, so that an export
gives the same bytes on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from pydantic import BaseModel, ConfigDict

from export.errors import CalibrationError
from export.precisions.activations import activations
from export.verification.faces import FaceSet

FOLDER = Path(__file__).parents[1] / "calibration"

# Fewer faces give ranges that are too narrow; half of the 82 reference faces are as good as all.
MIN_FACES = 32
_METHOD = "smallest and largest value over the faces and their mirror images"
_BATCH = 8
# Significant digits of a recorded range; further ones differ between processors.
_DIGITS = 5

Range = tuple[float, float]


class Calibration(BaseModel):
    """Activation ranges of one set of weights.

    space: the embedding space of the weights they belong to, see `Weights.space`.
    ranges: (smallest, largest) of each activation, by the names of `activations`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str
    method: str
    faces: int
    inputs: str
    tools: dict[str, str]
    ranges: dict[str, Range]


def measure(model: bytes, space: str, cuts: Sequence[FaceSet]) -> Calibration:
    """Run the fp32 model over labelled faces and their mirror images, and return every range.

    Args:
        cuts: the same faces, in the crop of each space of the model.

    Ranges are not clipped at percentiles: that lost more accuracy than the finer steps gained.

    Raises:
        CalibrationError: see `require_enough`.
    """
    for faces in cuts:
        require_enough(faces)
    watched = onnx.load_from_string(model)
    names = activations(watched.graph)
    for tensor in names:
        watched.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = np.concatenate([c for f in cuts for c in (f.crops, f.crops[:, :, ::-1])])
    lowest, highest = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for start in range(0, len(pictures), _BATCH):
        values: list[NDArray[np.float32]] = session.run(
            list(names), {"image": pictures[start : start + _BATCH]}
        )
        for tensor, value in zip(names, values, strict=True):
            lowest[tensor] = min(lowest[tensor], float(value.min()))
            highest[tensor] = max(highest[tensor], float(value.max()))
    return Calibration(
        space=space,
        method=_METHOD,
        faces=cuts[0].labelled_faces,
        inputs=", ".join(dict.fromkeys(faces.description for faces in cuts)),
        tools={
            **{tool: version(tool) for tool in ("torch", "onnx")},
            "onnxruntime": ort.__version__,
        },
        ranges={
            name: (_rounded(lowest[tensor]), _rounded(highest[tensor]))
            for tensor, name in names.items()
        },
    )


def require_enough(faces: FaceSet) -> None:
    """Check the number of labelled faces.

    Raises:
        CalibrationError: there are fewer than `MIN_FACES` labelled faces.
    """
    if faces.labelled_faces < MIN_FACES:
        raise CalibrationError(
            f"calibration needs at least {MIN_FACES} labelled faces, and there are "
            f"{faces.labelled_faces}: set FACES_DIR to a folder of photos with reference.json"
        )


def tracked(space: str) -> Calibration | None:
    """The recorded calibration of these weights, or None.

    Raises:
        CalibrationError: a recorded file cannot be read.
    """
    for path in sorted(FOLDER.glob("*.json")):
        calibration = _load(path)
        if calibration.space == space:
            return calibration
    return None


def save(calibration: Calibration) -> Path:
    """Record a calibration under the name of its weights, in place of an earlier one.

    Raises:
        CalibrationError: the folder cannot be written.
    """
    _, name, _ = calibration.space.split("/")
    path = FOLDER / f"{name}.json"
    fields = calibration.model_dump(mode="json", exclude={"ranges"})
    head = json.dumps(fields, indent=2).removesuffix("\n}")
    # One activation a line, for readable diffs.
    lines = [f"    {json.dumps(n)}: {json.dumps(r)}" for n, r in calibration.ranges.items()]
    text = f'{head},\n  "ranges": {{\n' + ",\n".join(lines) + "\n  }\n}\n"
    try:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CalibrationError(f"'{path}' cannot be written: {error.strerror}") from error
    return path


def _load(path: Path) -> Calibration:
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(
            f"'{path}' is no calibration: run `facette export --calibrate` again"
        ) from error


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
