"""Faces whose boxes are known: cut out and embedded as the analyzer does, by one thread."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import ModelError
from service.domain.types import Box, Embedding
from service.runtime.manifest import EmbeddingFacts, load_manifest
from service.runtime.sessions import SessionSettings, open_sessions
from service.vision.crop import crop_face
from service.vision.decode import decode_pixels

# More gains nothing on a CPU.
_CALL_FACES = 8


class StoredFaceEmbedder:
    """FaceNet alone, without a batcher: nobody waits for it.

    Raises:
        ModelError: the models or their manifest cannot be used.
    """

    def __init__(self, models: Path, settings: SessionSettings) -> None:
        manifest = load_manifest(models)
        alone = manifest.model_copy(update={"models": {"facenet": manifest.models["facenet"]}})
        self._session = open_sessions(models, alone, settings)["facenet"]
        spec = self._session.spec
        side = spec.input.shape[1]
        if spec.embedding is None or not isinstance(side, int):
            raise ModelError(f"{spec.file} does not declare its embedding and its input's size")
        self.facts: EmbeddingFacts = spec.embedding
        self._size = side

    def cut(self, data: bytes, boxes: Sequence[Box]) -> list[NDArray[np.uint8] | None]:
        """The crops of a photo that was accepted once, whatever its size; None outside of it.

        Raises:
            InputError: the bytes are no usable photo.
        """
        pixels = decode_pixels(data, sys.maxsize)
        return [crop_face(pixels, box, self._size) for box in boxes]

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Unit vectors, float32 [dimension], in order."""
        found: list[Embedding] = []
        for start in range(0, len(crops), _CALL_FACES):
            found.extend(self._session.run(np.stack(crops[start : start + _CALL_FACES]))[0])
        return found
