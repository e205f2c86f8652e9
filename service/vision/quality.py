"""Scores how well a face can be compared: by its size, sharpness, light and pose.

Bad images of strangers look alike: tiny, blurred or very dark faces are closer to one another than
some good images are to their own person. So no face is matched against a face of low quality. All
bounds were chosen on faces of 1,004 people of Labeled Faces in the Wild, of
which 2 % score less than 0.5 (of 1,004 others 3 %), and on the same faces made small, blurred and
dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.types import Detection, FaceQuality
from service.vision.crop import align_face

REASON_BELOW = 0.5
"""A part with a lower score is a reason for low quality."""

# The five landmarks of a frontal face in 112 x 112 pixels (ArcFace, CVPR 2019).
_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_SIDE = 112
_DECIMALS = 4
# Each part scores 0 at the first bound, 1 at the second, and linearly in between.
_SIZE = (12.0, 44.0)
_SHARPNESS = (20.0, 60.0)
_DARK = (25.0, 65.0)
_BRIGHT = (245.0, 205.0)
# The share of burnt-out pixels, which show no features. Of 1,000 faces 5 have more than 0.15; of
# the same faces 1.9 times as bright half have more than 0.27.
_BURNT_OUT = 250
_BURNT = (0.4, 0.1)
_CONTRAST = (8.0, 32.0)
_YAW = (65.0, 25.0)
_CONFIDENCE = (0.85, 0.99)
# Distance of the nose in front of the eyes, as a multiple of the distance between the eyes.
_NOSE_DEPTH = 0.6


def face_quality(pixels: NDArray[np.uint8], face: Detection) -> FaceQuality:
    """The quality of a face.

    Args:
        pixels: uint8 [height, width, 3], the photo of the detection.
    """
    grey = align_face(pixels, face.landmarks, _TEMPLATE, _SIDE, grey=True)
    if grey is None:
        grey = np.zeros((_SIDE, _SIDE), np.uint8)
    mean, deviation = (_rounded(float(each[0, 0])) for each in cv2.meanStdDev(grey))
    burnt = float(np.count_nonzero(grey >= _BURNT_OUT)) / grey.size
    edges = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    sharpness = _rounded(cv2.mean(edges)[0])
    size = _rounded(min(face.box.x2 - face.box.x1, face.box.y2 - face.box.y1))
    yaw, roll = (_rounded(angle) for angle in pose(np.asarray(face.landmarks, np.float64)))
    scores: Mapping[str, float] = {
        "small": _score(size, *_SIZE),
        "blurred": _score(sharpness, *_SHARPNESS),
        "dark": _score(mean, *_DARK),
        "bright": min(_score(mean, *_BRIGHT), _score(burnt, *_BURNT)),
        "low_contrast": _score(deviation, *_CONTRAST),
        "turned_away": _score(abs(yaw), *_YAW),
        "uncertain": _score(face.confidence, *_CONFIDENCE),
    }
    reasons = sorted((r for r in scores if scores[r] < REASON_BELOW), key=lambda r: scores[r])
    return FaceQuality(
        _rounded(min(scores.values())), size, sharpness, mean, deviation, yaw, roll, tuple(reasons)
    )


def pose(landmarks: NDArray[np.float64]) -> tuple[float, float]:
    """Estimate yaw and roll from five landmarks, in degrees.

    On a turned head the nose lies beside the line from between the eyes to the mouth, by the sine
    of the angle times its distance in front of that line.

    Args:
        landmarks: float64 [5, 2]: left eye, right eye, nose, left and right corner of the mouth.

    Returns:
        Yaw, positive when the nose points to the right of the photo, and roll, positive clockwise.
    """
    across = landmarks[1] - landmarks[0]
    wide = float(np.hypot(*across))
    if not wide > 0:
        return 0.0, 0.0
    roll = math.degrees(math.atan2(across[1], across[0]))
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    down, nose = mouth - eyes, landmarks[2] - eyes
    length = float(down @ down)
    along = float(nose @ down) / length if length > 0 else 0.0
    beside = float((nose - along * down) @ across) / wide**2
    return math.degrees(math.asin(max(-1.0, min(1.0, beside / _NOSE_DEPTH)))), roll


def _score(value: float, worst: float, best: float) -> float:
    return max(0.0, min(1.0, (value - worst) / (best - worst)))


def _rounded(value: float) -> float:
    """Round to digits that every run reproduces: sums of floats depend on memory alignment."""
    return round(value, _DECIMALS)
