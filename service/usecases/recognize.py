"""Recognition without storage: the faces of a photo, and their embeddings."""

from __future__ import annotations

from service.batching import Ticket
from service.domain.types import AnalyzedPhoto, DetectedPhoto, Embedding, ModelSpace, PhotoSource
from service.telemetry import StageClock
from service.usecases.ports import PhotoAnalyzer


class Recognize:
    """Finds and embeds faces, and stores nothing.

    Every method raises InputError when the bytes are no usable image, and WithdrawnError or
    DeadlineError once the ticket fails.

    Args:
        space: identifies the weights of the embeddings; only equal spaces are compared.
        dimension: number of components of an embedding.
    """

    def __init__(self, analyzer: PhotoAnalyzer, *, space: ModelSpace, dimension: int) -> None:
        self.space = space
        self.dimension = dimension
        self._analyzer = analyzer

    async def detect(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> DetectedPhoto:
        """The faces of a photo, largest first."""
        return await self._analyzer.detect(read, clock, ticket)

    async def embed_photo(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> AnalyzedPhoto:
        """The faces of a photo with their embeddings, largest first; without perceptual hash."""
        return await self._analyzer.analyze(read, clock, ticket, hashed=False)

    async def embed_crop(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> Embedding:
        """The embedding of a face crop."""
        return await self._analyzer.embed_crop(read, clock, ticket)
