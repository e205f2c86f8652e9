"""Operations on arrays of boxes: NMS, squaring, refinement, clipping, by facenet-pytorch's rules.

Boxes are float32 [n, 4], x1 y1 x2 y2 in pixels of the upright photo. The rules are those of the
MTCNN paper (Zhang et al., IEEE SPL 2016) as facenet-pytorch's `detect_face` implements them,
including its one-pixel conventions, so the detections are the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.vision.compiled import kernel

Boxes = NDArray[np.float32]

# What `_suppress` adds to a box's sides, and whether it divides by the smaller box.
_BY_UNION = (np.float32(0.0), False)
_BY_SMALLER = (np.float32(1.0), True)


@kernel
def _suppress(
    boxes: NDArray[np.float32],
    order: NDArray[np.int64],
    threshold: float,
    extent: np.float32,
    by_smaller: bool,
) -> NDArray[np.int64]:
    n = order.shape[0]
    areas = np.empty(n, dtype=np.float32)
    for i in range(n):
        areas[i] = (boxes[i, 2] - boxes[i, 0] + extent) * (boxes[i, 3] - boxes[i, 1] + extent)
    gone = np.zeros(n, dtype=np.bool_)
    kept = np.empty(n, dtype=np.int64)
    count = 0
    zero = np.float32(0.0)
    for a in range(n):
        i = order[a]
        if gone[i]:
            continue
        kept[count] = i
        count += 1
        for b in range(a + 1, n):
            j = order[b]
            if gone[j]:
                continue
            w = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + extent
            h = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + extent
            shared = max(w, zero) * max(h, zero)
            base = min(areas[i], areas[j]) if by_smaller else areas[i] + areas[j] - shared
            if base > zero and shared / base > threshold:
                gone[j] = True
    return kept[:count]


def nms(boxes: Boxes, scores: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Non-maximum suppression by intersection over union (torchvision's `nms`).

    Returns:
        int64 [m], the rows that are kept, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    return _suppress(boxes, order, threshold, *_BY_UNION)


def nms_within_groups(
    boxes: Boxes, groups: NDArray[np.int32], threshold: float
) -> NDArray[np.int64]:
    """`nms` inside each group; the boxes are sorted by group, then by score, best first.

    Args:
        groups: int32 [n], ascending.

    Returns:
        int64 [m], the rows that are kept, in order.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1)) if len(groups) else np.empty(0, np.int64)
    ends = np.append(starts[1:], len(groups))
    kept = [
        start + _suppress(boxes[start:end], np.arange(end - start), threshold, *_BY_UNION)
        for start, end in zip(starts, ends, strict=False)
    ]
    return np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)


def nms_by_smaller_box(
    boxes: Boxes, scores: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Non-maximum suppression by intersection over the smaller box, borders counted as pixels.

    The last step of the cascade uses it: it removes a smaller box of a face inside a larger one.

    Returns:
        int64 [m], the rows that are kept, best score first.
    """
    order = np.argsort(scores, kind="stable")[::-1].copy()
    return _suppress(boxes, order, threshold, *_BY_SMALLER)


def square(boxes: Boxes) -> Boxes:
    """The squares around the centres of the boxes, with the longer side of each box."""
    width = boxes[:, 2] - boxes[:, 0]
    height = boxes[:, 3] - boxes[:, 1]
    side = np.maximum(width, height)
    x1 = boxes[:, 0] + width * np.float32(0.5) - side * np.float32(0.5)
    y1 = boxes[:, 1] + height * np.float32(0.5) - side * np.float32(0.5)
    return np.stack([x1, y1, x1 + side, y1 + side], axis=1)


def refine(boxes: Boxes, regression: NDArray[np.float32], *, border: float) -> Boxes:
    """Move boxes by a network's regression, which is in fractions of width and height.

    `border` is added to width and height first: 1 for R-Net and O-Net, 0 for P-Net.
    """
    width = boxes[:, 2] - boxes[:, 0] + np.float32(border)
    height = boxes[:, 3] - boxes[:, 1] + np.float32(border)
    size = np.stack([width, height, width, height], axis=1)
    return boxes + regression * size


def windows(boxes: Boxes, width: int, height: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The whole pixels of a photo that each box covers.

    Returns:
        windows: int32 [m, 4], y1 x1 y2 x2 in pixels, of the boxes that cover at least one.
        valid: bool [n], whether a box covers one.
    """
    # A refined box may be anywhere; coordinates far outside would overflow an int32.
    whole = np.trunc(np.clip(boxes, -1e6, 1e6)).astype(np.int32)
    x1 = np.maximum(whole[:, 0], 1) - 1
    y1 = np.maximum(whole[:, 1], 1) - 1
    x2 = np.minimum(whole[:, 2], width)
    y2 = np.minimum(whole[:, 3], height)
    valid = (x2 > x1) & (y2 > y1)
    return np.stack([y1, x1, y2, x2], axis=1)[valid], valid
