"""Face crops to unit vectors, batched over all requests in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.analysis.stages import StageFactory
from service.batching import Ticket
from service.domain.errors import InputError, ModelError
from service.domain.types import Embedding
from service.runtime.manifest import EmbeddingFacts
from service.runtime.providers import Provider
from service.runtime.sessions import ModelSession
from service.vision.crop import resize_face
from service.vision.decode import decode_pixels

# More than 8 gains nothing on a CPU and makes faces wait; a GPU is idle with so few.
_CALL_FACES: dict[Provider, int] = {"cpu": 8, "openvino": 8, "cuda": 64}


@dataclass(frozen=True, slots=True)
class EncodedCrop:
    """A small image file that shows one face; it is decoded in the job that embeds it."""

    data: bytes
    max_pixels: int


Crop = NDArray[np.uint8] | EncodedCrop
"""Pixels uint8 [crop_size, crop_size, 3], or a file that is cheap to decode."""


class FaceEmbedder:
    """FaceNet behind a batcher.

    Args:
        session: uint8 [n, size, size, 3] in, float32 [n, dimension] unit vectors out.
        stages: makes the batcher.
    """

    def __init__(self, session: ModelSession, stages: StageFactory) -> None:
        if session.spec.embedding is None:
            raise ModelError(f"{session.spec.file} does not declare an embedding in its manifest")
        side = session.spec.input.shape[1]
        if not isinstance(side, int):
            raise ModelError(f"{session.spec.file} does not declare the size of its input")
        self.facts: EmbeddingFacts = session.spec.embedding
        self.crop_size = side
        self._session = session
        self._batcher = stages.make(
            "facenet", self._run, full=_CALL_FACES[session.placement.provider]
        )

    async def embed(self, crops: Sequence[Crop], ticket: Ticket) -> list[Embedding]:
        """Embeddings of face crops, in order.

        Raises:
            InputError: an encoded crop does not decode.
        """
        return await self._batcher.submit_all(crops, ticket)

    async def drain(self) -> None:
        """Finish what was accepted."""
        await self._batcher.drain()

    def warm_up(self) -> None:
        """Run the network once."""
        self._run([np.zeros((self.crop_size, self.crop_size, 3), dtype=np.uint8)])

    def _run(self, crops: Sequence[Crop]) -> list[Embedding | BaseException]:
        opened = [self._open(crop) for crop in crops]
        good = [pixels for pixels in opened if not isinstance(pixels, InputError)]
        found = iter(self._session.run(np.stack(good))[0] if good else ())
        return [pixels if isinstance(pixels, InputError) else next(found) for pixels in opened]

    def _open(self, crop: Crop) -> NDArray[np.uint8] | InputError:
        if not isinstance(crop, EncodedCrop):
            return crop
        try:
            return resize_face(decode_pixels(crop.data, crop.max_pixels), self.crop_size)
        except InputError as error:
            return error
