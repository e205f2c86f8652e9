"""The match rule of an embedding: what the manifest says, and what an operator asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.domain.errors import ModelError
from service.domain.matching import Cohort
from service.runtime.manifest import EmbeddingFacts, load_manifest
from service.runtime.matching import false_match_curve, match_rule, open_cohort, store_cohort

PEOPLE = (1, 10, 100, 1_000, 10_000, 100_000)


@pytest.fixture(params=[0, 1], ids=["default", "compatible"])
def facts(models_dir: Path, request: pytest.FixtureRequest) -> EmbeddingFacts:
    found: EmbeddingFacts = load_manifest(models_dir).models["embedder"].embeddings[request.param]
    return found


@pytest.fixture
def without_curve(facts: EmbeddingFacts) -> EmbeddingFacts:
    return facts.model_copy(update={"curve": None})


def limits(rule_facts: EmbeddingFacts, **asked: float) -> list[float]:
    limit = match_rule(rule_facts, **asked).limit
    return [limit.at(people) for people in PEOPLE]


def wrong_joins(facts: EmbeddingFacts, **asked: float) -> list[float]:
    """The chance that a stranger joins one of so many people."""
    limit = match_rule(facts, **asked).limit
    return [1 - (1 - limit.rate_at(people)) ** people for people in PEOPLE]


def test_a_distance_asked_for_holds_in_tenants_of_all_sizes(facts: EmbeddingFacts) -> None:
    assert limits(facts, max_distance=0.37) == [0.37] * len(PEOPLE)


def test_a_distance_asked_for_goes_before_the_rates(facts: EmbeddingFacts) -> None:
    found = limits(facts, max_distance=0.37, max_fmr=1e-4, max_wrong_joins=0.1)
    assert found == [0.37] * len(PEOPLE)


def test_a_rate_asked_for_alone_gives_a_limit_that_stays(facts: EmbeddingFacts) -> None:
    assert facts.curve is not None
    found = limits(facts, max_fmr=1e-4)
    assert found == [false_match_curve(facts.curve).distance(1e-4)] * len(PEOPLE)


def test_a_higher_rate_is_a_larger_distance(facts: EmbeddingFacts) -> None:
    found = [limits(facts, max_fmr=rate)[0] for rate in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)]
    assert found == sorted(set(found))


def test_a_chance_asked_for_falls_with_the_people_and_stays_what_it_is(
    facts: EmbeddingFacts,
) -> None:
    asked = {"max_fmr": 1e-3, "max_wrong_joins": 1e-3}  # the rate binds nowhere
    found = limits(facts, **asked)
    assert found == sorted(set(found), reverse=True)
    assert wrong_joins(facts, **asked) == pytest.approx([1e-3] * len(PEOPLE))


def test_a_rate_beside_a_chance_is_the_most_that_a_small_tenant_gets(
    facts: EmbeddingFacts,
) -> None:
    limit = match_rule(facts, max_fmr=1e-4, max_wrong_joins=1e-2).limit
    assert limit.rate_at(1) == limit.rate_at(10) == limit.rate_at(100) == 1e-4
    assert limit.rate_at(10_000) == pytest.approx(1e-6, rel=0.01)


def test_nothing_asked_for_is_what_the_manifest_recommends(facts: EmbeddingFacts) -> None:
    assert limits(facts) == limits(
        facts,
        max_fmr=facts.recommended_max_fmr,
        max_wrong_joins=facts.recommended_max_wrong_joins,
    )
    assert limits(facts)[0] == pytest.approx(facts.recommended_max_distance, abs=1e-3)
    assert max(wrong_joins(facts)) <= facts.recommended_max_wrong_joins * (1 + 1e-9)
    assert limits(facts)[-1] < limits(facts)[0]


def test_without_a_curve_the_recommended_distance_holds(without_curve: EmbeddingFacts) -> None:
    assert limits(without_curve) == [without_curve.recommended_max_distance] * len(PEOPLE)
    assert limits(without_curve, max_distance=0.2) == [0.2] * len(PEOPLE)


@pytest.mark.parametrize("asked", ["max_fmr", "max_wrong_joins"])
def test_a_rate_asked_for_without_a_curve_is_an_error_with_the_remedy(
    without_curve: EmbeddingFacts, asked: str
) -> None:
    with pytest.raises(ModelError, match=r"no false match rates of .*set match\.max_distance"):
        match_rule(without_curve, **{asked: 1e-3})


@pytest.mark.parametrize("people", PEOPLE)
def test_a_face_of_low_quality_is_to_be_nearer(facts: EmbeddingFacts, people: int) -> None:
    limit = match_rule(facts).limit
    limits = [limit.at(people, doubt) for doubt in (1, 0.5, 0)]
    assert limits == sorted(set(limits))
    assert limits[-1] == limit.at(people)
    assert facts.curve is not None
    assert limits[0] == false_match_curve(facts.curve).distance(limit.rate_at(people) / 20)


def test_a_distance_asked_for_holds_for_faces_of_low_quality_too(facts: EmbeddingFacts) -> None:
    assert match_rule(facts, max_distance=0.37).limit.at(10, 1) == 0.37


def test_points_without_a_false_match_are_no_rate(facts: EmbeddingFacts) -> None:
    assert facts.curve is not None
    first = facts.curve.points[0]
    nothing = first.model_copy(update={"distance": first.distance / 2, "fmr": 0.0})
    longer = facts.curve.model_copy(update={"points": (nothing, *facts.curve.points)})
    assert false_match_curve(longer) == false_match_curve(facts.curve)


def a_cohort(dimension: int = 512) -> Cohort:
    centres = np.random.default_rng(3).standard_normal((16, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return Cohort(centres.astype(np.float32), temperature=0.1, typical=0.17, weight=1.1)


@pytest.mark.parametrize("dimension", [128, 512])
def test_a_cohort_is_read_from_a_manifest_as_it_was_stored(dimension: int) -> None:
    cohort = a_cohort(dimension)
    spec = store_cohort(cohort, "made up", people=80, least_people=3)
    assert (spec.population, spec.people, spec.least_people) == ("made up", 80, 3)
    found = open_cohort(spec, dimension)
    assert (found.temperature, found.typical, found.weight) == (0.1, 0.17, 1.1)
    assert (found.centres.shape, found.centres.dtype) == ((16, dimension), np.float32)
    np.testing.assert_allclose(found.centres, cohort.centres, rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1, rtol=0, atol=1e-6)
    probes = a_cohort(dimension).centres[:, ::-1].astype(np.float64)
    np.testing.assert_allclose(found.density(probes), cohort.density(probes), rtol=0, atol=1e-3)


@pytest.mark.parametrize("asked", [{}, {"max_distance": 0.4}, {"max_fmr": 1e-4}])
def test_scores_are_normalised_where_the_manifest_has_a_cohort(
    facts: EmbeddingFacts, asked: dict[str, float]
) -> None:
    spec = store_cohort(a_cohort(), "made up", people=80, least_people=3)
    with_one = match_rule(facts.model_copy(update={"cohort": spec}), **asked).cohort
    assert with_one is not None
    np.testing.assert_allclose(with_one.centres, a_cohort().centres, rtol=0, atol=1e-3)
    assert match_rule(facts.model_copy(update={"cohort": None}), **asked).cohort is None
