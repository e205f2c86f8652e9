"""Look at a photo and store nothing: where its faces are, and their embeddings."""

from __future__ import annotations

from service.batching import Ticket
from service.domain.types import AnalyzedPhoto, DetectedPhoto, Embedding, ModelSpace, PhotoSource
from service.telemetry import StageClock
from service.usecases.ports import PhotoAnalyzer


class Recognize:
    """Finds and embeds faces for a caller who keeps the results.

    Every method raises InputError when the bytes are no usable image, and WithdrawnError or
    DeadlineError once the ticket fails.

    Args:
        space: identifies the weights that make the embeddings; only equal spaces are compared.
        dimension: of the embeddings.
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
        """The faces of a photo with their embeddings, largest first; its hash is left empty."""
        return await self._analyzer.analyze(read, clock, ticket, hashed=False)

    async def embed_crop(self, read: PhotoSource, clock: StageClock, ticket: Ticket) -> Embedding:
        """The embedding of an image that shows one face and nothing else."""
        return await self._analyzer.embed_crop(read, clock, ticket)
