"""Faces whose boxes are known: cut out and embedded as the analyzer does, by one thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.domain.types import Embedding, FacePlace
from service.runtime.manifest import EmbeddingFacts, embedding_of, load_manifest
from service.runtime.sessions import SessionSettings, open_sessions
from service.vision.crop import cut_face
from service.vision.decode import decode_pixels

# More gains nothing on a CPU.
_CALL_FACES = 8


class StoredFaceEmbedder:
    """The embedding network alone, without a batcher: nobody waits for it.

    Args:
        max_pixels: the largest width x height of a photo that is decoded; photos of an archive
            were not decoded before.
        space: which of its embeddings is wanted; None for the default one.

    Raises:
        ModelError: the models or their manifest cannot be used.
    """

    def __init__(
        self,
        models: Path,
        settings: SessionSettings,
        *,
        max_pixels: int,
        space: str | None = None,
    ) -> None:
        manifest = load_manifest(models)
        embedder = {"embedder": manifest.models["embedder"]}
        only_embedder = manifest.model_copy(update={"models": embedder})
        self._session = open_sessions(models, only_embedder, settings)["embedder"]
        self.facts: EmbeddingFacts = embedding_of(self._session.spec, space)
        self._max_pixels = max_pixels

    def cut(
        self, data: bytes, places: Sequence[FacePlace], turned: int
    ) -> list[NDArray[np.uint8] | None]:
        """The crops of a photo; None outside of it.

        Args:
            places: of the faces, in pixels of the upright photo.
            turned: degrees clockwise by which it has to be turned further for upright faces.

        Raises:
            InputError: the bytes are no usable photo, or one with more pixels than `max_pixels`.
        """
        pixels = decode_pixels(data, self._max_pixels)
        return [cut_face(pixels, place, self.facts.crop, turned) for place in places]

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Unit vectors, float32 [dimension], in order."""
        found: list[Embedding] = []
        for start in range(0, len(crops), _CALL_FACES):
            batch = np.stack(crops[start : start + _CALL_FACES])
            found.extend(self._session.run(batch, [self.facts.output])[0])
        return found
