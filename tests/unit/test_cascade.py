"""The cascade's steps: which scales, bands and boxes go on to the next network."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.runtime.manifest import load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.vision.cascade import (
    CELL_SIZE,
    Candidates,
    CascadeSettings,
    crop_windows,
    final_detections,
    level_bands,
    level_candidates,
    level_size,
    merge_levels,
    pyramid_scales,
    refine_candidates,
)

Floats = NDArray[np.float32]
NO_BOXES = np.empty((0, 4), np.float32)
NO_SCORES = np.empty(0, np.float32)


def floats(*values: object) -> Floats:
    return np.array(values, np.float32)


@pytest.fixture(scope="module")
def pnet(models_dir: Path) -> ModelSession:
    settings = SessionSettings(provider="cpu")
    return open_sessions(models_dir, load_manifest(models_dir), settings)["pnet"]


@pytest.mark.parametrize(
    ("width", "height", "min_face_size", "count"),
    [
        (19, 400, 20, 0),
        (20, 400, 20, 1),
        (28, 28, 20, 1),
        (29, 29, 20, 2),  # 29 * 0.709 = 20.6
        (400, 20, 20, 1),
        (40, 40, 40, 1),
        (39, 40, 40, 0),
        (640, 480, 20, 10),
        (1, 1, 12, 0),
    ],
)
def test_the_pyramid_ends_where_the_shorter_side_is_one_cell(
    width: int, height: int, min_face_size: int, count: int
) -> None:
    settings = CascadeSettings(min_face_size=min_face_size)
    assert len(pyramid_scales(width, height, settings)) == count


def test_scales_begin_at_the_smallest_face_and_shrink_by_the_factor() -> None:
    scales = pyramid_scales(640, 480, CascadeSettings(min_face_size=24, factor=0.5))
    assert scales == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.03125])


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    min_face_size=st.integers(12, 500),
    factor=st.floats(0.2, 0.9),
)
def test_every_level_holds_a_cell_and_the_next_one_would_not(
    width: int, height: int, min_face_size: int, factor: float
) -> None:
    settings = CascadeSettings(min_face_size=min_face_size, factor=factor)
    scales = pyramid_scales(width, height, settings)
    for scale in scales:
        assert min(level_size(width, height, scale)) >= CELL_SIZE
    following = scales[-1] * factor if scales else CELL_SIZE / min_face_size
    assert min(width, height) * following < CELL_SIZE * (1 + 1e-9)


def test_a_level_has_at_least_one_pixel_more_than_its_whole_part() -> None:
    assert level_size(640, 480, 0.6) == (289, 385)
    assert level_size(100, 33, 0.5) == (17, 51)


@given(
    height=st.integers(12, 900), width=st.integers(12, 900), max_pixels=st.integers(1, 1_000_000)
)
def test_bands_overlap_begin_on_even_rows_and_cover_the_level(
    height: int, width: int, max_pixels: int
) -> None:
    bands = level_bands(height, width, max_pixels)
    assert bands[0][0] == 0
    assert bands[-1][1] == height
    for (_, bottom), (top, _) in pairwise(bands):
        assert top % 2 == 0
        assert bottom - top == CELL_SIZE - 2
    assert all(bottom - top >= CELL_SIZE for top, bottom in bands)


@given(height=st.integers(12, 900), width=st.integers(12, 900), rows=st.integers(14, 300))
def test_a_band_stays_near_the_limit_it_was_given(height: int, width: int, rows: int) -> None:
    # The last band may be one output row longer.
    assert all(bottom - top <= rows + 2 for top, bottom in level_bands(height, width, rows * width))


def test_a_band_is_as_long_as_its_limit_allows() -> None:
    assert level_bands(70, 10, 31 * 10) == [(0, 30), (20, 50), (40, 70)]


def test_a_level_under_the_limit_is_one_band() -> None:
    assert level_bands(300, 400, 300 * 400) == [(0, 300)]


@pytest.mark.parametrize("width", [12, 13, 37, 64])
@pytest.mark.parametrize("height", [12, 13, 14, 15, 26, 27, 61, 90, 101])
@pytest.mark.parametrize("band_rows", [12, 17, 30])
def test_banded_outputs_are_those_of_the_whole_level(
    pnet: ModelSession, width: int, height: int, band_rows: int
) -> None:
    level = np.random.default_rng(height * width).integers(0, 256, (1, height, width, 3))
    level = level.astype(pnet.spec.input.dtype)
    bands = level_bands(height, width, band_rows * width)
    assert len(bands) > 1 or height <= band_rows + 2
    pieces = [pnet.run(np.ascontiguousarray(level[:, top:bottom])) for top, bottom in bands]
    for output, whole in enumerate(pnet.run(level)):
        joined = np.concatenate([piece[output] for piece in pieces], axis=-2)
        np.testing.assert_allclose(joined, whole, atol=1e-5)


def test_a_cell_becomes_the_box_it_saw() -> None:
    probability = np.zeros((4, 6), np.float32)
    probability[3, 5] = 0.9
    regression = np.arange(96, dtype=np.float32).reshape(4, 4, 6)
    found = level_candidates(probability, regression, 0.5, 0.6)
    # x 2 * 5, y 2 * 3; the corners are (10 + 1) / 0.5 and (10 + 12) / 0.5.
    np.testing.assert_array_equal(found.boxes, [[22, 14, 44, 36]])
    np.testing.assert_array_equal(found.scores, floats(0.9))
    np.testing.assert_array_equal(found.regression, [regression[:, 3, 5]])


def test_a_probability_at_the_threshold_passes_p_net() -> None:
    probability = floats([0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.59])
    regression = np.zeros((4, 1, 8), np.float32)
    assert len(level_candidates(probability, regression, 0.5, 0.6)) == 1


def test_neighbouring_cells_of_a_level_are_thinned_to_the_best() -> None:
    probability = floats([0.7, 0.9, 0.8])
    found = level_candidates(probability, np.zeros((4, 1, 3), np.float32), 1.0, 0.6)
    np.testing.assert_array_equal(found.scores, floats(0.9))


def candidates(count: int) -> Candidates:
    """Boxes apart from each other, the later the better."""
    corner = np.arange(count, dtype=np.float32) * 100
    boxes = np.stack([corner, corner, corner + 10, corner + 10], axis=1)
    scores = np.linspace(0.6, 0.99, count, dtype=np.float32)
    return Candidates(boxes, scores, np.zeros((count, 4), np.float32))


def test_too_many_candidates_are_cut_to_the_best() -> None:
    merged = merge_levels([candidates(10)], CascadeSettings(max_candidates=3))
    assert merged[:, 0].tolist() == [900, 800, 700]


def test_candidates_are_cut_over_all_levels_together() -> None:
    weak, strong = candidates(4), candidates(4)
    strong = Candidates(strong.boxes + np.float32(5000), strong.scores + 1, strong.regression)
    merged = merge_levels([weak, strong], CascadeSettings(max_candidates=4))
    assert (merged[:, 0] >= 5000).all()
    assert len(merged) == 4


def test_the_same_face_on_two_levels_goes_on_once() -> None:
    again = candidates(1)
    better = Candidates(
        again.boxes + np.float32(0.5), again.scores + np.float32(0.2), again.regression
    )
    merged = merge_levels([again, better], CascadeSettings())
    np.testing.assert_array_equal(merged, [[0.5, 0.5, 10.5, 10.5]])


def test_merged_boxes_are_moved_and_squared() -> None:
    moved = Candidates(floats([0, 0, 10, 10]), floats(0.9), floats([0, 0, 1, 0]))
    np.testing.assert_array_equal(merge_levels([moved], CascadeSettings()), [[0, -5, 20, 15]])


def test_r_net_keeps_what_is_above_its_threshold() -> None:
    boxes = candidates(3).boxes
    kept = refine_candidates(boxes, floats(0.7, 0.71, 0.9), np.zeros((3, 4), np.float32), 0.7)
    assert kept[:, 0].tolist() == [200, 100]


def test_r_net_moves_boxes_by_their_size_with_border() -> None:
    kept = refine_candidates(floats([0, 0, 9, 9]), floats(0.9), floats([1, 1, 1, 1]), 0.7)
    np.testing.assert_array_equal(kept, [[10, 10, 19, 19]])


def test_o_net_places_landmarks_inside_the_box_it_was_shown() -> None:
    landmarks = floats([0.0, 0.5, 1.0, 0.25, 0.75, 0.1, 0.2, 0.3, 0.4, 0.5])
    found = final_detections(
        floats([100, 200, 199, 399]), floats(0.9), np.zeros((1, 4), np.float32), landmarks, 0.7
    )
    np.testing.assert_allclose(
        found.landmarks[0], [[99, 219], [149, 239], [199, 259], [124, 279], [174, 299]]
    )


def test_a_face_found_again_inside_itself_is_dropped() -> None:
    boxes = floats([0, 0, 99, 99], [20, 20, 79, 79], [300, 300, 399, 399])
    nothing = np.zeros((3, 4), np.float32)
    points = np.zeros((3, 10), np.float32)
    found = final_detections(boxes, floats(0.9, 0.99, 0.8), nothing, points, 0.7)
    assert found.boxes[:, 0].tolist() == [20, 300]
    assert found.scores.tolist() == floats(0.99, 0.8).tolist()


def test_no_level_gives_no_boxes() -> None:
    assert merge_levels([], CascadeSettings()).shape == (0, 4)


def test_levels_without_candidates_give_no_boxes() -> None:
    empty = level_candidates(
        np.zeros((5, 7), np.float32), np.zeros((4, 5, 7), np.float32), 0.3, 0.6
    )
    assert len(empty) == 0
    assert merge_levels([empty, empty], CascadeSettings()).shape == (0, 4)


def test_no_boxes_pass_through_the_later_steps() -> None:
    assert refine_candidates(NO_BOXES, NO_SCORES, NO_BOXES, 0.7).shape == (0, 4)
    found = final_detections(NO_BOXES, NO_SCORES, NO_BOXES, np.empty((0, 10), np.float32), 0.7)
    assert found.boxes.shape == (0, 4)
    assert found.landmarks.shape == (0, 5, 2)
    cut, boxes = crop_windows(NO_BOXES, 100, 100)
    assert cut.shape == boxes.shape == (0, 4)


def test_windows_and_boxes_stay_side_by_side() -> None:
    boxes = floats([-50, -50, -10, -10], [10, 10, 20, 20], [500, 10, 600, 20], [1, 1, 5, 5])
    cut, kept = crop_windows(boxes, 100, 100)
    np.testing.assert_array_equal(kept, boxes[[1, 3]])
    np.testing.assert_array_equal(cut, [[9, 9, 20, 20], [0, 0, 5, 5]])
