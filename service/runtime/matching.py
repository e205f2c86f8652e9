"""The match rule of an embedding, from its manifest and the settings."""

from __future__ import annotations

import base64

import numpy as np

from service.domain.errors import ModelError
from service.domain.matching import Cohort, DistanceLimit, FalseMatchCurve, MatchRule
from service.runtime.manifest import CohortSpec, DistanceCurve, EmbeddingFacts


def match_rule(
    facts: EmbeddingFacts,
    *,
    max_distance: float = 0.0,
    max_fmr: float = 0.0,
    max_wrong_joins: float = 0.0,
) -> MatchRule:
    """The rule by which faces of an embedding join clusters.

    Args:
        max_distance: the largest distance, in tenants of all sizes; 0 for the limit by the rates.
        max_fmr: the largest share of strangers within the limit; 0 for the manifest's
            recommendation. It holds in tenants of all sizes unless `max_wrong_joins` is given, too.
        max_wrong_joins: the largest chance that a stranger is within the limit of any person of the
            tenant; 0 for the manifest's recommendation.

    Raises:
        ModelError: a rate is given, but the manifest has no curve of the embedding.
    """
    cohort = None if facts.cohort is None else open_cohort(facts.cohort, facts.dimension)
    if max_distance:
        return MatchRule(DistanceLimit(max_distance), cohort)
    if facts.curve is None:
        if max_fmr or max_wrong_joins:
            raise ModelError(
                f"the manifest has no false match rates of {facts.space}: "
                "set match.max_distance instead of match.max_fmr and match.max_wrong_joins"
            )
        return MatchRule(DistanceLimit(facts.recommended_max_distance), cohort)
    stays = max_fmr > 0 and not max_wrong_joins
    limit = DistanceLimit(
        facts.recommended_max_distance,
        false_match_curve(facts.curve),
        max_fmr or facts.recommended_max_fmr,
        1.0 if stays else max_wrong_joins or facts.recommended_max_wrong_joins,
    )
    return MatchRule(limit, cohort)


def false_match_curve(curve: DistanceCurve) -> FalseMatchCurve:
    """The false match rates of a curve, without the points that had no false match."""
    points = [point for point in curve.points if point.fmr > 0]
    return FalseMatchCurve(
        tuple(point.distance for point in points), tuple(point.fmr for point in points)
    )


def open_cohort(spec: CohortSpec, dimension: int) -> Cohort:
    """The cohort of a manifest entry."""
    stored = np.frombuffer(base64.b64decode(spec.centres), "<f2").reshape(-1, dimension)
    centres = stored.astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return Cohort(centres, spec.temperature, spec.typical, spec.weight)


def store_cohort(cohort: Cohort, population: str, people: int, least_people: int) -> CohortSpec:
    """The manifest entry of a cohort, with the centres in half precision.

    Args:
        population: a phrase for the origin of the faces.
        people: the number of people.
        least_people: the smallest number of people behind one centre.
    """
    stored = cohort.centres.astype("<f2").tobytes()
    return CohortSpec(
        population=population,
        people=people,
        least_people=least_people,
        centres=base64.b64encode(stored).decode("ascii"),
        temperature=cohort.temperature,
        typical=cohort.typical,
        weight=cohort.weight,
    )
