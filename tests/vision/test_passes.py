"""When a photo needs another detection pass, and how two passes are merged."""

from __future__ import annotations

import numpy as np
import pytest

from service.vision.cascade import NO_DETECTIONS, Detections
from service.vision.passes import (
    certainty,
    coarse_face_size,
    coarse_pixel,
    crosses_edge,
    is_better,
    is_upright,
    merge,
    needs_border,
    ways_to_try,
)

WIDTH, HEIGHT, LEAST = 100, 80, 0.9
INSIDE = (20, 20, 50, 60)
BEYOND = (70, 20, 110, 60)


def found(*faces: tuple[tuple[float, ...], float]) -> Detections:
    return Detections(
        np.array([box for box, _ in faces], np.float32).reshape(-1, 4),
        np.array([score for _, score in faces], np.float32),
        np.array([[[n, n]] * 5 for n in range(len(faces))], np.float32).reshape(-1, 5, 2),
    )


def boxes(detections: Detections) -> list[tuple[float, ...]]:
    return [tuple(box) for box in detections.boxes.tolist()]


def together(plain: Detections, bordered: Detections) -> Detections:
    return merge(plain, bordered, WIDTH, HEIGHT, LEAST)


@pytest.mark.parametrize(
    ("box", "crosses"),
    [
        ((0, 0, 100, 80), False),
        ((-0.1, 0, 50, 50), True),
        ((0, -0.1, 50, 50), True),
        ((0, 0, 100.1, 50), True),
        ((0, 0, 50, 80.1), True),
        ((-1e30, -1e30, 1e30, 1e30), True),
    ],
)
def test_a_box_crosses_the_edge_by_any_part_of_a_pixel(
    box: tuple[float, ...], crosses: bool
) -> None:
    assert crosses_edge(np.array([box], np.float32), WIDTH, HEIGHT).tolist() == [crosses]


@pytest.mark.parametrize(
    ("detections", "needed"),
    [
        (NO_DETECTIONS, True),
        (found((INSIDE, 0.95)), False),
        (found((INSIDE, 0.89)), True),
        (found((INSIDE, 0.95), (BEYOND, 0.91)), True),
        (found((INSIDE, 0.95), (BEYOND, 0.89)), False),
    ],
)
def test_a_border_is_tried_for_no_face_and_for_one_that_is_cut_off(
    detections: Detections, needed: bool
) -> None:
    assert needs_border(detections, WIDTH, HEIGHT, LEAST) == needed


def test_a_face_inside_the_photo_keeps_the_box_of_the_plain_pass() -> None:
    plain = found((INSIDE, 0.95), (BEYOND, 0.94))
    bordered = found(((22, 21, 49, 58), 0.999), (BEYOND, 0.99))
    assert boxes(together(plain, bordered)) == [BEYOND, INSIDE]


def test_a_face_at_the_edge_gets_the_box_of_the_bordered_pass() -> None:
    better = (75, 18, 120, 66)
    result = together(found((BEYOND, 0.99)), found((better, 0.92)))
    assert boxes(result) == [better]
    assert result.scores.tolist() == [pytest.approx(0.92)]


def test_a_face_at_the_edge_is_not_lost_to_an_improbable_one() -> None:
    assert boxes(together(found((BEYOND, 0.99)), found(((75, 18, 120, 66), 0.8)))) == [BEYOND]


def test_an_improbable_face_gives_way_to_a_probable_one() -> None:
    other = (22, 22, 52, 58)
    assert boxes(together(found((INSIDE, 0.8)), found((other, 0.97)))) == [other]


def test_a_face_that_only_the_bordered_pass_sees_counts_at_the_edge() -> None:
    plain, small = found((INSIDE, 0.99), (BEYOND, 0.95)), (0, 60, 10, 70)
    corner = (-5, 60, 12, 90)
    result = together(plain, found((corner, 0.93), (small, 0.99)))
    assert boxes(result) == [INSIDE, BEYOND, corner]


def test_a_face_that_only_the_bordered_pass_sees_counts_anywhere_if_there_is_no_other() -> None:
    assert boxes(together(NO_DETECTIONS, found((INSIDE, 0.93)))) == [INSIDE]


def test_nothing_and_nothing_is_nothing() -> None:
    assert len(together(NO_DETECTIONS, NO_DETECTIONS).scores) == 0


def test_faces_come_with_their_own_landmarks_best_first() -> None:
    result = together(found((BEYOND, 0.95), (INSIDE, 0.92)), found(((0, 0, 4, 4), 0.99)))
    assert result.scores.tolist() == sorted(result.scores.tolist(), reverse=True)
    assert result.landmarks[:, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize(("score", "answer"), [(0.9999, True), (0.999, None), (0.99, False)])
def test_only_a_very_probable_face_shows_which_way_is_up(score: float, answer: bool | None) -> None:
    assert is_upright(score) is answer


def test_no_face_is_no_sign_of_an_upright_photo() -> None:
    assert certainty(NO_DETECTIONS) == 0
    assert is_upright(certainty(NO_DETECTIONS)) is False


@pytest.mark.parametrize(
    ("upright", "ways", "tried"),
    [
        (0.0, {90: 0.0, 180: 0.0, 270: 0.0}, []),
        (0.0, {90: 0.0, 180: 0.85, 270: 0.0}, []),
        (0.0, {90: 0.0, 180: 0.999, 270: 0.95}, [180]),
        (0.95, {90: 0.9995, 180: 0.9999, 270: 0.5}, [180]),
        (0.95, {90: 0.9991, 180: 0.999, 270: 0.5}, [90, 180]),
        (0.997, {90: 0.98, 180: 0.0, 270: 0.0}, []),
        (0.0, {90: 1.0, 180: 1.0, 270: 0.0}, [90, 180]),
    ],
)
def test_the_promising_ways_are_tried_best_first(
    upright: float, ways: dict[int, float], tried: list[int]
) -> None:
    assert ways_to_try(upright, ways) == tried


def test_a_photo_is_turned_for_a_face_that_is_more_probable_and_very_probable() -> None:
    assert is_better(0.9999, 0.95)
    assert not is_better(0.95, 0.9999)
    assert not is_better(0.97, 0.0)


@pytest.mark.parametrize(
    ("width", "height", "size"), [(1024, 768, 80), (100, 300, 50), (30, 30, 20), (10, 900, 20)]
)
def test_a_coarse_pass_is_for_large_faces_by_the_size_of_the_photo(
    width: int, height: int, size: float
) -> None:
    assert coarse_face_size(width, height, 20) == size


@pytest.mark.parametrize(
    ("size", "longer", "max_side", "pixel"),
    [(80, 1024, 2048, 2), (80, 4096, 2048, 4), (80, 4096, 0, 2), (25, 50, 2048, 1)],
)
def test_pixels_grow_with_the_smallest_face(
    size: float, longer: int, max_side: int, pixel: int
) -> None:
    assert coarse_pixel(size, longer, max_side) == pixel
