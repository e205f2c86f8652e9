"""The arithmetic that every figure goes through."""

from __future__ import annotations

import pytest

from bench.accuracy import ReferenceFace, compare, summarize
from bench.measure import Rate, interleave, percentile, ratio
from service.domain.types import Box
from tests.integration.helpers import person, photo


async def test_contestants_take_turns_after_one_warm_up_each() -> None:
    order: list[str] = []

    def work(name: str):
        async def run() -> int:
            order.append(name)
            return 10

        return run

    rates = await interleave({"a": work("a"), "b": work("b")}, rounds=3)
    assert order == ["a", "b"] * 4
    assert len(rates["a"].samples) == len(rates["b"].samples) == 3


def test_rate_shows_its_median_and_its_extremes() -> None:
    rate = Rate((5.0, 1.0, 3.0))
    assert (rate.median, rate.spread) == (3.0, (1.0, 5.0))


def test_ratio_is_taken_round_by_round() -> None:
    # A machine that slowed down in the second round slowed both alike.
    assert ratio(Rate((10.0, 5.0, 20.0)), Rate((5.0, 2.5, 10.0))) == 2.0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)]
)
def test_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_same_face_elsewhere_and_another_face_here_are_told_apart() -> None:
    found = photo(person(1), person(2))
    boxes = [face.detection.box for face in found.faces]
    same = [ReferenceFace(box, 0.99, person(n)) for n, box in enumerate(boxes, start=1)]
    assert compare("same", same, found).same_faces
    moved = [same[0], ReferenceFace(Box(500, 500, 550, 550), 0.99, person(2))]
    assert not compare("moved", moved, found).same_faces
    assert not compare("one more", same[:1], found).same_faces
    rows = [compare("same", same, found), compare("moved", moved, found)]
    summary = summarize(rows)
    assert summary["photos_with_the_same_faces"] == 1
    assert summary["share_with_cosine_0.99"] == 0.75
