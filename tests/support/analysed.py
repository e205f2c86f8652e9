"""Photos that were never taken: analysed ones with embeddings made up for the test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.batching import Ticket
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import (
    AnalyzedPhoto,
    Box,
    Detection,
    EmbeddedFace,
    Embedding,
    FaceQuality,
    ModelSpace,
    PhotoSource,
)
from service.telemetry import StageClock

DIMENSION = 512
GOOD = FaceQuality(1.0, 120.0, 60.0, 128.0, 50.0, -3.5, 2.25)
OF_NOBODY = ClusterQuery((), ModelSpace("made-up/1"), fixed_rule(0.5))


def unit(vector: np.ndarray) -> Embedding:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def person(number: int) -> Embedding:
    """The face of one made-up person; two numbers are about 1.0 apart."""
    return unit(np.random.default_rng(number).standard_normal(DIMENSION))


def near(embedding: Embedding, distance: float, seed: int) -> Embedding:
    """A vector at a cosine distance from another."""
    noise = np.random.default_rng(seed).standard_normal(DIMENSION)
    across = unit(noise - (noise @ embedding) * embedding)
    cosine = 1 - distance
    return unit(cosine * embedding + np.sqrt(1 - cosine**2) * across)


def photo(*embeddings: Embedding) -> AnalyzedPhoto:
    """A photo of 640 x 480 pixels that shows these faces side by side."""
    faces = tuple(
        EmbeddedFace(
            Detection(
                Box(10.0 + 50 * i, 20.0, 50.0 + 50 * i, 70.0),
                tuple((15.0 + 50 * i + k, 30.0 + k) for k in range(5)),
                0.99,
            ),
            embedding,
            GOOD,
        )
        for i, embedding in enumerate(embeddings)
    )
    return AnalyzedPhoto("jpeg", 640, 480, "0123456789abcdef", faces)


class MadeUpAnalyzer:
    """Answers each photo's bytes with the analysis laid down for them."""

    def __init__(self, photos: dict[bytes, AnalyzedPhoto] | None = None) -> None:
        self.photos = photos or {}

    def add(self, *embeddings: Embedding) -> bytes:
        data = f"photo {len(self.photos)}".encode()
        self.photos[data] = photo(*embeddings)
        return data

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto:
        return self.photos[await read()]


def files_below(folder) -> Sequence[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
