"""The match rule of an embedding: what its manifest says, and what an operator asks for."""

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
        max_distance: the largest distance, in tenants of all sizes; 0 for what the rates give.
        max_fmr: the largest share of strangers within the limit, in tenants of all sizes unless
            `max_wrong_joins` is given, too; 0 for what the manifest recommends.
        max_wrong_joins: the largest chance that a stranger is within the limit of somebody in the
            tenant; 0 for what the manifest recommends.

    Raises:
        ModelError: a rate is asked for, and the manifest has no curve of the embedding.
    """
    cohort = None if facts.cohort is None else open_cohort(facts.cohort, facts.dimension)
    if max_distance:
        return MatchRule(DistanceLimit(max_distance), cohort)
    if facts.curve is None:
        if max_fmr or max_wrong_joins:
            raise ModelError(
                f"the manifest has no false match rates of {facts.space}: "
                "set match.max_distance in the place of match.max_fmr and match.max_wrong_joins"
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
    """The false match rates of a curve; points without a false match say nothing of a rate."""
    points = [point for point in curve.points if point.fmr > 0]
    return FalseMatchCurve(
        tuple(point.distance for point in points), tuple(point.fmr for point in points)
    )


def open_cohort(spec: CohortSpec, dimension: int) -> Cohort:
    """A cohort from the text of a manifest."""
    stored = np.frombuffer(base64.b64decode(spec.centres), "<f2").reshape(-1, dimension)
    centres = stored.astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return Cohort(centres, spec.temperature, spec.typical, spec.weight)


def store_cohort(cohort: Cohort, population: str, people: int, least_people: int) -> CohortSpec:
    """A cohort as a manifest has it: its centres in half precision.

    Args:
        population: whose faces it is made of, in a phrase.
        people: how many people they are; least_people: the fewest behind one centre.
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
