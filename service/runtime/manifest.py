"""The contract between the export and the service: a description of each model file."""

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

# The default embedding and the compatible one.
_MAX_EMBEDDINGS = 2


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Frozen):
    """One graph input or output; a named dimension (a string in `shape`) is dynamic."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | str, ...]


class ImageInput(TensorSpec):
    """The image input of a model, with the meaning of its pixels."""

    layout: Literal["NHWC", "NCHW"]
    color: Literal["RGB"]
    value_range: tuple[int, int]


class Source(_Frozen):
    """The origin and the licences of the weights."""

    weights: str
    package: str
    url: str
    weights_sha256: str
    code_licence: str
    weights_licence: str


class Verification(_Frozen):
    """Largest absolute differences against the PyTorch module, measured at export.

    `max_abs_difference` has one entry for each output; `inputs` describes the inputs.
    """

    tolerance: float
    max_abs_difference: dict[str, float]
    inputs: str


class FaceCrop(_Frozen):
    """How a face is cut out for the network.

    kind: `box`, the detector's box resized by area, or `landmarks`, the five points mapped to a
        template by the similarity transform of the best fit.
    size: the side of the square input, in pixels.
    margin: the factor for the sides of the detector's box (box).
    fill: the part of the box outside the photo (box). `black` fills it; `clip` removes it and
        stretches the rest, as facenet-pytorch does.
    template: (x, y) of the left eye, the right eye, the nose, and the left and right corner of the
        mouth, as seen in the picture, in pixels of the crop (landmarks). The fit is Umeyama's,
        Least-Squares Estimation of Transformation Parameters Between Two Point Patterns, 1991.
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
    """The shares of stranger pairs (FMR) and of same-person pairs (TPR) within one distance.

    fmr_low, fmr_high: the 95 % interval of the FMR.
    """

    distance: float
    fmr: float
    fmr_low: float
    fmr_high: float
    tpr: float


class DistanceCurve(_Frozen):
    """The rates of stranger and same-person pairs by distance, over all pairs of a population.

    points: in order of ascending distance.
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
    """The cohort that normalises scores, see `service.domain.matching.Cohort`.

    population: the origin of the faces.
    people: the number of people, `least_people` or more behind each centre.
    centres: base64 of float16 [k, dimension], little-endian, unit vectors.
    """

    population: str
    people: int
    least_people: int
    centres: str
    temperature: float
    typical: float
    weight: float


class EmbeddingFacts(_Frozen):
    """The meaning of the vectors of one output of a model.

    Distances are cosine distances, 0 to 2.

    space: identifies the weights, the crop, and the steps of the graph after the network. Vectors
        can be compared if and only if their spaces are equal.
    output: the output of the graph that holds the vectors.
    curve: the rates by the distance that the match rule measures between two faces; None if they
        were not measured.
    recommended_max_distance, recommended_max_fmr: the limit in a small tenant, as a distance and as
        a rate.
    recommended_max_wrong_joins: the chance that a stranger joins a person of the tenant. It gives
        the limit in larger tenants.
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
    """The similarity of a variant's vectors of one space to the fp32 model's, measured at export.

    Each cosine compares the two vectors of one face, in the crop of the space.

    least_cosine: the export offers no variant with a cosine below this.
    inputs: describes the faces.
    pairs: None if there were no labelled pairs.
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

    A manifest has only variants that keep the accuracy.

    recipe: describes the conversion from the fp32 model.
    fidelity: one entry for each embedding of the model, in their order.
    """

    precision: Precision
    file: str
    sha256: str
    recipe: str
    fidelity: tuple[Fidelity, ...]


class ModelSpec(_Frozen):
    """One fp32 model file, its variants, and all facts that the service needs to run it.

    embeddings: one for each space of the outputs, the default one first; empty for a detector.
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
        """The default embedding; None for a model without embeddings."""
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
        """All entries with a file: the fp32 model, then its variants."""
        return (self, *self.variants)


class ScreenSpec(_Frozen):
    """An eight-bit copy of a network that chooses its inputs, and the measurement of its errors.

    The inputs are the cells of P-Net, and the crops of R-Net.

    margin: in logits; inputs further below the network's threshold are left out.
    threshold: the probability that was the network's threshold in the measurement.
    cells, passing_cells: the numbers of inputs that were measured, and that the network accepts.
    looked_at: the number of inputs that are not left out.
    worst_shortfall: the largest distance of the screen's logit of a passing input below the
        threshold. It must be well within the margin. None if there was no photograph.
    """

    file: str
    sha256: str
    margin: float
    threshold: float
    cells: int
    passing_cells: int
    looked_at: int
    worst_shortfall: float | None
    inputs: str


class Manifest(_Frozen):
    """`models/manifest.json`: the four models and the recipe that made them.

    screen, rnet_screen: of P-Net and of R-Net.
    """

    schema_version: Literal[2]
    # The request of the export, which a later export repeats: a name or the path of a file.
    weights: str
    download: bool
    fingerprint: str
    tools: dict[str, str]
    models: dict[ModelName, ModelSpec]
    screen: ScreenSpec | None = None
    rnet_screen: ScreenSpec | None = None

    @property
    def files(self) -> list[ModelSpec | Variant | ScreenSpec]:
        """All entries with a file."""
        screens = [each for each in (self.screen, self.rnet_screen) if each is not None]
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
        ModelError: the manifest is missing, unreadable or of another schema.
    """
    path = directory / MANIFEST_NAME
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: run `facette export` first") from None
    except (OSError, ValueError, ValidationError) as error:
        raise ModelError(f"{path} cannot be used ({error}): run `facette export` again") from error


def embedding_of(spec: ModelSpec, space: str | None) -> EmbeddingFacts:
    """The embedding of a model that has a space; None for the default embedding.

    Raises:
        ModelError: the model has no embedding of this space.
    """
    found = [facts for facts in spec.embeddings if space in (None, facts.space)]
    if not found:
        raise ModelError(f"{spec.file} does not declare the embedding {space or 'that it gives'}")
    return found[0]


def check_file(directory: Path, spec: ModelSpec | Variant | ScreenSpec) -> Path:
    """The path of a model file whose hash is the manifest's.

    Raises:
        ModelError: the file is missing, or its hash is another one.
    """
    path = directory / spec.file
    if not path.is_file():
        raise ModelError(f"{path} is missing: run `facette export` again")
    if file_sha256(path) != spec.sha256:
        raise ModelError(
            f"{path} is not the file its manifest describes: run `facette export` again"
        )
    return path
