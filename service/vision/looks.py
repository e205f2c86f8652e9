"""Further looks at a photo: whether one is due, and what two looks say together.

A face that reaches beyond the photo is seen as a whole only with a black border round the photo,
and a face that lies on its side or head only when the photo is turned. Both are sought at a glance:
large faces alone, where the first full look leaves a doubt.

The numbers were chosen on 69 photos, at full size and at 1,024 pixels, and on 500 of Labeled Faces
in the Wild, one a person, each of them all four ways up.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Boxes
from service.vision.cascade import Detections
from service.vision.views import View

BORDER_SHARE = 0.25
"""Of the longer side. With 0.15 to 0.5, or with levels in between, as many faces are found."""

COARSENESS = 4
"""A glance begins with faces this many times as large as the smallest ones of a full look. P-Net
sees a sixteenth of the pixels then, or an eighth with a border."""

# A cell of P-Net is 12 pixels wide, an input of O-Net 48. With 40 for a face both see all there is.
_FACE_PIXELS = 40
# In a small photo, a face that fills it is to be seen at several levels.
_MIN_SIDE_SHARE = 0.5

# Of 1,914 photos on their side or head, where something was found in a third, it reached 0.998 in 7
# and 0.9995 in none; of the same photos upright 96 and 87 % reach that.
_LIKELY = 0.998
_SURE = 0.9995
# What faces are found with once the photo is turned: 0.989 at least.
_TURNED = 0.98
# In logits. The right way up is the best one of a glance, or behind the best one by no more.
_TIE = 1.5
# Of the smaller one of two boxes.
_SAME_FACE = 0.5
_UNCERTAINTY = 1e-7


def border_of(width: int, height: int) -> int:
    """Pixels of black to be put round a picture."""
    return int(max(width, height) * BORDER_SHARE)


def coarse_face_size(width: int, height: int, min_face_size: int) -> float:
    """The smallest face that a glance sees, in pixels of the photo.

    Args:
        min_face_size: that of a full look.
    """
    largest = max(min_face_size, min(width, height) * _MIN_SIDE_SHARE)
    return min(min_face_size * COARSENESS, largest)


def coarse_pixel(face_size: float, longer: int, max_side: int) -> int:
    """The side of a pixel, in pixels of the photo, with which a glance still sees enough.

    Args:
        face_size: as `coarse_face_size` gives it. longer: the photo's longer side.
        max_side: a longer photo is searched without its finest levels; 0 for none.
    """
    finest = face_size * max(1.0, longer / max_side if max_side else 1.0)
    return max(1, int(finest / _FACE_PIXELS))


def in_photo(view: View, found: Detections) -> Detections:
    """What was found in a view, in pixels of the photo as it is."""
    if not view.turned and not view.border:
        return found
    return Detections(
        view.boxes_to_photo(found.boxes), found.scores, view.points_to_photo(found.landmarks)
    )


def certainty(found: Detections) -> float:
    """The probability of the most probable face; 0 where there is none."""
    return float(found.scores.max(initial=0.0))


def needs_border(found: Detections, width: int, height: int, min_confidence: float) -> bool:
    """Whether a border may show more: no face was found, or one that crosses the photo's edge."""
    faces = found.take(found.scores >= np.float32(min_confidence))
    return not len(faces.scores) or bool(crosses_edge(faces.boxes, width, height).any())


def crosses_edge(boxes: Boxes, width: int, height: int) -> NDArray[np.bool_]:
    """Which boxes, float32 [n, 4], reach beyond the photo: bool [n]."""
    inside = (boxes[:, :2] >= 0) & (boxes[:, 2:] <= np.array([width, height], np.float32))
    return np.asarray(~inside.all(axis=1))


def merge(
    plain: Detections, bordered: Detections, width: int, height: int, min_confidence: float
) -> Detections:
    """The faces of a photo by a plain look and by one with a border, best first.

    A face that both found keeps the box of the plain look, so that a face inside the photo does
    not depend on what else is there. Where that box crosses the photo's edge, or is less probable
    than `min_confidence`, the bordered one takes its place. A face of the bordered look alone
    counts where it crosses the edge, and everywhere if the plain look found none.
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
    """Whether a photo is the right way up; None where its most probable face is to be judged again.

    In a third of the photos that lie on their side or head the cascade finds a face, with landmarks
    as plausible as any: only the probability tells.

    Args:
        sure: certainty of what full looks found without turning.
    """
    if sure >= _SURE:
        return True
    return None if sure >= _LIKELY else False


def ways_to_try(upright: float, ways: Mapping[int, float]) -> list[int]:
    """The turns after which a full look is worth its time, the most promising one first.

    Args:
        upright: certainty of what a full look found without turning.
        ways: certainty of what a glance found, by degrees clockwise.
    """
    best = max(ways.values())
    least = max(_logit(best), _logit(upright), _logit(_TURNED)) - _TIE
    ranked = sorted(ways, key=lambda turned: -ways[turned])
    return [turned for turned in ranked if _logit(ways[turned]) >= least]


def is_better(turned: float, upright: float) -> bool:
    """Whether the photo is to be turned, by the certainties of a full look at it each way up."""
    return turned >= _TURNED and turned > upright


def _logit(probability: float) -> float:
    kept = min(max(probability, _UNCERTAINTY), 1 - _UNCERTAINTY)
    return float(np.log(kept / (1 - kept)))


def _shared(box: NDArray[np.float32], boxes: Boxes) -> NDArray[np.float32]:
    """What a box shares with each of others, over the smaller one of the two: float32 [n]."""
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(size, 0).prod(axis=1)
    smaller = np.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return np.asarray(shared / np.maximum(smaller, np.float32(1e-6)), dtype=np.float32)
