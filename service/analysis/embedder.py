"""Face crops to unit vectors, batched over all requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.batching import BatchReport, MicroBatcher, WorkerPool
from service.domain.errors import ModelError
from service.domain.types import Embedding
from service.runtime.manifest import EmbeddingFacts
from service.runtime.providers import Provider
from service.runtime.sessions import ModelSession

# More than 8 gains nothing on a CPU and makes faces wait; a GPU is idle with so few.
_CALL_FACES: dict[Provider, int] = {"cpu": 8, "openvino": 8, "cuda": 64}


class FaceEmbedder:
    """FaceNet behind a batcher.

    Args:
        session: uint8 [n, size, size, 3] in, float32 [n, dimension] unit vectors out.
        max_batch_size: faces in one call; 0 for what suits the session's provider.
        max_queue_delay_s: how long a face may wait for a call to fill.
    """

    def __init__(
        self,
        session: ModelSession,
        *,
        pool: WorkerPool,
        max_batch_size: int,
        max_queue_delay_s: float,
        report: Callable[[BatchReport], None],
    ) -> None:
        if session.spec.embedding is None:
            raise ModelError(f"{session.spec.file} does not declare an embedding in its manifest")
        side = session.spec.input.shape[1]
        if not isinstance(side, int):
            raise ModelError(f"{session.spec.file} does not declare the size of its input")
        self.facts: EmbeddingFacts = session.spec.embedding
        self.crop_size = side
        self._session = session
        self._batcher: MicroBatcher[NDArray[np.uint8], Embedding] = MicroBatcher(
            self._run,
            pool=pool,
            name="facenet",
            max_batch_cost=max_batch_size or _CALL_FACES[session.placement.provider],
            max_queue_delay_s=max_queue_delay_s,
            report=report,
        )

    async def embed(self, crops: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Embeddings of face crops, uint8 [crop_size, crop_size, 3] each, in order."""
        return await self._batcher.submit_all(crops)

    async def drain(self) -> None:
        """Finish what was accepted."""
        await self._batcher.drain()

    def warm_up(self) -> None:
        """Run the network once."""
        self._run([np.zeros((self.crop_size, self.crop_size, 3), dtype=np.uint8)])

    def _run(self, crops: Sequence[NDArray[np.uint8]]) -> Sequence[Embedding]:
        (embeddings,) = self._session.run(np.stack(crops))
        return list(embeddings)
