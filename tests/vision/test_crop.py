"""Faces are cut out whole: in proportion, black beyond the photo, upright, on their template."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.domain.types import Box, FacePlace
from service.vision.crop import (
    align_face,
    crop_clipped,
    crop_filled,
    cut_face,
    fit_similarity,
    resize_face,
)

Pixels = NDArray[np.uint8]
Points = tuple[tuple[float, float], ...]

SIZE = 32
TEMPLATE: Points = ((38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2))


@dataclass(frozen=True)
class Shape:
    kind: Literal["box", "landmarks"] = "box"
    size: int = SIZE
    margin: float = 1.0
    fill: Literal["clip", "black"] = "black"
    template: Points = ()


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> Pixels:
    """A picture without details, so that half a pixel makes no difference."""
    small = np.random.default_rng(7).integers(40, 250, (5, 6, 3), np.uint8)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)


def placed(scale: float, degrees: float, x: float, y: float) -> Points:
    """The template in a photo."""
    turn = scale * np.exp(1j * math.radians(degrees))
    moved = [complex(*point) * turn + complex(x, y) for point in TEMPLATE]
    return tuple((point.real, point.imag) for point in moved)


inside = st.tuples(
    st.floats(0, 40, width=32), st.floats(0, 30, width=32), st.floats(1, 60), st.floats(1, 50)
)


@settings(max_examples=60, deadline=None)
@given(box=inside)
def test_a_box_inside_the_photo_is_cut_as_facenet_pytorch_cuts_it(
    box: tuple[float, float, float, float],
) -> None:
    photo, (x, y, wide, high) = noise(80, 100), box
    x2, y2 = x + wide, y + high
    expected = resize_face(photo[int(y) : int(y2), int(x) : int(x2)], SIZE)
    for crop in (crop_filled, crop_clipped):
        np.testing.assert_array_equal(crop(photo, Box(x, y, x2, y2), SIZE), expected)


@pytest.mark.parametrize(
    "box", [(-12, 10, 30, 52), (70, -9, 120, 60), (10, 50, 60, 110), (-20, -15, 115, 90)]
)
def test_what_lies_outside_of_the_photo_is_black_and_nothing_is_stretched(
    box: tuple[float, float, float, float],
) -> None:
    photo, border = noise(80, 100), 40
    whole = np.pad(photo, ((border, border), (border, border), (0, 0)))
    moved = Box(*(side + border for side in box))
    np.testing.assert_array_equal(
        crop_filled(photo, Box(*box), SIZE), crop_filled(whole, moved, SIZE)
    )


def test_facenet_pytorch_stretches_what_is_left_of_a_box() -> None:
    photo = noise(80, 100)
    np.testing.assert_array_equal(
        crop_clipped(photo, Box(-12, 10, 30, 52), SIZE), resize_face(photo[10:52, :30], SIZE)
    )


def test_a_margin_widens_the_box_about_its_centre() -> None:
    photo = noise(80, 100)
    np.testing.assert_array_equal(
        crop_filled(photo, Box(30, 20, 70, 60), SIZE, 1.2),
        resize_face(photo[16:64, 26:74], SIZE),
    )


@pytest.mark.parametrize(
    "box",
    [(-50, 10, -10, 40), (110, 10, 150, 40), (10, -60, 40, -20), (10, 90, 40, 120)],
)
def test_a_box_beside_the_photo_has_no_crop(box: tuple[float, float, float, float]) -> None:
    assert crop_filled(noise(80, 100), Box(*box), SIZE) is None
    assert crop_clipped(noise(80, 100), Box(*box), SIZE) is None


@pytest.mark.parametrize("reach", [1e3, 1e5, 1e9, 1e30])
def test_a_box_that_reaches_far_out_costs_no_more_than_the_photo(reach: float) -> None:
    photo = np.full((800, 1000, 3), 200, np.uint8)
    began = time.perf_counter()
    crop = crop_filled(photo, Box(-reach, -reach, reach, reach), SIZE)
    assert time.perf_counter() - began < 0.5
    assert crop is not None
    assert crop.shape == (SIZE, SIZE, 3)
    assert (crop == 200).any()


def test_a_small_part_of_a_large_box_lies_where_it_belongs() -> None:
    photo = np.full((100, 100, 3), 200, np.uint8)
    crop = crop_filled(photo, Box(-100, -300, 300, 100), SIZE)
    assert crop is not None
    rows, columns = np.nonzero(crop[:, :, 0])
    # The photo covers a quarter of each side, from a quarter across and three quarters down.
    assert (columns.min(), columns.max()) == (8, 15)
    assert (rows.min(), rows.max()) == (24, 31)


@pytest.mark.parametrize("turned", [90, 180, 270])
@pytest.mark.parametrize("box", [(30, 20, 70, 60), (-10, 20, 30, 60)])
@pytest.mark.parametrize("fill", ["clip", "black"])
def test_a_box_of_a_turned_photo_is_cut_upright(
    turned: int, box: tuple[int, int, int, int], fill: Literal["clip", "black"]
) -> None:
    upright = noise(80, 100)
    height, width = upright.shape[:2]
    x1, y1, x2, y2 = box
    sent = np.ascontiguousarray(np.rot90(upright, turned // 90))
    there = {
        90: Box(y1, width - x2, y2, width - x1),
        180: Box(width - x2, height - y2, width - x1, height - y1),
        270: Box(height - y2, x1, height - y1, x2),
    }[turned]
    shape = Shape(fill=fill)
    expected = cut_face(upright, FacePlace(Box(*box), ()), shape)
    found = cut_face(sent, FacePlace(there, ()), shape, turned)
    assert expected is not None
    assert found is not None
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=5, max_size=5, unique=True
    )
)
def test_the_fit_is_umeyama_s(points: list[tuple[float, float]]) -> None:
    given_points, template = np.array(points), np.array(TEMPLATE)
    found = fit_similarity(given_points, template)
    source, target = given_points - given_points.mean(0), template - template.mean(0)
    variance = (source**2).sum() / 5
    if found is None:
        return
    u, strengths, v = np.linalg.svd(target.T @ source / 5)
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    turn = (strengths @ signs) / variance * (u * signs) @ v
    np.testing.assert_allclose(found[:, :2], turn, atol=1e-8)
    np.testing.assert_allclose(found @ [*given_points.mean(0), 1], template.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "degrees"),
    [(0.3, 0), (0.7, -25), (1.0, 10), (1.7, 90), (3.1, 180), (6.3, 30), (9, 0)],
)
def test_landmarks_land_on_the_template(scale: float, degrees: float) -> None:
    points = placed(scale, degrees, 900, 900)
    for number, target in enumerate(TEMPLATE):
        # A spot of light at one landmark, wide enough to be seen at any scale.
        x, y = points[number]
        across, down = (
            np.exp(-((np.arange(1800) - place) ** 2) / (2 * (2.5 * max(scale, 1)) ** 2))
            for place in (x, y)
        )
        spot = 255 * np.outer(down, across)
        photo = np.repeat(spot.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
        crop = align_face(photo, points, TEMPLATE, 112)
        assert crop is not None
        light = crop[:, :, 0].astype(float)
        centre = [(light.sum(axis=axis) @ np.arange(112)) / light.sum() for axis in (0, 1)]
        assert np.hypot(*np.subtract(centre, target)) < 0.25


def test_what_an_aligned_face_shows_beyond_the_photo_is_black() -> None:
    photo = np.full((200, 200, 3), 255, np.uint8)
    crop = align_face(photo, placed(1, 0, -56, 20), TEMPLATE, 112)
    assert crop is not None
    assert (crop[:, :54] == 0).all()
    assert (crop[:, 58:] == 255).all()


@pytest.mark.parametrize("place", [(-500, 50), (50, 900), (1e7, 1e7)])
def test_a_face_beside_the_photo_has_no_aligned_crop(place: tuple[float, float]) -> None:
    assert align_face(noise(80, 100), placed(1, 0, *place), TEMPLATE, 112) is None


@pytest.mark.parametrize(
    "points", [((5.0, 5.0),) * 5, ((math.nan, 1.0),) * 5, placed(1e-3, 0, 40, 40)]
)
def test_points_that_are_no_face_have_no_aligned_crop(points: Points) -> None:
    assert align_face(noise(80, 100), points, TEMPLATE, 112) is None


def test_a_large_face_is_made_small_without_a_pattern() -> None:
    fine = np.indices((1200, 1200)).sum(axis=0) % 2 * 255
    photo = np.repeat(fine.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    crop = align_face(photo, placed(7.3, 11, 150, 40), TEMPLATE, 112)
    assert crop is not None
    assert np.abs(crop[10:100, 10:100].astype(int) - 127).max() <= 3


@pytest.mark.parametrize("scale", [0.8, 2.6, 5.0])
def test_an_aligned_face_is_the_same_however_the_photo_lies(scale: float) -> None:
    upright = smooth(900, 900)
    points = placed(scale, 4, 150, 120)
    expected = align_face(upright, points, TEMPLATE, 112)
    assert expected is not None
    for turned in (90, 180, 270):
        sent = np.ascontiguousarray(np.rot90(upright, turned // 90))
        there: Points = {
            90: tuple((y, 900 - x) for x, y in points),
            180: tuple((900 - x, 900 - y) for x, y in points),
            270: tuple((900 - y, x) for x, y in points),
        }[turned]
        shape = Shape("landmarks", 112, template=TEMPLATE)
        found = cut_face(sent, FacePlace(Box(0, 0, 1, 1), there), shape, turned)
        assert found is not None
        np.testing.assert_array_equal(found, expected)


def test_a_grey_face_is_the_grey_of_the_coloured_one(portraits: list[Path]) -> None:
    photo = cv2.imread(str(portraits[0]), cv2.IMREAD_COLOR_RGB)
    assert photo is not None
    pixels = np.asarray(photo, np.uint8)
    points = placed(2.2, 8, 120, 30)
    coloured = align_face(pixels, points, TEMPLATE, 112)
    grey = align_face(pixels, points, TEMPLATE, 112, grey=True)
    assert coloured is not None
    assert grey is not None
    assert grey.shape == (112, 112)
    expected = cv2.cvtColor(coloured, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(grey.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_photos_of_a_few_pixels_are_cut_too(shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 99, np.uint8)
    for points in (placed(1, 0, -50, -50), placed(40, 0, -2000, -2000)):
        crop = align_face(photo, points, TEMPLATE, 112)
        assert crop is None or crop.shape == (112, 112, 3)
    crop = crop_filled(photo, Box(-3.0, -3.0, 5.0, 5.0), SIZE, 1.2)
    assert crop is not None
