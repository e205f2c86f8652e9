"""Centre, cohort and curve of a space, measured on labelled people and recorded for the export.

The centre and the cohort come from the people that choices are made on, the curve from the others.
`python -m bench accuracy --record` writes them beside the export's code; an export puts them into
the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.accuracy.people import (
    LabelledFace,
    Labels,
    PairDistances,
    Vectors,
    embed,
    find_faces,
    open_embedder,
)
from bench.common.photos import people_folder, photo_paths
from export.embedders import centre, curves, records
from service.domain.matching import Cohort
from service.runtime.manifest import DistanceCurve, EmbeddingFacts, OperatingPoint
from service.runtime.matching import false_match_curve, store_cohort
from service.runtime.sessions import ModelSession, SessionSettings

_POPULATION = (
    "Labeled Faces in the Wild, development part: news photos of public figures, 2002-2003"
)
# Chosen by the precision and recall of joining on quarters of the people: of 16 to 160 centres for
# 500 people, weights of 0 to 1.6 and temperatures of 0.05 to 0.25 (docs/experiments.md).
_CENTRES = 128
_LEAST_PEOPLE = 3
_TEMPERATURE = 0.1
_WEIGHT = 1.1
# Of pairs, in the smallest tenant: two look-alikes of the shared photos stay apart in every light.
# In compatible mode they do not in any case, and few people are better served by more joins.
_MAX_FMR, _COMPATIBLE_MAX_FMR = {"facenet": 3e-5, "sface": 2e-5}, 1e-3
# The largest of 0.05 to 3 % at which faces of the first half, with cohorts of other people, joined
# with a precision above 0.99 (FaceNet) and 0.9998 (SFace).
_MAX_WRONG_JOINS = {"facenet": 0.01, "facenet_compatible": 0.0075, "sface": 0.0005}
_FEWEST_MATCHES = 3
_STEP = 0.01
_HIGHEST_FMR = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """Faces that parameters are chosen on, and faces for the results: bool [n] each."""

    chosen_on: NDArray[np.bool_]
    reported_on: NDArray[np.bool_]

    @classmethod
    def of(cls, people: Labels) -> Halves:
        """By the place of each person in the order of the names."""
        return cls(people % 2 == 0, people % 2 == 1)


def means_of_people(vectors: Vectors, people: Labels) -> NDArray[np.float64]:
    """The mean vector of each person: float64 [people, dimension]."""
    wide = vectors.astype(np.float64)
    return np.stack([wide[people == person].mean(axis=0) for person in np.unique(people)])


def make_cohort(vectors: Vectors, people: Labels) -> tuple[Cohort, int]:
    """The cohort of some people's faces, and the fewest people behind one of its centres.

    A centre is the mean over a group of people who look alike to the network (k-means over one
    vector a person), so that nobody's own vector is in it.
    """
    means = means_of_people(vectors, people)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cv2.setRNGSeed(1)
    ends = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
    wanted = min(_CENTRES, len(means) // 8)
    _, group_of, found = cv2.kmeans(
        means.astype(np.float32), wanted, np.empty(0), ends, 5, cv2.KMEANS_PP_CENTERS
    )
    sizes = np.bincount(group_of[:, 0], minlength=wanted)
    centres = np.asarray(found, np.float32)[sizes >= _LEAST_PEOPLE]
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    plain = Cohort(centres, _TEMPERATURE, 0.0, _WEIGHT)
    typical = float(plain.density(vectors.astype(np.float64)).mean())
    return Cohort(centres, _TEMPERATURE, typical, _WEIGHT), int(sizes[sizes >= _LEAST_PEOPLE].min())


def pairs_of(vectors: Vectors, people: Labels, cohort: Cohort | None) -> PairDistances:
    """All pairs, with the distances of the match rule."""
    if cohort is None:
        return PairDistances.of(vectors, people)
    excess = cohort.weight * cohort.density(vectors.astype(np.float64)) / 2
    return PairDistances.of(vectors, people, excess)


def curve_of(pairs: PairDistances, people: Labels) -> DistanceCurve:
    """The curve of a population, from the distance at which a few pairs of strangers match."""
    strangers = int(pairs.strangers.sum())
    first = pairs.distance(_FEWEST_MATCHES / strangers)
    last = pairs.distance(_HIGHEST_FMR)
    points = []
    for distance in np.arange(np.ceil(first / _STEP) * _STEP, last + _STEP, _STEP):
        low, high = pairs.band(float(distance))
        points.append(
            OperatingPoint(
                distance=round(float(distance), 4),
                fmr=float(f"{pairs.rate(float(distance)):.4g}"),
                fmr_low=float(f"{low:.3g}"),
                fmr_high=float(f"{high:.3g}"),
                tpr=round(pairs.hits(float(distance)), 5),
            )
        )
    return DistanceCurve(
        population=_POPULATION,
        people=len(np.unique(people)),
        faces=len(people),
        stranger_pairs=strangers,
        same_person_pairs=int(pairs.same.sum()),
        points=tuple(points),
    )


async def record(models: Path) -> list[Path]:
    """Find the faces of all people, and record the measurements of an embedder.

    Returns the written files. Export the models again afterwards.
    """
    return await record_faces(models, await find_faces(photo_paths(people_folder())))


async def record_faces(models: Path, faces: Sequence[LabelledFace]) -> list[Path]:
    """Measure the embedder of a folder of models in fp32, and record the result."""
    people = np.array([face.person for face in faces], np.int64)
    session = open_embedder(models, SessionSettings(precision="fp32"))
    written = []
    default = session.spec.embeddings[0]
    if "centred" in default.space:
        default, path = await _record_centre(session, faces, people)
        written.append(path)
    spaces = (default, *session.spec.embeddings[1:])
    return written + [await _record_curve(session, faces, people, each) for each in spaces]


async def _record_centre(
    session: ModelSession, faces: Sequence[LabelledFace], people: Labels
) -> tuple[EmbeddingFacts, Path]:
    """Returns the facts of the space that the new centre makes."""
    default, plain = session.spec.embeddings
    vectors = await embed(session, faces, default, output=plain.output)
    half = Halves.of(people).chosen_on
    means = means_of_people(vectors[half], people[half])
    found = centre.Centre(
        weights=plain.space,
        margin=default.crop.margin,
        population=_POPULATION,
        people=len(means),
        faces=int(half.sum()),
        mean=tuple(float(str(value)) for value in means.mean(axis=0).astype(np.float32)),
    )
    space = f"{default.space.rsplit('-', 1)[0]}-{found.digest}"
    return default.model_copy(update={"space": space}), centre.save(found)


async def _record_curve(
    session: ModelSession, faces: Sequence[LabelledFace], people: Labels, facts: EmbeddingFacts
) -> Path:
    halves = Halves.of(people)
    vectors = await _vectors(session, faces, facts)
    is_default = facts.output == session.spec.embeddings[0].output
    cohort, least = None, 0
    if is_default:
        cohort, least = make_cohort(vectors[halves.chosen_on], people[halves.chosen_on])
    some = halves.reported_on
    pairs = pairs_of(vectors[some], people[some], cohort)
    curve = curve_of(pairs, people[some])
    kind = session.spec.file.partition(".")[0]
    max_fmr = _MAX_FMR[kind] if is_default else _COMPATIBLE_MAX_FMR
    return curves.save(
        curves.Curve(
            space=facts.space,
            recommended_max_fmr=max_fmr,
            recommended_max_distance=round(false_match_curve(curve).distance(max_fmr), 4),
            recommended_max_wrong_joins=_MAX_WRONG_JOINS[
                kind if is_default else f"{kind}_compatible"
            ],
            curve=curve,
            cohort=None
            if cohort is None
            else store_cohort(cohort, _POPULATION, len(np.unique(people[halves.chosen_on])), least),
        )
    )


async def _vectors(
    session: ModelSession, faces: Sequence[LabelledFace], facts: EmbeddingFacts
) -> Vectors:
    """Vectors of a space, also of one whose centre is not in the graph yet."""
    recorded = next(
        (
            each
            for each in records.read_all(centre.FOLDER, centre.Centre)
            if facts.space.endswith(each.digest)
        ),
        None,
    )
    if recorded is None:
        return await embed(session, faces, facts)
    plain = await embed(session, faces, facts, output=session.spec.embeddings[1].output)
    vectors = plain - recorded.vector
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
