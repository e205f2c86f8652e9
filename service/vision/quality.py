"""How well a face can be compared: its size, sharpness, light and pose, each as a score.

Strangers come together where pictures are bad: faces of 16 pixels, blurred or very dark ones are
nearer to one another than many a good picture to its own person. So a face of low quality is not
compared with. All bounds were chosen on faces of 1,004 people of Labeled Faces in the Wild, of
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
"""A part of the quality that scores less than this is given as a reason."""

# Where the five landmarks of a frontal face lie in 112 x 112 pixels (ArcFace, CVPR 2019).
_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_SIDE = 112
_DECIMALS = 4
# Each part scores 0 at the first bound, 1 at the second, and evenly in between.
_SIZE = (12.0, 44.0)
_SHARPNESS = (20.0, 60.0)
_DARK = (25.0, 65.0)
_BRIGHT = (245.0, 205.0)
# The share of a face that is burnt out: as bright as that, it shows no features. Of 1,000 faces 5
# have more than 0.15; made 1.9 times as bright, half have more than 0.27.
_BURNT_OUT = 250
_BURNT = (0.4, 0.1)
_CONTRAST = (8.0, 32.0)
_YAW = (65.0, 25.0)
_CONFIDENCE = (0.85, 0.99)
# The nose is about so far in front of the eyes, in distances between the eyes.
_NOSE_DEPTH = 0.6


def face_quality(pixels: NDArray[np.uint8], face: Detection) -> FaceQuality:
    """The quality of a face.

    Args:
        pixels: uint8 [height, width, 3], the photo that the face was found in.
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
    """An estimate of yaw and roll from five landmarks, in degrees.

    The nose of a head that is turned lies beside the line from between the eyes to the mouth, by
    the sine of the angle times how far it is in front of it.

    Args:
        landmarks: float64 [5, 2]: left eye, right eye, nose, left and right corner of the mouth.

    Returns:
        Yaw, positive where the nose points to the right of the photo, and roll, positive clockwise.
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
    """To what is the same in every run: sums of floats depend on where in memory they lie."""
    return round(value, _DECIMALS)
