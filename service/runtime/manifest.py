"""The contract between the export program and the service: what each model file is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from service.domain.errors import ModelError

MANIFEST_NAME = "manifest.json"

ModelName = Literal["pnet", "rnet", "onet", "embedder"]
Precision = Literal["fp32", "fp16", "int8"]

# A default one and a compatible one.
_MAX_EMBEDDINGS = 2


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


class FaceCrop(_Frozen):
    """How a face is cut out for the network.

    kind: `box`, the detector's box resized by area; `landmarks`, the five points moved to a
    template by the similarity that fits them best.
    size: side of the square input in pixels.
    margin: sides of the detector's box are multiplied by this (box).
    fill: what becomes of the part outside of the photo (box): `black` keeps its place, `clip`
    leaves it out and stretches the rest, as facenet-pytorch does.
    template: (x, y) of left eye, right eye, nose and the mouth's left and right corner, as one
    looks at the picture, in pixels of the crop (landmarks). The fit is Umeyama's, Least-Squares
    Estimation of Transformation Parameters Between Two Point Patterns, 1991.
    """

    kind: Literal["box", "landmarks"]
    size: int
    margin: float = 1.0
    fill: Literal["clip", "black"] = "black"
    template: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> FaceCrop:
        points = 5 if self.kind == "landmarks" else 0
        if len(self.template) != points:
            raise ValueError(f"a crop by {self.kind} has {points} points in its template")
        return self


class OperatingPoint(_Frozen):
    """What one distance means: the share of strangers' pairs (FMR) and of one person's (TPR) in it.

    fmr_low, fmr_high: the band of the FMR, 95 %.
    """

    distance: float
    fmr: float
    fmr_low: float
    fmr_high: float
    tpr: float


class DistanceCurve(_Frozen):
    """How often strangers and one person are within a distance, over all pairs of a population.

    points: by ascending distance.
    """

    population: str
    people: int
    faces: int
    stranger_pairs: int
    same_person_pairs: int
    points: tuple[OperatingPoint, ...]

    @field_validator("points")
    @classmethod
    def _ascending(cls, points: tuple[OperatingPoint, ...]) -> tuple[OperatingPoint, ...]:
        distances = [point.distance for point in points]
        if distances != sorted(set(distances)):
            raise ValueError("the points of a curve have ascending distances")
        return points


class CohortSpec(_Frozen):
    """What scores are normalised by, see `service.domain.matching.Cohort`.

    population: whose faces it was made of; people: how many people, `least_people` or more behind
    each centre. centres: base64 of float16 [k, dimension], little-endian, unit vectors.
    """

    population: str
    people: int
    least_people: int
    centres: str
    temperature: float
    typical: float
    weight: float


class EmbeddingFacts(_Frozen):
    """What a vector of one output of this model means.

    `space` identifies weights, crop and what the graph does with the vector: vectors are
    comparable when, and only when, it is equal. Distances are cosine distances, 0 to 2.
    output: which output of the graph holds it.
    curve: over the distance that the match rule measures between two faces; None where it was not
    measured.
    recommended_max_distance, recommended_max_fmr: one operating point, by distance and as a rate:
    the most that a small tenant is given.
    recommended_max_wrong_joins: the chance that a stranger joins one of a tenant's people, which
    the limit is made for in larger ones.
    """

    output: str = "embedding"
    space: str
    dimension: int
    metric: Literal["cosine"]
    crop: FaceCrop
    recommended_max_distance: float
    recommended_max_fmr: float
    recommended_max_wrong_joins: float = 1.0
    curve: DistanceCurve | None = None
    cohort: CohortSpec | None = None


class PairAccuracy(_Frozen):
    """Cosine distances of labelled pairs of photos, largest face of each, under one variant."""

    same_person_pairs: int
    stranger_pairs: int
    max_same_person_distance: float
    min_stranger_distance: float


class Fidelity(_Frozen):
    """How close a variant's vectors of one space are to the fp32 model's, measured at export.

    The faces are cut as that space wants them. The cosines are those of each face's two vectors;
    `inputs` says which faces. `pairs` is None where no labelled pairs were at hand.
    least_cosine: below it the variant would not have been offered.
    """

    space: str
    least_cosine: float
    faces: int
    min_cosine: float
    median_cosine: float
    inputs: str
    pairs: PairAccuracy | None


class Variant(_Frozen):
    """The same model in another precision: same inputs, outputs and embedding spaces.

    `recipe` says how it was made from the fp32 model. Only variants that keep the accuracy are in
    a manifest. fidelity: of each of the model's embeddings, in their order.
    """

    precision: Precision
    file: str
    sha256: str
    recipe: str
    fidelity: tuple[Fidelity, ...]


class ModelSpec(_Frozen):
    """One fp32 model file, its variants, and every fact the service needs to run it.

    embeddings: the spaces that its outputs span, the default one first; none for a detector.
    """

    file: str
    sha256: str
    opset: int
    input: ImageInput
    outputs: tuple[TensorSpec, ...]
    source: Source
    verification: Verification
    embeddings: tuple[EmbeddingFacts, ...] = ()
    variants: tuple[Variant, ...] = ()
    recommended_threshold: float | None = None

    @property
    def embedding(self) -> EmbeddingFacts | None:
        """The default embedding; None where the model gives none."""
        return self.embeddings[0] if self.embeddings else None

    @field_validator("embeddings")
    @classmethod
    def _distinct(cls, embeddings: tuple[EmbeddingFacts, ...]) -> tuple[EmbeddingFacts, ...]:
        if len({facts.space for facts in embeddings}) != len(embeddings):
            raise ValueError("two embeddings have one space")
        if len(embeddings) > _MAX_EMBEDDINGS:
            raise ValueError("a model has a default and a compatible embedding, no more")
        return embeddings

    @model_validator(mode="after")
    def _have_outputs(self) -> ModelSpec:
        names = {output.name for output in self.outputs}
        if missing := [facts.output for facts in self.embeddings if facts.output not in names]:
            raise ValueError(f"there is no output {' and no '.join(missing)}")
        return self

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

    schema_version: Literal[2]
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


def embedding_of(spec: ModelSpec, space: str | None) -> EmbeddingFacts:
    """The embedding of a space that a model gives; None asks for the default one.

    Raises:
        ModelError: it gives none of this space.
    """
    found = [facts for facts in spec.embeddings if space in (None, facts.space)]
    if not found:
        raise ModelError(f"{spec.file} does not declare the embedding {space or 'that it gives'}")
    return found[0]


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
