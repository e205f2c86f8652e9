"""Recognition without storage: the faces of a photo, their embeddings, and those of two photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.batching import Ticket
from service.domain.matching import MatchRule, as_stored, doubt_of
from service.domain.search import MAX_COMPARED_FACES, ComparedFaces, Comparison, Verdict
from service.domain.types import (
    AnalyzedPhoto,
    DetectedFace,
    DetectedPhoto,
    EmbeddedFace,
    Embedding,
    ModelSpace,
    PhotoSource,
)
from service.telemetry import StageClock
from service.usecases.ports import PhotoAnalyzer

# A pair beyond the limit whose similarity is at least this may be of one person: a hundred times as
# many strangers are so near as are within the limit, and yet few.
_UNSURE_SIMILARITY = 0.01


class Recognize:
    """Finds, embeds and compares faces, and stores nothing.

    Every method raises InputError when the bytes are no usable image, and WithdrawnError or
    DeadlineError once the ticket fails.

    Args:
        space: identifies the weights of the embeddings; only equal spaces are compared.
        dimension: number of components of an embedding.
        rule: the distance of two faces, and its limit, as for an insert.
        min_quality: as of IngestPhoto: with a face below it no comparison is sure.
    """

    def __init__(
        self,
        analyzer: PhotoAnalyzer,
        *,
        space: ModelSpace,
        dimension: int,
        rule: MatchRule,
        min_quality: float = 0.0,
    ) -> None:
        self.space = space
        self.dimension = dimension
        self._analyzer = analyzer
        self._rule = rule
        self._min_quality = min_quality

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

    async def compare(
        self, read_a: PhotoSource, read_b: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> Comparison:
        """Compare the faces of two photos, the `MAX_COMPARED_FACES` largest of each.

        The distance of a pair, its limit and its verdict are those of an insert of the second face
        into a tenant that holds the first one alone:

        - "unsure" if the quality of either face is below `min_quality`: such a face may be far from
          itself and near to strangers.
        - "same" within the limit, which is smaller for a face whose quality is little better.
        - "unsure" beyond it, while the similarity is at least 0.01 by the limit of good faces.
        - "different" beyond that.
        """
        # One after the other: both at once would hold two places of the analyzer, which two such
        # requests could wait for in turn.
        photo_a = await self._analyzer.analyze(read_a, clock, ticket, hashed=False)
        photo_b = await self._analyzer.analyze(read_b, clock, ticket, hashed=False)
        ticket.check()
        faces_a = photo_a.faces[:MAX_COMPARED_FACES]
        faces_b = photo_b.faces[:MAX_COMPARED_FACES]
        distances = self._distances(faces_a, faces_b)
        return Comparison(
            _shown(photo_a, faces_a),
            _shown(photo_b, faces_b),
            self.space,
            tuple(
                self._judge(a, one, b, other, float(distances[a, b]))
                for a, one in enumerate(faces_a)
                for b, other in enumerate(faces_b)
            ),
        )

    def _distances(
        self, members: Sequence[EmbeddedFace], probes: Sequence[EmbeddedFace]
    ) -> NDArray[np.float64]:
        """The distances of probes to people of one face each: float64 [members, probes]."""
        if not members or not probes:
            return np.empty((len(members), len(probes)))
        sums = np.stack([as_stored(each.embedding) for each in members]).astype(np.float64)
        counts = np.ones(len(members))
        return np.stack(
            [self._rule.distances(as_stored(each.embedding), sums, counts) for each in probes],
            axis=1,
        )

    def _judge(
        self, a: int, face: EmbeddedFace, b: int, other: EmbeddedFace, distance: float
    ) -> ComparedFaces:
        limit = self._rule.limit
        score = min(face.quality.score, other.quality.score)
        max_distance = limit.at(1, doubt_of(score, self._min_quality))
        verdict: Verdict = "different"
        if score < self._min_quality:
            verdict = "unsure"
        elif distance <= max_distance:
            verdict = "same"
        elif limit.similarity(distance, limit.at(1)) >= _UNSURE_SIMILARITY:
            verdict = "unsure"
        return ComparedFaces(
            a, b, distance, max_distance, limit.similarity(distance, max_distance), verdict
        )


def _shown(photo: AnalyzedPhoto, faces: Sequence[EmbeddedFace]) -> DetectedPhoto:
    return DetectedPhoto(
        photo.width,
        photo.height,
        tuple(DetectedFace(face.detection, face.quality) for face in faces),
        photo.turned,
    )
