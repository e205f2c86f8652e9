"""The interface between the export and its embedding networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from export.graphs.signature import Signature
from export.verification.verify import Reference
from service.runtime.manifest import EmbeddingFacts, Precision, Source


class Embedder(ABC):
    """A network with its weights read, about to be written as one graph.

    precisions: candidates beside fp32.
    weights: id of network and weights; measurements are recorded under it.
    embeddings: the spaces of its outputs, the default one first.
    """

    precisions: ClassVar[tuple[Precision, ...]]
    signature: Signature
    weights: str
    source: Source
    embeddings: tuple[EmbeddingFacts, ...]

    @abstractmethod
    def to_onnx(self) -> bytes:
        """The fp32 file, checked by ONNX's own checker.

        Raises:
            ConversionError: it cannot be made.
        """

    @abstractmethod
    def reference(self) -> Reference:
        """The function that the file has to compute, run by another program."""


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n, d], each row divided by its length, computed in float64."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / lengths, dtype=np.float32)
