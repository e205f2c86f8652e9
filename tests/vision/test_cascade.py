"""The cascade's later steps: what goes on from R-Net, and what O-Net makes of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.vision.cascade import crop_windows, final_detections, refine_candidates

Floats = NDArray[np.float32]
NO_BOXES = np.empty((0, 4), np.float32)
NO_SCORES = np.empty(0, np.float32)


def floats(*values: object) -> Floats:
    return np.array(values, np.float32)


def test_r_net_keeps_what_is_above_its_threshold() -> None:
    boxes = floats([0, 0, 10, 10], [100, 100, 110, 110], [200, 200, 210, 210])
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
