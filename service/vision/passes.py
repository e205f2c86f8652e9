"""Decides whether a photo needs further detection passes, and merges the results of passes.

A face that crosses the edge of the photo is detected as a whole only with a black border around the
photo, and a face on its side or upside down only after a rotation. A coarse pass, for large faces
alone, looks for both when the first full pass leaves a doubt.

The numbers were chosen on 69 photos, at full size and at 1,024 pixels, and on 500 of Labeled Faces
in the Wild, one a person, each in all four orientations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Boxes
from service.vision.cascade import Detections
from service.vision.views import View

BORDER_SHARE = 0.25
"""Share of the longer side. Borders from 0.15 to 0.5, and levels in between, find as many faces."""

COARSENESS = 4
"""The smallest face of a coarse pass, as a multiple of that of a full pass. P-Net sees a sixteenth
of the pixels then, or an eighth with a border."""

# A cell of P-Net is 12 pixels wide, an input of O-Net 48. 40 pixels a face lose no detail for both.
_FACE_PIXELS = 40
# A face that fills a small photo is detected at several levels.
_MIN_SIDE_SHARE = 0.5

# Of 1,914 photos on their side or upside down a third had a detection; its probability reached
# 0.998 in 7 and 0.9995 in none. Of the same photos upright 96 % and 87 % reach that.
_LIKELY = 0.998
_SURE = 0.9995
# After the right rotation, faces have a probability of 0.989 or more.
_TURNED = 0.98
# In logits. In a coarse pass the right orientation is the best one, or at most this far behind it.
_TIE = 1.5
# Share of the smaller of two boxes.
_SAME_FACE = 0.5
_UNCERTAINTY = 1e-7


def border_of(width: int, height: int) -> int:
    """The width of the black border around an image, in pixels."""
    return int(max(width, height) * BORDER_SHARE)


def coarse_face_size(width: int, height: int, min_face_size: int) -> float:
    """The smallest face of a coarse pass, in pixels of the photo.

    Args:
        min_face_size: the smallest face of a full pass.
    """
    largest = max(min_face_size, min(width, height) * _MIN_SIDE_SHARE)
    return min(min_face_size * COARSENESS, largest)


def coarse_pixel(face_size: float, longer: int, max_side: int) -> int:
    """The side of a pixel of a coarse pass, in pixels of the photo.

    Args:
        face_size: of `coarse_face_size`. longer: the longer side of the photo.
        max_side: a longer photo is searched without its finest levels; 0 for none.
    """
    finest = face_size * max(1.0, longer / max_side if max_side else 1.0)
    return max(1, int(finest / _FACE_PIXELS))


def in_photo(view: View, found: Detections) -> Detections:
    """Detections in a view, converted to pixels of the photo."""
    if not view.turned and not view.border:
        return found
    return Detections(
        view.boxes_to_photo(found.boxes), found.scores, view.points_to_photo(found.landmarks)
    )


def certainty(found: Detections) -> float:
    """The highest probability of the detections; 0 when there are none."""
    return float(found.scores.max(initial=0.0))


def needs_border(found: Detections, width: int, height: int, min_confidence: float) -> bool:
    """Whether to add a border: no face was detected, or one that crosses the edge of the photo."""
    faces = found.take(found.scores >= np.float32(min_confidence))
    return not len(faces.scores) or bool(crosses_edge(faces.boxes, width, height).any())


def crosses_edge(boxes: Boxes, width: int, height: int) -> NDArray[np.bool_]:
    """Whether each box, float32 [n, 4], crosses the edge of the photo: bool [n]."""
    inside = (boxes[:, :2] >= 0) & (boxes[:, 2:] <= np.array([width, height], np.float32))
    return np.asarray(~inside.all(axis=1))


def merge(
    plain: Detections, bordered: Detections, width: int, height: int, min_confidence: float
) -> Detections:
    """Merge the detections of a plain pass and of a pass with a border, best first.

    A face of both passes keeps the box of the plain pass, so a face inside the photo does not
    depend on the rest of the photo. The box with the border replaces it when the plain one crosses
    the edge or is less probable than `min_confidence`. A face of the bordered pass alone counts
    when it crosses the edge, or when the plain pass detected none.
    """
    least = np.float32(min_confidence)
    settled = ~crosses_edge(plain.boxes, width, height) & (plain.scores >= least)
    beyond = crosses_edge(bordered.boxes, width, height)
    anything = bool((plain.scores >= least).any())
    stays = np.ones(len(plain.scores), dtype=np.bool_)
    comes = np.zeros(len(bordered.scores), dtype=np.bool_)
    for row, box in enumerate(bordered.boxes):
        same = _shared(box, plain.boxes) > _SAME_FACE
        if not same.any():
            comes[row] = beyond[row] or not anything
        elif not (same & settled).any() and (
            bordered.scores[row] >= min(least, plain.scores[same].max())
        ):
            comes[row] = True
            stays[same] = False
    found = Detections.joined([plain.take(stays), bordered.take(comes)])
    return found.take(np.argsort(-found.scores, kind="stable"))


def is_upright(sure: float) -> bool | None:
    """Whether a photo is upright; None when that needs a coarse pass.

    In a third of the photos on their side or upside down the cascade detects a face with plausible
    landmarks: only the probability tells.

    Args:
        sure: certainty of the full passes without rotation.
    """
    if sure >= _SURE:
        return True
    return None if sure >= _LIKELY else False


def ways_to_try(upright: float, ways: Mapping[int, float]) -> list[int]:
    """The rotations that are worth a full pass, the most promising first, in degrees clockwise.

    Args:
        upright: certainty of the full pass without rotation.
        ways: certainty of the coarse pass, by degrees clockwise.
    """
    best = max(ways.values())
    least = max(_logit(best), _logit(upright), _logit(_TURNED)) - _TIE
    ranked = sorted(ways, key=lambda turned: -ways[turned])
    return [turned for turned in ranked if _logit(ways[turned]) >= least]


def is_better(turned: float, upright: float) -> bool:
    """Whether to rotate the photo, by the certainties of a full pass with and without rotation."""
    return turned >= _TURNED and turned > upright


def _logit(probability: float) -> float:
    kept = min(max(probability, _UNCERTAINTY), 1 - _UNCERTAINTY)
    return float(np.log(kept / (1 - kept)))


def _shared(box: NDArray[np.float32], boxes: Boxes) -> NDArray[np.float32]:
    """Intersections of a box with other boxes over the smaller area of each pair: float32 [n]."""
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(size, 0).prod(axis=1)
    smaller = np.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return np.asarray(shared / np.maximum(smaller, np.float32(1e-6)), dtype=np.float32)
