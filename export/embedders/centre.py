"""The centre of a space: the mean of many people's unit vectors, measured once and recorded.

The unit vectors of strangers are not spread evenly around zero: they share a component that does
not distinguish people. Subtracting it and normalising again increases the distance between
strangers more than the distance within a person. A centre belongs to one set of weights and one
crop; its digest is part of the id of the space.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from export.embedders import records
from export.errors import RecordError

FOLDER = Path(__file__).parents[1] / "centres"

_DIMENSION = 512
_NUMBERS_A_LINE = 8
_DIGEST_DIGITS = 8


class Centre(BaseModel):
    """The mean of the unit vectors of many people's faces.

    weights: id of the weights, see `Weights.space`.
    margin: of the crop, see `FaceCrop`; pixels outside of the photo are black.
    population: one phrase about the people, without local paths.
    mean: 512 numbers, as float32 reads them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    margin: float
    population: str
    people: int
    faces: int
    mean: tuple[float, ...]

    @field_validator("mean")
    @classmethod
    def _is_inside(cls, mean: tuple[float, ...]) -> tuple[float, ...]:
        length = float(np.linalg.norm(np.asarray(mean)))
        # A mean of unit vectors is shorter than 1. Written so that a NaN is refused.
        if len(mean) != _DIMENSION or not length < 1.0:
            raise ValueError(f"a mean of unit vectors has {_DIMENSION} numbers and is below 1 long")
        return mean

    @property
    def vector(self) -> NDArray[np.float32]:
        """float32 [512]."""
        return np.asarray(self.mean, dtype=np.float32)

    @property
    def digest(self) -> str:
        """The first hex digits of the SHA-256 of the vector's little-endian bytes."""
        return hashlib.sha256(self.vector.astype("<f4").tobytes()).hexdigest()[:_DIGEST_DIGITS]


def measure(
    vectors: NDArray[np.float32], weights: str, margin: float, population: str, people: int
) -> Centre:
    """The centre of unit vectors, float32 [n, 512], of `people` people."""
    mean = vectors.astype(np.float64).mean(axis=0).astype(np.float32)
    return Centre(
        weights=weights,
        margin=margin,
        population=population,
        people=people,
        faces=len(vectors),
        # The shortest decimal that reads back as the same float32.
        mean=tuple(float(str(value)) for value in mean),
    )


def tracked(weights: str) -> Centre | None:
    """The recorded centre of these weights, or None.

    Raises:
        RecordError: a recorded file cannot be read.
    """
    found = (centre for centre in records.read_all(FOLDER, Centre) if centre.weights == weights)
    return next(found, None)


def save(centre: Centre) -> Path:
    """Record a centre under the name of its weights, in place of an earlier one.

    Raises:
        RecordError: the folder cannot be written.
    """
    _, name, _ = centre.weights.split("/")
    path = FOLDER / f"{name}.json"
    head = json.dumps(centre.model_dump(exclude={"mean"}), indent=2).removesuffix("\n}")
    rows = [
        "    " + ", ".join(map(json.dumps, centre.mean[start : start + _NUMBERS_A_LINE]))
        for start in range(0, len(centre.mean), _NUMBERS_A_LINE)
    ]
    try:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(f'{head},\n  "mean": [\n' + ",\n".join(rows) + "\n  ]\n}\n")
    except OSError as error:
        raise RecordError(f"'{path}' cannot be written: {error.strerror}") from error
    return path
