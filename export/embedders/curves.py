"""Match rates by distance for each space: measured once over all pairs of people, recorded."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from export.embedders import records
from export.errors import RecordError
from service.runtime.manifest import CohortSpec, DistanceCurve, EmbeddingFacts, FaceCrop

FOLDER = Path(__file__).parents[1] / "curves"

# For a space without a curve. On the 300 labelled pairs over deepface's test photographs 0.60 to
# 0.65 separates FaceNet's vectors; this keeps a margin towards strangers.
DEFAULT_MAX_DISTANCE = 0.5
DEFAULT_MAX_FMR = 1e-3


class Curve(BaseModel):
    """The curve of one space, its cohort, and the recommended operating point.

    recommended_max_fmr: the largest share of pairs of strangers within the limit.
    recommended_max_distance: the distance of that share on the curve.
    recommended_max_wrong_joins: see `EmbeddingFacts`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str
    recommended_max_fmr: float
    recommended_max_distance: float
    recommended_max_wrong_joins: float
    curve: DistanceCurve
    cohort: CohortSpec | None


def tracked(space: str) -> Curve | None:
    """The recorded curve of a space, or None.

    Raises:
        RecordError: a recorded file cannot be read.
    """
    found = (curve for curve in records.read_all(FOLDER, Curve) if curve.space == space)
    return next(found, None)


def facts(space: str, crop: FaceCrop, output: str, dimension: int) -> EmbeddingFacts:
    """The manifest's entry of a space, with its recorded curve if there is one.

    Raises:
        RecordError: a recorded file cannot be read.
    """
    recorded = tracked(space)
    if recorded is not None:
        return EmbeddingFacts(
            output=output,
            space=space,
            dimension=dimension,
            metric="cosine",
            crop=crop,
            recommended_max_distance=recorded.recommended_max_distance,
            recommended_max_fmr=recorded.recommended_max_fmr,
            recommended_max_wrong_joins=recorded.recommended_max_wrong_joins,
            curve=recorded.curve,
            cohort=recorded.cohort,
        )
    return EmbeddingFacts(
        output=output,
        space=space,
        dimension=dimension,
        metric="cosine",
        crop=crop,
        recommended_max_distance=DEFAULT_MAX_DISTANCE,
        recommended_max_fmr=DEFAULT_MAX_FMR,
    )


def save(curve: Curve) -> Path:
    """Record a curve under the name of its space, in place of an earlier one.

    Raises:
        RecordError: the folder cannot be written.
    """
    path = FOLDER / f"{curve.space.replace('/', '_')}.json"
    try:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(curve.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise RecordError(f"'{path}' cannot be written: {error.strerror}") from error
    return path
