"""P-Net's side of the cascade: levels, tiles, cells, and the boxes that go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.runtime.manifest import load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.vision.pyramid import (
    CELL_SIZE,
    Cells,
    Level,
    Tile,
    cut_into_tiles,
    find_cells,
    group_tiles,
    propose,
    pyramid_levels,
)

WHOLE = Tile(0, 0, 0, 0, 0)
LEVEL = Level(1.0, 100, 100)


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
    assert len(pyramid_levels(width, height, min_face_size, 0.709)) == count


def test_scales_begin_at_the_smallest_face_and_shrink_by_the_factor() -> None:
    scales = [level.scale for level in pyramid_levels(640, 480, 24, 0.5)]
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
    levels = pyramid_levels(width, height, min_face_size, factor)
    assert all(min(level.rows, level.columns) >= CELL_SIZE for level in levels)
    following = levels[-1].scale * factor if levels else CELL_SIZE / min_face_size
    assert min(width, height) * following < CELL_SIZE * (1 + 1e-9)


def test_a_level_has_at_least_one_pixel_more_than_its_whole_part() -> None:
    assert pyramid_levels(640, 480, 20, 0.709)[0] == Level(0.6, 289, 385)
    assert pyramid_levels(100, 33, 24, 0.709)[0] == Level(0.5, 17, 51)


@given(width=st.integers(20, 6000), height=st.integers(20, 6000), max_side=st.integers(100, 4000))
def test_a_limited_photo_keeps_the_levels_that_are_small_enough(
    width: int, height: int, max_side: int
) -> None:
    every = pyramid_levels(width, height, 20, 0.709)
    kept = pyramid_levels(width, height, 20, 0.709, max_side)
    assert kept == every[len(every) - len(kept) :]
    assert all(max(width, height) * level.scale <= max_side * 0.6 for level in kept)
    dropped = every[: len(every) - len(kept)]
    assert all(max(width, height) * level.scale > max_side * 0.6 for level in dropped)


def test_a_photo_of_the_limit_keeps_every_level() -> None:
    assert pyramid_levels(2048, 1500, 20, 0.709, 2048) == pyramid_levels(2048, 1500, 20, 0.709)


@settings(deadline=None)
@given(rows=st.integers(12, 400), columns=st.integers(12, 400), side=st.integers(20, 300))
def test_tiles_cover_a_level_begin_at_even_pixels_and_stay_near_their_limit(
    rows: int, columns: int, side: int
) -> None:
    tiles = cut_into_tiles([Level(0.5, rows, columns)], side)
    seen = np.zeros((rows, columns), np.int64)
    for tile in tiles:
        assert tile.top % 2 == tile.left % 2 == 0
        height, width = tile.bottom - tile.top, tile.right - tile.left
        assert min(height, width) >= CELL_SIZE
        # The last may be a pixel or two longer.
        assert max(height, width) <= side + 3
        seen[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert seen.min() >= 1


def test_a_level_under_the_limit_is_one_tile() -> None:
    assert cut_into_tiles([Level(0.5, 100, 160)], 160) == [Tile(0, 0, 100, 0, 160)]


def test_tiles_of_a_level_are_nearly_equal() -> None:
    widths = [tile.right - tile.left for tile in cut_into_tiles([Level(0.5, 20, 330)], 160)]
    assert widths == [118, 118, 114]


@pytest.mark.parametrize("columns", [12, 13, 37, 64])
@pytest.mark.parametrize("rows", [12, 13, 14, 15, 26, 27, 61, 90, 101])
@pytest.mark.parametrize("side", [12, 17, 30])
def test_outputs_of_tiles_are_those_of_the_whole_level(
    pnet: ModelSession, rows: int, columns: int, side: int
) -> None:
    random = np.random.default_rng(rows * columns)
    level = random.uniform(0, 255, (1, 3, rows, columns)).astype(np.float32)
    regression, probability = pnet.run(level)
    joined = np.full((5, *probability.shape[1:]), np.nan, np.float32)
    tiles = cut_into_tiles([Level(1.0, rows, columns)], side)
    assert len(tiles) > 1 or max(rows, columns) <= side + 3
    for tile in tiles:
        part = np.ascontiguousarray(level[:, :, tile.top : tile.bottom, tile.left : tile.right])
        moves, scores = pnet.run(part)
        top, left = tile.top // 2, tile.left // 2
        place = np.s_[:, top : top + scores.shape[1], left : left + scores.shape[2]]
        joined[place] = np.concatenate([moves[0], scores])
    np.testing.assert_allclose(joined[:4], regression[0], atol=1e-5)
    np.testing.assert_allclose(joined[4], probability[0], atol=1e-5)


def test_groups_hold_all_tiles_in_order_up_to_their_limit() -> None:
    tiles = cut_into_tiles([Level(0.6, 300, 400), Level(0.4, 200, 270), Level(0.3, 30, 40)], 100)
    groups = list(group_tiles(tiles, 20_000))
    assert [tile for group in groups for tile in group] == tiles
    assert all(sum(tile.pixels for tile in group) <= 20_000 for group in groups)
    assert len(groups) < len(tiles)


def test_a_tile_over_the_limit_is_a_group_of_its_own() -> None:
    tiles = [Tile(0, 0, 100, 0, 100), Tile(1, 0, 12, 0, 12)]
    assert list(group_tiles(tiles, 5_000)) == [[tiles[0]], [tiles[1]]]


def test_no_tiles_make_no_group() -> None:
    assert list(group_tiles([], 5_000)) == []


def test_cells_are_placed_in_the_whole_level() -> None:
    probability = np.zeros((4, 6), np.float32)
    probability[3, 5] = 0.9
    regression = np.arange(96, dtype=np.float32).reshape(4, 4, 6)
    found = find_cells(Tile(2, 20, 40, 100, 130), probability, regression, 0.6)
    np.testing.assert_array_equal(found.places, [[2, 13, 55]])
    np.testing.assert_array_equal(found.scores, np.array([0.9], np.float32))
    np.testing.assert_array_equal(found.regression, [regression[:, 3, 5]])


def test_a_probability_at_the_threshold_passes_p_net() -> None:
    probability = np.array([[0.6, 0.0, 0.59, np.nan]], np.float32)
    found = find_cells(WHOLE, probability, np.zeros((4, 1, 4), np.float32), 0.6)
    assert found.places.tolist() == [[0, 0, 0]]


def cells(*rows: tuple[int, int, int, float], regression: object = (0, 0, 0, 0)) -> Cells:
    """Cells from (level, row, column, score), with one regression for all."""
    return Cells(
        np.array([row[:3] for row in rows], np.int32).reshape(-1, 3),
        np.array([row[3] for row in rows], np.float32),
        np.tile(np.array(regression, np.float32), (len(rows), 1)),
    )


def test_a_cell_becomes_the_box_it_saw() -> None:
    # x 2 * 5, y 2 * 3; the corners are (10 + 1) / 0.5 and (10 + 12) / 0.5.
    boxes = propose(cells((0, 3, 5, 0.9)), [Level(0.5, 50, 50)], 100)
    np.testing.assert_array_equal(boxes, [[22, 14, 44, 36]])


def test_neighbouring_cells_of_a_level_are_thinned_to_the_best() -> None:
    boxes = propose(cells((0, 0, 0, 0.7), (0, 0, 1, 0.9), (0, 0, 2, 0.8)), [LEVEL], 100)
    np.testing.assert_array_equal(boxes, [[3, 1, 14, 12]])


def test_levels_are_thinned_more_strictly_within_than_across() -> None:
    apart = (0, 0, 0, 0.9), (0, 0, 1, 0.8)  # 9 of 13 columns shared: 0.69
    assert len(propose(cells(*apart), [LEVEL, LEVEL], 100)) == 1
    across = apart[0], (1, *apart[1][1:])
    assert len(propose(cells(*across), [LEVEL, LEVEL], 100)) == 2


def test_the_same_face_on_two_levels_goes_on_once() -> None:
    found = propose(cells((0, 0, 0, 0.7), (1, 0, 0, 0.9)), [LEVEL, Level(0.99, 99, 99)], 100)
    assert len(found) == 1
    np.testing.assert_array_equal(found[0], [1, 1, 12, 12])


def test_equal_cells_are_taken_in_reading_order_whatever_the_tiles() -> None:
    same = [(0, 0, 0, 0.9), (0, 0, 1, 0.9), (0, 1, 0, 0.9), (0, 1, 1, 0.9)]
    first = propose(cells(*same), [LEVEL], 100)
    np.testing.assert_array_equal(propose(cells(*same[::-1]), [LEVEL], 100), first)
    np.testing.assert_array_equal(first, [[1, 1, 12, 12]])


def far_apart(count: int, level: int = 0) -> list[tuple[int, int, int, float]]:
    """Cells that share nothing, the later the better."""
    return [(level, 0, 20 * i, 0.6 + 0.01 * i) for i in range(count)]


def test_too_many_candidates_are_cut_to_the_best() -> None:
    boxes = propose(cells(*far_apart(10)), [LEVEL], 3)
    assert boxes[:, 0].tolist() == [361, 321, 281]


def test_candidates_are_cut_over_all_levels_together() -> None:
    strong = [(1, 30, column, score + 0.3) for _, _, column, score in far_apart(4)]
    boxes = propose(cells(*far_apart(4), *strong), [LEVEL, LEVEL], 4)
    assert boxes[:, 1].tolist() == [61, 61, 61, 61]


def test_boxes_are_moved_and_squared() -> None:
    moved = propose(cells((0, 0, 0, 0.9), regression=(0, 0, 1, 0)), [LEVEL], 100)
    np.testing.assert_array_equal(moved, [[1, -4.5, 23, 17.5]])


def test_no_cells_give_no_boxes() -> None:
    assert propose(cells(), [LEVEL], 100).shape == (0, 4)


def test_joined_cells_keep_their_rows_together() -> None:
    one, other = cells((0, 1, 2, 0.7)), cells((1, 3, 4, 0.8), (1, 5, 6, 0.9))
    joined = Cells.joined([one, other])
    assert len(joined) == 3
    assert joined.places.tolist() == [[0, 1, 2], [1, 3, 4], [1, 5, 6]]
