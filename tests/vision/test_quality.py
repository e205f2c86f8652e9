"""A face scores by its worst part, and says which that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.types import Box, Detection
from service.vision.quality import REASON_BELOW, face_quality, pose

Pixels = NDArray[np.uint8]

# What the detector finds in the portraits.
ASTRONAUT = Detection(
    Box(181.1, 62.2, 267.7, 172.1),
    ((205.0, 101.7), (246.8, 103.7), (224.7, 129.0), (201.7, 139.2), (245.3, 141.9)),
    0.999998,
)
HOPPER = Detection(
    Box(174.4, 119.6, 355.6, 340.5),
    ((221.7, 192.2), (309.8, 186.1), (269.4, 239.2), (232.7, 279.6), (306.6, 275.9)),
    0.9998,
)


@pytest.fixture(scope="module")
def photos(portraits: list[Path]) -> list[tuple[Pixels, Detection]]:
    found = []
    for path, face in zip(portraits, (ASTRONAUT, HOPPER), strict=True):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        found.append((np.asarray(image, np.uint8), face))
    return found


def blurred(photo: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), sigma), np.uint8) if sigma else photo


def through_few_pixels(photo: Pixels, face: Detection, side: int) -> Pixels:
    scale = side / min(face.box.x2 - face.box.x1, face.box.y2 - face.box.y1)
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    back = cv2.resize(small, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, np.uint8)


def lit(photo: Pixels, factor: float, plus: float = 0.0) -> Pixels:
    return np.clip(photo.astype(np.float32) * factor + plus, 0, 255).astype(np.uint8)


def test_good_portraits_have_nothing_against_them(photos: list[tuple[Pixels, Detection]]) -> None:
    for photo, face in photos:
        quality = face_quality(photo, face)
        assert quality.reasons == ()
        assert quality.score > 0.8
        assert quality.size == pytest.approx(face.box.x2 - face.box.x1, abs=1e-3)


def test_blur_lowers_sharpness_and_score_step_by_step(
    photos: list[tuple[Pixels, Detection]],
) -> None:
    for photo, face in photos:
        found = [face_quality(blurred(photo, sigma), face) for sigma in (0, 1, 2, 4, 6, 9, 13)]
        sharpness = [quality.sharpness for quality in found]
        assert sharpness == sorted(sharpness, reverse=True)
        scores = [quality.score for quality in found]
        assert scores == sorted(scores, reverse=True)
        assert found[-1].score < REASON_BELOW
        assert found[-1].reasons[0] == "blurred"


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda photo, face: blurred(photo, 13), "blurred"),
        (lambda photo, face: through_few_pixels(photo, face, 8), "blurred"),
        (lambda photo, face: lit(photo, 0.05), "dark"),
        (lambda photo, face: lit(photo, 0.1, 240), "bright"),
        (lambda photo, face: lit(photo, 3), "bright"),
        (lambda photo, face: lit(photo, 0.1, 100), "low_contrast"),
    ],
)
def test_what_harms_a_face_is_named(
    photos: list[tuple[Pixels, Detection]],
    harm: Callable[[Pixels, Detection], Pixels],
    reason: str,
) -> None:
    for photo, face in photos:
        quality = face_quality(harm(photo, face), face)
        assert quality.score < REASON_BELOW
        assert reason in quality.reasons


def test_a_small_face_is_small_whatever_it_shows(photos: list[tuple[Pixels, Detection]]) -> None:
    for photo, face in photos:
        scale = 16 / (face.box.x2 - face.box.x1)
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        box = Box(*(side * scale for side in dataclasses.astuple(face.box)))
        points = tuple((x * scale, y * scale) for x, y in face.landmarks)
        quality = face_quality(np.asarray(small, np.uint8), Detection(box, points, 0.9999))
        assert quality.size == pytest.approx(16)
        assert "small" in quality.reasons


def test_an_improbable_face_is_uncertain(photos: list[tuple[Pixels, Detection]]) -> None:
    photo, face = photos[0]
    quality = face_quality(photo, dataclasses.replace(face, confidence=0.9))
    assert quality.reasons == ("uncertain",)


def test_the_score_is_that_of_the_worst_part(photos: list[tuple[Pixels, Detection]]) -> None:
    photo, face = photos[0]
    worst = face_quality(lit(blurred(photo, 3), 0.05), dataclasses.replace(face, confidence=0.91))
    alone = [
        face_quality(blurred(photo, 3), face),
        face_quality(lit(photo, 0.05), face),
        face_quality(photo, dataclasses.replace(face, confidence=0.91)),
    ]
    assert worst.score <= min(quality.score for quality in alone)
    assert worst.reasons[0] in ("blurred", "dark")


def test_a_face_of_any_size_in_a_photo_is_measured_alike(
    photos: list[tuple[Pixels, Detection]],
) -> None:
    photo, face = photos[1]
    full = face_quality(photo, face)
    for scale in (1.5, 2.3, 4.0):
        large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        box = Box(*(side * scale for side in dataclasses.astuple(face.box)))
        points = tuple((x * scale, y * scale) for x, y in face.landmarks)
        quality = face_quality(np.asarray(large, np.uint8), Detection(box, points, 0.9998))
        assert quality.sharpness == pytest.approx(full.sharpness, rel=0.15)
        assert quality.brightness == pytest.approx(full.brightness, abs=2)
        assert quality.contrast == pytest.approx(full.contrast, rel=0.05)


@pytest.mark.parametrize("box", [Box(-400, -400, -300, -300), Box(-1e9, -1e9, 1e9, 1e9)])
def test_a_face_beside_the_photo_is_of_no_quality(
    photos: list[tuple[Pixels, Detection]], box: Box
) -> None:
    photo, face = photos[0]
    points = tuple((x - 600, y - 500) for x, y in face.landmarks)
    quality = face_quality(photo, Detection(box, points, 0.95))
    assert quality.score == 0
    assert (quality.sharpness, quality.brightness, quality.contrast) == (0, 0, 0)


def head(yaw: float, roll: float) -> NDArray[np.float64]:
    """Landmarks of a head of plain proportions, seen from far away: x, y in pixels."""
    solid = np.array(
        [[-30, -33, 18], [30, -33, 18], [0, 0, 54], [-24, 33, 24], [24, 33, 24]], np.float64
    )
    turn, lean = np.radians(yaw), np.radians(roll)
    x = solid[:, 0] * np.cos(turn) + solid[:, 2] * np.sin(turn)
    points = np.stack([x, solid[:, 1]], axis=1)
    about = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])
    return np.asarray(points @ about + (100, 100))


@pytest.mark.parametrize("yaw", [-40, -20, 0, 20, 40])
@pytest.mark.parametrize("roll", [-30, 0, 30])
def test_pose_is_estimated_from_the_landmarks(yaw: float, roll: float) -> None:
    found_yaw, found_roll = pose(head(yaw, roll))
    assert found_roll == pytest.approx(roll, abs=8)
    assert found_yaw == pytest.approx(yaw, abs=12)
    assert np.sign(found_yaw) == np.sign(yaw) or abs(found_yaw) < 1e-6


def test_a_head_that_is_turned_far_away_is_named(photos: list[tuple[Pixels, Detection]]) -> None:
    photo, face = photos[0]
    points = tuple((float(x), float(y)) for x, y in np.add(head(70, 0), (130, 30)))
    quality = face_quality(photo, dataclasses.replace(face, landmarks=points))
    assert "turned_away" in quality.reasons


def test_landmarks_in_one_place_have_no_pose() -> None:
    assert pose(np.full((5, 2), 7.0)) == (0.0, 0.0)
