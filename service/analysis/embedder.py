"""Embeds face crops, in batches over all requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.analysis.stages import StageFactory
from service.batching import Ticket
from service.domain.errors import ImageTooLargeError, InputError
from service.domain.types import Embedding
from service.runtime.manifest import EmbeddingFacts, embedding_of
from service.runtime.providers import Provider
from service.runtime.sessions import ModelSession
from service.vision.crop import resize_face
from service.vision.decode import decode, read_header
from service.vision.formats.base import DecodeLimits

# On a CPU, calls of more than 8 faces gain nothing and delay the faces. A GPU needs larger calls.
_CALL_FACES: dict[Provider, int] = {"cpu": 8, "openvino": 8, "cuda": 64}
# A face takes 4.4 ms alone, 3.9 in a call of two, 3.75 of three and 3.6 of six, on one core.
_GATHERED_FACES = 3

# A file that takes more processor time would delay the other faces of its batch.
_CHEAP_WORK_US = 1000.0
_CHEAP_PIXELS = 1 << 17
_CHEAP = DecodeLimits(_CHEAP_PIXELS, _CHEAP_PIXELS)


@dataclass(frozen=True, slots=True)
class EncodedCrop:
    """An image file of one face; a file that is cheap to decode is decoded in the embedding job."""

    data: bytes


Crop = NDArray[np.uint8] | EncodedCrop
"""Pixels uint8 [crop_size, crop_size, 3], or a file."""

_Network = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]


class NotCheapError(Exception):
    """Decoding the file would delay the other faces of its batch: decode it before."""


class FaceEmbedder:
    """The embedding network behind a batcher.

    Args:
        session: takes uint8 [n, size, size, 3] and returns unit vectors, float32 [n, dimension].
        stages: makes the batcher.
        space: the space of the embeddings; None for the default one.

    Raises:
        ModelError: the manifest does not declare such an embedding.
    """

    def __init__(
        self, session: ModelSession, stages: StageFactory, space: str | None = None
    ) -> None:
        self.facts: EmbeddingFacts = embedding_of(session.spec, space)
        self._session = session
        wanted = [self.facts.output]
        self._batcher = stages.make(
            "embedder",
            partial(self._run, partial(session.run, outputs=wanted)),
            latency_function=partial(self._run, partial(session.run_for_latency, outputs=wanted)),
            full=_CALL_FACES[session.placement.provider],
            gathered=_GATHERED_FACES,
        )

    async def embed(self, crops: Sequence[Crop], ticket: Ticket) -> list[Embedding]:
        """Embeddings of face crops, in order.

        Raises:
            InputError: a file does not decode.
            NotCheapError: a file has to be decoded before.
        """
        return await self._batcher.submit_all(crops, ticket)

    async def drain(self) -> None:
        """Finish the accepted faces."""
        await self._batcher.drain()

    def warm_up(self) -> None:
        """Run the network once in each of its sessions."""
        size = self.facts.crop.size
        blank = np.zeros((size, size, 3), dtype=np.uint8)
        for run in (self._session.run, self._session.run_for_latency):
            self._run(partial(run, outputs=[self.facts.output]), [blank])

    def _run(self, run: _Network, crops: Sequence[Crop]) -> list[Embedding | BaseException]:
        opened = [self._open(crop) for crop in crops]
        good = [pixels for pixels in opened if not isinstance(pixels, Exception)]
        found = iter(run(np.stack(good))[0] if good else ())
        return [pixels if isinstance(pixels, Exception) else next(found) for pixels in opened]

    def _open(self, crop: Crop) -> NDArray[np.uint8] | Exception:
        if not isinstance(crop, EncodedCrop):
            return crop
        try:
            if read_header(crop.data, _CHEAP).work_us > _CHEAP_WORK_US:
                return NotCheapError()
            photo = decode(crop.data, _CHEAP, hashed=False)
        except ImageTooLargeError:
            return NotCheapError()
        except InputError as error:
            return error
        return resize_face(photo.pixels, self.facts.crop.size)
