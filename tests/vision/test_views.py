"""A view gives what a copy of the photo would, turned and with black round it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.vision.resample import (
    fill_with_means,
    resample_patches,
    resample_tile,
    resample_windows,
    summed_area_table,
    thinned,
)
from service.vision.views import TURNS, View, turn_points

sides = st.integers(1, 40)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def copy_of(pixels: NDArray[np.uint8], turned: int, border: int) -> NDArray[np.uint8]:
    upright = np.rot90(pixels, -(turned // 90))
    return np.pad(upright, ((border, border), (border, border), (0, 0)))


@settings(max_examples=80, deadline=None)
@given(
    height=sides,
    width=sides,
    turned=st.sampled_from(TURNS),
    border=st.integers(0, 15),
    data=st.data(),
)
def test_a_view_is_resampled_as_a_turned_and_bordered_copy(
    height: int, width: int, turned: int, border: int, data: st.DataObject
) -> None:
    pixels = noise(height, width)
    view = View.of(summed_area_table(pixels), turned=turned, border=border)
    copy = copy_of(pixels, turned, border)
    plain = View.of(summed_area_table(np.ascontiguousarray(copy)))
    assert (view.height, view.width) == copy.shape[:2]
    y1 = data.draw(st.integers(0, view.height - 1))
    x1 = data.draw(st.integers(0, view.width - 1))
    y2 = data.draw(st.integers(y1 + 1, view.height))
    x2 = data.draw(st.integers(x1 + 1, view.width))
    window = np.array([[y1, x1, y2, x2]], np.int32)
    np.testing.assert_array_equal(
        resample_windows(view, window, 7, 5), resample_windows(plain, window, 7, 5)
    )


@pytest.mark.parametrize("turned", TURNS)
def test_every_way_to_resample_sees_the_view(turned: int) -> None:
    pixels, border = noise(30, 44), 6
    view = View.of(summed_area_table(pixels), turned=turned, border=border)
    copy = View.of(summed_area_table(np.ascontiguousarray(copy_of(pixels, turned, border))))
    parts = np.array([[20, 24, 3, 5], [18, 18, 0, 6]], np.int32)
    np.testing.assert_array_equal(
        resample_patches(view, parts, 12, 12), resample_patches(copy, parts, 12, 12)
    )
    tiles = [np.empty((3, 9, 8), np.float32) for _ in range(2)]
    # One byte more than the part, which is written too.
    rounded = [np.empty(9 * 8 * 3 + 1, np.uint8) for _ in range(2)]
    for seen, tile, whole in zip((view, copy), tiles, rounded, strict=True):
        resample_tile(seen, 21, 19, 4, 2, tile)
        window = np.array([0, 0, seen.height, seen.width], np.int32)
        arrays = seen.sums, seen.rows, seen.columns
        fill_with_means(*arrays, seen.unit, window, 21, 19, 4, 2, 9, 8, whole)
    np.testing.assert_array_equal(*tiles)
    pixels, of_copy = (whole[:-1].reshape(9, 8, 3) for whole in rounded)
    np.testing.assert_array_equal(pixels, of_copy)
    np.testing.assert_array_equal(pixels, np.floor(tiles[0] + 0.5).transpose(1, 2, 0))


@pytest.mark.parametrize("turned", TURNS)
@pytest.mark.parametrize("border", [0, 5])
def test_points_are_found_again_in_the_photo(turned: int, border: int) -> None:
    pixels = noise(20, 31)
    view = View.of(summed_area_table(pixels), turned=turned, border=border)
    copy = copy_of(pixels, turned, border)
    for y in range(border, copy.shape[0] - border, 3):
        for x in range(border, copy.shape[1] - border, 4):
            ((there,),) = view.points_to_photo(np.array([[[x + 0.5, y + 0.5]]], np.float32))
            assert (pixels[int(there[1]), int(there[0])] == copy[y, x]).all()


@pytest.mark.parametrize("turned", TURNS)
@pytest.mark.parametrize(("border", "pixel"), [(0, 1), (5, 1), (4, 2)])
def test_boxes_come_back_from_a_view_as_they_went_in(turned: int, border: int, pixel: int) -> None:
    table = thinned(summed_area_table(noise(24, 40)), pixel)
    view = View.of(table, turned=turned, border=border, pixel=pixel)
    boxes = np.array([[3, 4, 17, 20], [-8, 2, 50, 90]], np.float32)
    np.testing.assert_allclose(view.boxes_to_photo(view.boxes_of_photo(boxes)), boxes, atol=1e-4)


def test_an_untouched_view_leaves_boxes_as_they_are() -> None:
    view = View.of(summed_area_table(noise(9, 9)))
    boxes = np.random.default_rng(1).normal(0, 1e4, (20, 4)).astype(np.float32)
    boxes = np.concatenate([np.sort(boxes[:, ::2]), np.sort(boxes[:, 1::2])], axis=1)[
        :, [0, 2, 1, 3]
    ]
    np.testing.assert_array_equal(view.boxes_to_photo(boxes), boxes)


def test_four_quarter_turns_are_none() -> None:
    points = np.array([[3.0, 4.0]], np.float32)
    for width, height in ((10, 20), (20, 10), (10, 20), (20, 10)):
        points = turn_points(points, width, height, 90)
    np.testing.assert_array_equal(points, [[3, 4]])


@settings(max_examples=40, deadline=None)
@given(height=st.integers(4, 40), width=st.integers(4, 40), pixel=st.integers(1, 4))
def test_larger_pixels_are_means_over_squares(height: int, width: int, pixel: int) -> None:
    pixels = noise(height, width)
    view = View.of(thinned(summed_area_table(pixels), pixel), pixel=pixel)
    rows, columns = height // pixel, width // pixel
    assert (view.height, view.width) == (rows, columns)
    (seen,) = resample_windows(view, np.array([[0, 0, rows, columns]], np.int32), rows, columns)
    squares = pixels[: rows * pixel, : columns * pixel].reshape(rows, pixel, columns, pixel, 3)
    wanted = squares.astype(np.float64).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-3)


def test_larger_pixels_are_as_far_from_the_corner_as_before() -> None:
    view = View.of(thinned(summed_area_table(noise(40, 60)), 2), border=3, pixel=2)
    np.testing.assert_array_equal(
        view.points_to_photo(np.array([[[3, 3], [8, 5]]], np.float32)), [[[0, 0], [10, 4]]]
    )
