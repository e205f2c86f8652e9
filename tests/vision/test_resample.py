"""Resampling from a summed-area table, against PyTorch's area interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.vision.resample import resample_tile, resample_windows, summed_area_table
from service.vision.views import View

sizes = st.integers(1, 70)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def view_of(pixels: NDArray[np.uint8]) -> View:
    return View.of(summed_area_table(pixels))


def torch_area(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    import torch
    from torch.nn.functional import interpolate

    tensor = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    result: NDArray[np.float32] = interpolate(tensor, size=(height, width), mode="area")[0].numpy()
    return result


def window(y1: int, x1: int, y2: int, x2: int) -> NDArray[np.int32]:
    return np.array([[y1, x1, y2, x2]], np.int32)


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, out_height=sizes, out_width=sizes, seed=st.integers(0, 99))
def test_a_whole_photo_is_resampled_as_pytorch_does(
    height: int, width: int, out_height: int, out_width: int, seed: int
) -> None:
    pixels = noise(height, width, seed)
    (ours,) = resample_windows(view_of(pixels), window(0, 0, height, width), out_height, out_width)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, torch_area(pixels, out_height, out_width), atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), height=sizes, width=sizes, out_size=st.sampled_from([1, 7, 24, 48]))
def test_each_window_is_resampled_as_pytorch_does_with_the_cut_out_pixels(
    data: st.DataObject, height: int, width: int, out_size: int
) -> None:
    pixels = noise(height, width)
    rows = []
    for _ in range(data.draw(st.integers(1, 4))):
        y1, x1 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        y2, x2 = data.draw(st.integers(y1 + 1, height)), data.draw(st.integers(x1 + 1, width))
        rows.append((y1, x1, y2, x2))
    ours = resample_windows(view_of(pixels), np.array(rows, np.int32), out_size, out_size + 3)
    assert len(ours) == len(rows)
    for (y1, x1, y2, x2), one in zip(rows, ours, strict=True):
        cut = np.ascontiguousarray(pixels[y1:y2, x1:x2])
        np.testing.assert_allclose(one, torch_area(cut, out_size, out_size + 3), atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), height=sizes, width=sizes, out_height=sizes, out_width=sizes)
def test_a_tile_is_its_part_of_the_whole_level(
    data: st.DataObject, height: int, width: int, out_height: int, out_width: int
) -> None:
    view = view_of(noise(height, width))
    (level,) = resample_windows(view, window(0, 0, height, width), out_height, out_width)
    top = data.draw(st.integers(0, out_height - 1))
    left = data.draw(st.integers(0, out_width - 1))
    bottom = data.draw(st.integers(top + 1, out_height))
    right = data.draw(st.integers(left + 1, out_width))
    tile = np.full((3, bottom - top, right - left), np.nan, np.float32)
    resample_tile(view, out_height, out_width, top, left, tile)
    np.testing.assert_array_equal(tile, level[:, top:bottom, left:right])


def test_a_window_at_its_own_size_is_unchanged() -> None:
    pixels = noise(20, 30)
    (ours,) = resample_windows(view_of(pixels), window(3, 5, 13, 25), 10, 20)
    np.testing.assert_allclose(ours, pixels[3:13, 5:25].transpose(2, 0, 1), atol=1e-4)


def test_means_are_not_rounded() -> None:
    pixels = np.array([[[0, 10, 255], [1, 20, 254]]], np.uint8)
    (ours,) = resample_windows(view_of(pixels), window(0, 0, 1, 2), 1, 1)
    np.testing.assert_array_equal(ours, [[[0.5]], [[15.0]], [[254.5]]])


def test_the_table_holds_the_sums_above_and_to_the_left() -> None:
    pixels = noise(9, 13)
    table = summed_area_table(pixels)
    assert table.shape == (10, 14, 3)
    for y, x in [(0, 0), (0, 5), (4, 0), (1, 1), (9, 13), (6, 7)]:
        np.testing.assert_array_equal(table[y, x], pixels[:y, :x].sum(axis=(0, 1)))


def test_no_windows_give_no_images() -> None:
    view = view_of(noise(8, 8))
    assert resample_windows(view, np.empty((0, 4), np.int32), 24, 24).shape == (0, 3, 24, 24)


@pytest.fixture(scope="module")
def white() -> View:
    """Of a photo whose pixels sum to more than 2**32."""
    height, width = 2000, 8500
    assert height * width * 255 > 2**32
    return view_of(np.full((height, width, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("y1", "x1", "y2", "x2"),
    [(1990, 8490, 2000, 8500), (0, 0, 1000, 8500), (1000, 0, 2000, 8500), (7, 11, 1999, 8400)],
)
def test_sums_stay_exact_where_the_table_wraps(
    white: View, y1: int, x1: int, y2: int, x2: int
) -> None:
    (ours,) = resample_windows(white, window(y1, x1, y2, x2), 1, 1)
    np.testing.assert_allclose(ours, np.full((3, 1, 1), 255.0), rtol=1e-6)


def test_a_level_of_a_photo_whose_table_wraps_is_exact(white: View) -> None:
    (ours,) = resample_windows(white, window(0, 0, 2000, 8500), 12, 51)
    np.testing.assert_allclose(ours, np.full((3, 12, 51), 255.0), rtol=1e-6)
