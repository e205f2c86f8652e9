"""Fidelity of a variant: cosines to the vectors of fp32, and distances of labelled pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from export.graphs.signature import Signature
from export.verification import verify
from export.verification.faces import FaceSet
from service.runtime.manifest import EmbeddingFacts, Fidelity, PairAccuracy

if TYPE_CHECKING:
    import onnxruntime

# A variant below this is not offered. Recommended distances are over fifty times 1 - 0.995.
MIN_COSINE = 0.995

_BATCH = 8


@dataclass(frozen=True, eq=False)
class Baseline:
    """Embeddings of the fp32 model for a face set in one space, to measure variants against.

    faces: in the crop of that space.
    embeddings: float32 [n, dimension], one unit vector for each crop.
    """

    signature: Signature
    facts: EmbeddingFacts
    faces: FaceSet
    embeddings: NDArray[np.float32]

    @classmethod
    def of(
        cls, signature: Signature, model: bytes, facts: EmbeddingFacts, faces: FaceSet
    ) -> Baseline:
        """Embed all faces with the fp32 model, on the CPU provider."""
        session = verify.open_checked(signature, model)
        return cls(signature, facts, faces, embed(session, facts.output, faces))

    def measure(self, model: bytes) -> Fidelity:
        """The fidelity of a variant, measured on the CPU provider.

        Raises:
            NamesError, ShapesError, DtypesError: the variant has another signature.
        """
        session = verify.open_checked(self.signature, model)
        found = embed(session, self.facts.output, self.faces)
        cosines = cosine(found, self.embeddings)
        return Fidelity(
            space=self.facts.space,
            least_cosine=MIN_COSINE,
            faces=self.faces.faces,
            min_cosine=float(cosines.min()),
            median_cosine=float(np.median(cosines)),
            inputs=self.faces.description,
            pairs=pair_accuracy(found, self.faces),
        )

    def objection(self, found: Fidelity) -> str | None:
        """The reason for not offering a variant, or None."""
        # Written so that a NaN, which compares false with everything, is an objection.
        if not found.min_cosine >= found.least_cosine:
            return (
                f"its smallest cosine to fp32 is {found.min_cosine:.4f}, "
                f"below {found.least_cosine} ({found.space})"
            )
        before = pair_accuracy(self.embeddings, self.faces)
        if _separated(before) and not _separated(found.pairs):
            return "it no longer keeps all labelled pairs of people and of strangers apart"
        return None


def embed(
    session: onnxruntime.InferenceSession, output: str, faces: FaceSet
) -> NDArray[np.float32]:
    """float32 [n, dimension], one vector for each crop."""
    crops = faces.crops
    starts = range(0, len(crops), _BATCH)
    batches = [session.run([output], {"image": crops[s : s + _BATCH]})[0] for s in starts]
    return np.concatenate(batches)


def cosine(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 [n]: cosine of each row of one array with the same row of the other.

    Divided by the lengths: a vector that is not of unit length must not seem closer.
    """
    left, right = found.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    values: NDArray[np.float64] = np.sum(left * right, axis=1) / lengths
    return values


def pair_accuracy(embeddings: NDArray[np.float32], faces: FaceSet) -> PairAccuracy | None:
    """Cosine distances of the labelled pairs; None unless there are pairs of both kinds."""
    distances: dict[bool, list[float]] = {True: [], False: []}
    for first, second, same_person in faces.pairs:
        value = cosine(embeddings[first : first + 1], embeddings[second : second + 1])
        distances[same_person].append(1.0 - float(value[0]))
    if not all(distances.values()):
        return None
    return PairAccuracy(
        same_person_pairs=len(distances[True]),
        stranger_pairs=len(distances[False]),
        max_same_person_distance=max(distances[True]),
        min_stranger_distance=min(distances[False]),
    )


def _separated(pairs: PairAccuracy | None) -> bool:
    return pairs is not None and pairs.max_same_person_distance < pairs.min_stranger_distance
