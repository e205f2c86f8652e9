"""The contract between the export program and the service: what each model file is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from service.domain.errors import ModelError

MANIFEST_NAME = "manifest.json"

ModelName = Literal["pnet", "rnet", "onet", "facenet"]
Precision = Literal["fp32", "fp16", "int8"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Frozen):
    """One graph input or output; a named dimension (a string in `shape`) is dynamic."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | str, ...]


class ImageInput(TensorSpec):
    """The image input of a model: what the pixels mean."""

    layout: Literal["NHWC", "NCHW"]
    color: Literal["RGB"]
    value_range: tuple[int, int]


class Source(_Frozen):
    """Where the weights came from, and under which terms."""

    weights: str
    package: str
    url: str
    weights_sha256: str
    code_licence: str
    weights_licence: str


class Verification(_Frozen):
    """Largest absolute differences against the PyTorch module, measured at export.

    `max_abs_difference` has one entry per output; `inputs` says what was fed.
    """

    tolerance: float
    max_abs_difference: dict[str, float]
    inputs: str


class EmbeddingFacts(_Frozen):
    """What a vector of this model means.

    `space` identifies the weights: vectors are comparable when, and only when, it is equal.
    Distances are cosine distances, 0 to 2.
    """

    space: str
    dimension: int
    metric: Literal["cosine"]
    recommended_max_distance: float


class PairAccuracy(_Frozen):
    """Cosine distances of labelled pairs of photos, largest face of each, under one variant."""

    same_person_pairs: int
    stranger_pairs: int
    max_same_person_distance: float
    min_stranger_distance: float


class Fidelity(_Frozen):
    """How close a variant's vectors are to the fp32 model's, measured at export.

    The cosines are those of each face's two vectors; `inputs` says which faces. `pairs` is None
    where no labelled pairs were at hand.
    """

    faces: int
    min_cosine: float
    median_cosine: float
    inputs: str
    pairs: PairAccuracy | None


class Variant(_Frozen):
    """The same model in another precision: same inputs, outputs and embedding space.

    `recipe` says how it was made from the fp32 model. Only variants that keep the accuracy are in
    a manifest.
    """

    precision: Precision
    file: str
    sha256: str
    recipe: str
    fidelity: Fidelity


class ModelSpec(_Frozen):
    """One fp32 model file, its variants, and every fact the service needs to run it."""

    file: str
    sha256: str
    opset: int
    input: ImageInput
    outputs: tuple[TensorSpec, ...]
    source: Source
    verification: Verification
    embedding: EmbeddingFacts | None = None
    variants: tuple[Variant, ...] = ()
    recommended_threshold: float | None = None

    @property
    def files(self) -> tuple[ModelSpec | Variant, ...]:
        """Everything that has a file of its own: the fp32 model, then its variants."""
        return (self, *self.variants)


class ScreenSpec(_Frozen):
    """The eight-bit P-Net that chooses cells for P-Net, and what it was measured to leave out.

    margin: in logits; cells further below P-Net's threshold are left out. worst_shortfall: how far
    below it the lowest of the `passing_cells` was among all `cells`, which has to be well within
    the margin; None where no photograph was at hand.
    """

    file: str
    sha256: str
    margin: float
    cells: int
    passing_cells: int
    looked_at: int
    worst_shortfall: float | None
    inputs: str


class Manifest(_Frozen):
    """`models/manifest.json`: the four models and the recipe that made them."""

    schema_version: Literal[1]
    # What the export was asked for, so that a later run keeps to it: a name or a file's path.
    weights: str
    download: bool
    fingerprint: str
    tools: dict[str, str]
    models: dict[ModelName, ModelSpec]
    screen: ScreenSpec | None = None

    @property
    def files(self) -> list[ModelSpec | Variant | ScreenSpec]:
        """Everything that has a file of its own."""
        screens = [] if self.screen is None else [self.screen]
        return [*(file for spec in self.models.values() for file in spec.files), *screens]

    @field_validator("models")
    @classmethod
    def _complete(cls, models: dict[ModelName, ModelSpec]) -> dict[ModelName, ModelSpec]:
        if missing := [name for name in get_args(ModelName) if name not in models]:
            raise ValueError(f"there is no {' and no '.join(missing)}")
        return models


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_manifest(directory: Path) -> Manifest:
    """Read and validate the manifest of a models directory.

    Raises:
        ModelError: it is missing, unreadable or of another schema.
    """
    path = directory / MANIFEST_NAME
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: run `facette export` first") from None
    except (OSError, ValueError, ValidationError) as error:
        raise ModelError(f"{path} cannot be used ({error}): run `facette export` again") from error


def check_file(directory: Path, spec: ModelSpec | Variant | ScreenSpec) -> Path:
    """Path of a model file whose hash is the manifest's.

    Raises:
        ModelError: the file is missing or not the one that was verified.
    """
    path = directory / spec.file
    if not path.is_file():
        raise ModelError(f"{path} is missing: run `facette export` again")
    if file_sha256(path) != spec.sha256:
        raise ModelError(
            f"{path} is not the file its manifest describes: run `facette export` again"
        )
    return path
