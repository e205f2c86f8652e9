"""Two photos compared: distances as an insert measures them, and verdicts that admit doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.matching import ClusterQuery, Cohort, DistanceLimit, FalseMatchCurve, MatchRule
from service.domain.search import MAX_COMPARED_FACES, Comparison
from service.domain.types import AnalyzedPhoto, Embedding, ModelSpace, TenantId
from service.store.database.database import Database
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto
from service.usecases.recognize import Recognize
from tests.support.analysed import GOOD, MadeUpAnalyzer, near, person, photo

SPACE = ModelSpace("made-up/1")
CURVE = FalseMatchCurve((0.2, 0.6), (1e-6, 1e-2))
# A good face joins within 0.4, one at the least quality within 0.27.
RULE = MatchRule(DistanceLimit(0.5, CURVE, max_fmr=1e-4))


def with_scores(of: AnalyzedPhoto, *scores: float) -> AnalyzedPhoto:
    faces = tuple(
        replace(face, quality=replace(GOOD, score=score))
        for face, score in zip(of.faces, scores, strict=True)
    )
    return replace(of, faces=faces)


async def compare(a: AnalyzedPhoto, b: AnalyzedPhoto, rule: MatchRule = RULE) -> Comparison:
    recognize = Recognize(
        MadeUpAnalyzer({b"a": a, b"b": b}), space=SPACE, dimension=512, rule=rule, min_quality=0.4
    )
    return await recognize.compare(source(b"a"), source(b"b"), StageClock(), free_ticket())


async def test_all_pairs_of_faces_are_compared_the_largest_first() -> None:
    anna, berta, carla = person(1), person(2), person(3)
    found = await compare(photo(anna, berta), photo(carla, near(anna, 0.1, 901), anna))
    assert [(pair.a, pair.b) for pair in found.pairs] == [
        *((0, 0), (0, 1), (0, 2)),
        *((1, 0), (1, 1), (1, 2)),
    ]
    same = {(pair.a, pair.b) for pair in found.pairs if pair.verdict == "same"}
    assert same == {(0, 1), (0, 2)}
    assert found.pairs[1].distance == pytest.approx(0.1, abs=1e-3)
    assert found.pairs[2].distance == pytest.approx(0.0, abs=1e-3)
    assert found.pairs[2].similarity > 0.99
    assert found.pairs[0].similarity < 0.01
    assert (len(found.photo_a.faces), len(found.photo_b.faces)) == (2, 3)
    assert found.space == SPACE


@pytest.mark.parametrize(
    ("distance", "verdict"),
    [(0.0, "same"), (0.39, "same"), (0.41, "unsure"), (0.59, "unsure"), (0.62, "different")],
)
async def test_a_pair_between_same_and_different_is_unsure(distance: float, verdict: str) -> None:
    found = await compare(photo(person(1)), photo(near(person(1), distance, 901)))
    assert found.pairs[0].verdict == verdict


async def test_a_poor_face_makes_a_pair_unsure_whatever_the_distance() -> None:
    for distance in (0.0, 0.3, 1.0):
        one, other = photo(person(1)), photo(near(person(1), distance, 901))
        for scores in ((1.0, 0.39), (0.39, 1.0), (0.0, 0.0)):
            found = await compare(with_scores(one, scores[0]), with_scores(other, scores[1]))
            assert found.pairs[0].verdict == "unsure"


async def test_a_face_of_little_quality_needs_to_be_nearer() -> None:
    one, other = photo(person(1)), photo(near(person(1), 0.35, 901))
    good = (await compare(one, other)).pairs[0]
    doubted = (await compare(one, with_scores(other, 0.4))).pairs[0]
    assert (good.verdict, doubted.verdict) == ("same", "unsure")
    assert doubted.max_distance < good.max_distance
    assert good.similarity > 0.5 > doubted.similarity


async def test_only_the_largest_faces_are_compared() -> None:
    crowded = photo(*(person(n) for n in range(MAX_COMPARED_FACES + 3)))
    found = await compare(crowded, photo(person(0)))
    assert len(found.pairs) == len(found.photo_a.faces) == MAX_COMPARED_FACES
    assert [pair.verdict for pair in found.pairs[:2]] == ["same", "different"]


async def test_a_photo_without_faces_is_compared_with_nothing() -> None:
    for one, other in (
        (photo(), photo(person(1))),
        (photo(person(1)), photo()),
        (photo(), photo()),
    ):
        found = await compare(one, other)
        assert found.pairs == ()
        assert len(found.photo_a.faces) == len(one.faces)


def cohort_rule() -> MatchRule:
    centres = np.stack([person(n) for n in range(90, 98)])
    return MatchRule(RULE.limit, Cohort(centres, 0.1, 0.05, 1.1))


@pytest.mark.parametrize("distance", [0.1, 0.35, 0.38, 0.42])
@pytest.mark.parametrize("rule", [RULE, cohort_rule()], ids=["plain", "cohort"])
async def test_two_photos_are_the_same_where_the_second_would_join_the_first(
    database: Database, rule: MatchRule, distance: float
) -> None:
    tenant = TenantId("tenant")
    one, other = person(1), near(person(1), distance, 901)
    (pair,) = (await compare(photo(one), photo(other), rule)).pairs
    analyzer = MadeUpAnalyzer()
    repository = Repository(database, SearchSettings())
    ingest = IngestPhoto(
        analyzer,
        repository,
        None,
        space=SPACE,
        rule=rule,
        min_quality=0.4,
        on_face=lambda matched: None,
    )
    await ingest(tenant, source(analyzer.add(one)), StageClock(), free_ticket())
    async with repository.inserting(tenant, ClusterQuery((other,), SPACE, rule)) as (_, found):
        ((candidate,),) = found.of_faces
    assert pair.max_distance == found.max_distances[0]
    assert pair.distance == pytest.approx(candidate.distance, abs=1e-9)
    assert (pair.verdict == "same") == (candidate.distance <= found.max_distances[0])


@given(seed=st.integers(0, 50), distance=st.floats(0, 1.2))
async def test_the_order_of_the_photos_does_not_matter(seed: int, distance: float) -> None:
    one: Embedding = person(seed)
    other = near(one, distance, seed + 1000)
    there = (await compare(photo(one), photo(other), cohort_rule())).pairs[0]
    back = (await compare(photo(other), photo(one), cohort_rule())).pairs[0]
    assert back.distance == pytest.approx(there.distance, abs=1e-3)
