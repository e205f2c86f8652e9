"""The face crop that the embedding network sees."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.types import Box


def crop_face(pixels: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8] | None:
    """The box cut out of a photo and resized by area, as facenet-pytorch's `extract_face` does.

    Args:
        pixels: uint8 [height, width, 3].
        box: in pixels of that photo; the part outside is left out.
        size: side of the square crop in pixels.

    Returns:
        uint8 [size, size, 3], or None when no whole pixel of the box lies inside the photo.
    """
    height, width = pixels.shape[:2]
    x1, y1 = int(max(box.x1, 0)), int(max(box.y1, 0))
    x2, y2 = int(min(box.x2, width)), int(min(box.y2, height))
    if x2 <= x1 or y2 <= y1:
        return None
    return resize_face(pixels[y1:y2, x1:x2], size)


def resize_face(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture that shows nothing but a face, resized by area.

    Args:
        pixels: uint8 [height, width, 3].
        size: side of the square result in pixels.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    resized = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)
