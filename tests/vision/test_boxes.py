"""Suppression against plain references, and boxes at and beyond the photo's edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.vision.boxes import (
    nms,
    nms_by_smaller,
    nms_within_groups,
    refine,
    square,
    windows,
)

Boxes = NDArray[np.float32]
Box = tuple[int, int, int, int]


@st.composite
def whole_boxes(draw: st.DrawFn) -> list[Box]:
    """Boxes on whole pixels, so that every area is exact; crowded, so that they overlap."""
    corner, side = st.integers(0, 12), st.integers(0, 10)
    return [
        (x, y, x + w, y + h)
        for x, y, w, h in draw(st.lists(st.tuples(corner, corner, side, side), max_size=14))
    ]


def array(boxes: list[Box]) -> Boxes:
    return np.array(boxes, np.float32).reshape(-1, 4)


def share(shared: int, base: int) -> float:
    # As torchvision: a float32 quotient, compared with a float64 threshold.
    return float(np.float32(shared) / np.float32(base))


def overlap_by_union(a: Box, b: Box) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return share(shared, union) if union else 0.0


def overlap_by_smaller(a: Box, b: Box) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0) * max(
        min(a[3], b[3]) - max(a[1], b[1]) + 1, 0
    )
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return share(shared, min(areas))


def reference(
    boxes: list[Box],
    scores: list[float],
    threshold: float,
    overlap: Callable[[Box, Box], float],
) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize(
    ("suppress", "overlap"),
    [(nms, overlap_by_union), (nms_by_smaller, overlap_by_smaller)],
    ids=["union", "smaller"],
)
def test_suppression_keeps_what_the_plain_rule_keeps(
    suppress: Callable[[Boxes, NDArray[np.float32], float], NDArray[np.int64]],
    overlap: Callable[[Box, Box], float],
) -> None:
    @settings(max_examples=200, deadline=None)
    @given(boxes=whole_boxes(), threshold=st.sampled_from([0.3, 0.5, 0.7]), data=st.data())
    def check(boxes: list[Box], threshold: float, data: st.DataObject) -> None:
        ranks = data.draw(st.permutations(range(len(boxes))))
        scores = [(rank + 1) / 32 for rank in ranks]
        kept = suppress(array(boxes), np.array(scores, np.float32), threshold)
        assert kept.tolist() == reference(boxes, scores, threshold, overlap)

    check()


@pytest.mark.parametrize("suppress", [nms, nms_by_smaller])
def test_equal_scores_keep_one_of_each_heap(
    suppress: Callable[[Boxes, NDArray[np.float32], float], NDArray[np.int64]],
) -> None:
    heap = [(0, 0, 9, 9)] * 3 + [(100, 100, 109, 109)] * 2
    kept = suppress(array(heap), np.full(5, 0.9, np.float32), 0.7)
    assert sorted(array(heap)[kept, 0].tolist()) == [0.0, 100.0]


@pytest.mark.parametrize("suppress", [nms, nms_by_smaller])
def test_an_overlap_at_the_threshold_stays(
    suppress: Callable[[Boxes, NDArray[np.float32], float], NDArray[np.int64]],
) -> None:
    # Half of the box: 10 of 20 by union without borders, 10 of 20 by smaller with them.
    pair = {
        nms: [(0, 0, 10, 1), (0, 0, 10, 2)],
        nms_by_smaller: [(0, 0, 9, 1), (0, 1, 9, 2)],
    }[suppress]
    scores = np.array([0.9, 0.8], np.float32)
    assert len(suppress(array(pair), scores, 0.5)) == 2
    assert len(suppress(array(pair), scores, 0.49)) == 1


def test_a_face_inside_a_larger_box_goes_only_by_the_smaller() -> None:
    pair = array([(0, 0, 100, 100), (40, 40, 60, 60)])
    scores = np.array([0.9, 0.8], np.float32)
    assert nms_by_smaller(pair, scores, 0.7).tolist() == [0]
    assert nms(pair, scores, 0.7).tolist() == [0, 1]


@pytest.mark.parametrize("suppress", [nms, nms_by_smaller])
def test_suppressing_nothing_keeps_nothing(
    suppress: Callable[[Boxes, NDArray[np.float32], float], NDArray[np.int64]],
) -> None:
    assert suppress(array([]), np.empty(0, np.float32), 0.5).tolist() == []


def test_boxes_without_area_do_not_suppress_each_other_by_union() -> None:
    points = array([(5, 5, 5, 5), (5, 5, 5, 5), (0, 0, 10, 10)])
    kept = nms(points, np.array([0.9, 0.8, 0.7], np.float32), 0.5)
    assert kept.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 10, 20), (-5, 0, 15, 20)),
        ((0, 0, 20, 10), (0, -5, 20, 15)),
        ((3, 4, 13, 14), (3, 4, 13, 14)),
        ((5, 5, 5, 5), (5, 5, 5, 5)),
        ((-30, -10, -10, -8), (-30, -19, -10, 1)),
    ],
)
def test_a_square_has_the_longer_side_and_the_same_centre(box: Box, expected: Box) -> None:
    np.testing.assert_array_equal(square(array([box])), array([expected]))


def test_regression_moves_each_edge_by_a_share_of_the_side() -> None:
    regression = np.array([[0.1, -0.2, 0.5, 1.0]], np.float32)
    np.testing.assert_allclose(
        refine(array([(10, 20, 20, 40)]), regression, border=0), [[11, 16, 25, 60]]
    )


def test_the_border_counts_towards_the_sides() -> None:
    regression = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(
        refine(array([(0, 0, 9, 19)]), regression, border=1), [[10, 20, 19, 39]]
    )


@pytest.mark.parametrize("function", [square, lambda boxes: refine(boxes, boxes, border=1)])
def test_no_boxes_stay_no_boxes(function: Callable[[Boxes], Boxes]) -> None:
    result = function(array([]))
    assert result.shape == (0, 4)
    assert result.dtype == np.float32


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 1, 100, 50), (0, 0, 50, 100)),  # the whole photo, counted from 1
        ((10.9, 20.9, 30.9, 40.9), (19, 9, 40, 30)),  # fractions are cut off
        ((-20, -30, 15, 5), (0, 0, 5, 15)),
        ((95, 45, 300, 400), (44, 94, 50, 100)),
        ((-9, -9, 900, 900), (0, 0, 50, 100)),
        ((7, 9, 7, 9), (8, 6, 9, 7)),  # a point covers its pixel
    ],
)
def test_a_window_is_the_part_of_a_box_inside_the_photo(
    box: tuple[float, ...], expected: Box
) -> None:
    cut, valid = windows(np.array([box], np.float32), 100, 50)
    assert cut.tolist() == [list(expected)]
    assert cut.dtype == np.int32
    assert valid.tolist() == [True]


@pytest.mark.parametrize(
    "box",
    [
        (-50, 10, -10, 20),
        (10, -50, 20, -10),
        (110, 10, 150, 20),
        (10, 60, 20, 90),
        (1e30, 1e30, 2e30, 2e30),
        (-2e30, -2e30, -1e30, -1e30),
        (30, 10, 20, 20),
        (10, 20, 20, 10),
        (0, 0, 0, 0),
    ],
)
def test_a_box_that_covers_no_pixel_has_no_window(box: tuple[float, ...]) -> None:
    cut, valid = windows(np.array([box], np.float32), 100, 50)
    assert cut.shape == (0, 4)
    assert valid.tolist() == [False]


def test_a_box_beyond_every_integer_is_clipped_to_the_photo() -> None:
    limits = np.float32(np.finfo(np.float32).max)
    boxes = np.array(
        [[-limits, -limits, limits, limits], [-np.inf, -np.inf, np.inf, np.inf]], np.float32
    )
    cut, _ = windows(boxes, 100, 50)
    assert cut.tolist() == [[0, 0, 50, 100]] * 2


edges = st.floats(-1e9, 1e9, width=32) | st.floats(-20, 120, width=32)


@settings(max_examples=200, deadline=None)
@given(
    boxes=st.lists(st.tuples(edges, edges, edges, edges), max_size=6),
    width=st.integers(1, 120),
    height=st.integers(1, 120),
)
def test_every_window_covers_pixels_of_the_photo_and_nothing_else(
    boxes: list[tuple[float, float, float, float]], width: int, height: int
) -> None:
    cut, valid = windows(np.array(boxes, np.float32).reshape(-1, 4), width, height)
    assert len(valid) == len(boxes)
    assert len(cut) == valid.sum()
    y1, x1, y2, x2 = cut.T
    assert ((y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= width)).all()


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(whole_boxes(), max_size=4))
def test_suppression_within_groups_is_that_of_each_group_alone(groups: list[list[Box]]) -> None:
    boxes = array([box for group in groups for box in group])
    numbers = np.repeat(np.arange(len(groups), dtype=np.int32), [len(group) for group in groups])
    alone, start = [], 0
    for group in groups:
        falling = np.linspace(1, 0.5, len(group), dtype=np.float32)
        alone += [start + row for row in nms(array(group), falling, 0.5)]
        start += len(group)
    assert nms_within_groups(boxes, numbers, 0.5).tolist() == alone
