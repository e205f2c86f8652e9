"""Cuts out and embeds faces at known places as the analyzer does, in one thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.domain.types import Embedding, FacePlace
from service.runtime.manifest import EmbeddingFacts, embedding_of, load_manifest
from service.runtime.sessions import SessionSettings, open_sessions
from service.vision.crop import cut_face
from service.vision.decode import decode
from service.vision.formats.base import DecodeLimits

# Larger calls gain nothing on a CPU.
_CALL_FACES = 8


class StoredFaceEmbedder:
    """The embedding network without a batcher, for work that no request waits for.

    Args:
        limits: those of the photos that the service takes. A photo of an archive may exceed them,
            because it was never decoded before.
        space: the space of the embeddings; None for the default one.

    Raises:
        ModelError: the models or their manifest cannot be used.
    """

    def __init__(
        self,
        models: Path,
        settings: SessionSettings,
        *,
        limits: DecodeLimits,
        space: str | None = None,
    ) -> None:
        manifest = load_manifest(models)
        embedder = {"embedder": manifest.models["embedder"]}
        only_embedder = manifest.model_copy(update={"models": embedder})
        self._session = open_sessions(models, only_embedder, settings)["embedder"]
        self.facts: EmbeddingFacts = embedding_of(self._session.spec, space)
        self._limits = limits

    def cut(
        self, data: bytes, places: Sequence[FacePlace], turned: int
    ) -> list[NDArray[np.uint8] | None]:
        """The crop of each face of a photo; None for a face outside the photo.

        Args:
            places: the places of the faces, in pixels of the upright photo.
            turned: the further rotation that makes the faces upright, in degrees clockwise.

        Raises:
            InputError: the bytes are not a usable photo, or exceed the limits.
        """
        photo = decode(data, self._limits, hashed=False)
        return [
            cut_face(photo.pixels, place.scaled(1 / photo.shrink), self.facts.crop, turned)
            for place in places
        ]

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """The unit vector of each crop, float32 [dimension], in order."""
        found: list[Embedding] = []
        for start in range(0, len(crops), _CALL_FACES):
            batch = np.stack(crops[start : start + _CALL_FACES])
            found.extend(self._session.run(batch, [self.facts.output])[0])
        return found
