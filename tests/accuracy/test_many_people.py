"""Hundreds of people in one tenant: each comes together, and hardly any with another."""

from __future__ import annotations

import asyncio
import statistics

import numpy as np
import pytest

from bench.accuracy.joining import Clustering, join_one_by_one, judge
from bench.accuracy.people import LabelledFace, Labels, Vectors, embed, find_faces, open_embedder
from bench.accuracy.population import pairs_of
from bench.common.harness import MODELS
from bench.common.photos import people_folder, photo_paths
from service.runtime.manifest import EmbeddingFacts
from service.runtime.matching import match_rule
from service.runtime.sessions import SessionSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not people_folder().is_dir(),
        reason="no photos of many people: set LFW_DIR to a folder with one folder a person",
    ),
]
ORDERS = 6
PEOPLE = 270


@pytest.fixture(scope="module")
def faces() -> list[LabelledFace]:
    """Some 600 photos of people that nothing was chosen on."""
    people = list(photo_paths(people_folder()).items())[1::2]
    some = dict(people[:: max(1, len(people) // PEOPLE)])
    return asyncio.run(find_faces(some))


@pytest.fixture(scope="module")
def labels(faces: list[LabelledFace]) -> Labels:
    return np.array([face.person for face in faces], np.int64)


def embedded(faces: list[LabelledFace], number: int) -> tuple[EmbeddingFacts, Vectors]:
    session = open_embedder(MODELS, SessionSettings())
    facts = session.spec.embeddings[number]
    return facts, asyncio.run(embed(session, faces, facts))


@pytest.fixture(scope="module")
def default(faces: list[LabelledFace]) -> tuple[EmbeddingFacts, Vectors]:
    return embedded(faces, 0)


@pytest.fixture(scope="module")
def joined(
    faces: list[LabelledFace], labels: Labels, default: tuple[EmbeddingFacts, Vectors]
) -> list[Clustering]:
    facts, vectors = default
    rule = match_rule(facts)
    qualities = np.array([face.quality for face in faces])
    orders = [np.random.default_rng(seed).permutation(len(labels)) for seed in range(ORDERS)]
    return [judge(join_one_by_one(vectors, qualities, order, rule), labels) for order in orders]


def test_a_face_is_found_in_all_but_a_few_photos(faces: list[LabelledFace]) -> None:
    people = list(photo_paths(people_folder()).items())[1::2]
    some = dict(people[:: max(1, len(people) // PEOPLE)])
    assert len(faces) >= 0.995 * sum(map(len, some.values()))


def test_those_who_join_are_one_person_in_every_order(joined: list[Clustering]) -> None:
    assert statistics.fmean(each.precision for each in joined) >= 0.985
    assert min(each.precision for each in joined) >= 0.97


def test_a_person_comes_together_in_every_order(joined: list[Clustering]) -> None:
    assert statistics.fmean(each.recall for each in joined) >= 0.93
    assert min(each.recall for each in joined) >= 0.88


def test_hardly_any_cluster_has_three_people(joined: list[Clustering]) -> None:
    assert max(each.most_people for each in joined) <= 3
    assert sum(each.crowded for each in joined) <= ORDERS // 2


def test_the_default_way_tells_more_people_apart_than_the_compatible_one(
    faces: list[LabelledFace], labels: Labels, default: tuple[EmbeddingFacts, Vectors]
) -> None:
    hits = []
    for facts, vectors in (default, embedded(faces, 1)):
        pairs = pairs_of(vectors, labels, match_rule(facts).cohort)
        hits.append(pairs.hits(pairs.distance(1e-4)))
    assert hits[0] >= hits[1] + 0.1


def test_the_curve_of_the_manifest_holds_for_these_people(
    labels: Labels, default: tuple[EmbeddingFacts, Vectors]
) -> None:
    facts, vectors = default
    assert facts.curve is not None
    pairs = pairs_of(vectors, labels, match_rule(facts).cohort)
    for point in facts.curve.points:
        if point.fmr >= 1e-3:
            assert point.fmr / 2 <= pairs.rate(point.distance) <= point.fmr * 2
            assert abs(pairs.hits(point.distance) - point.tpr) <= 0.05
