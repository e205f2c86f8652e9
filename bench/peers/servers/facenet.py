"""Shared by the peers' servers: settings, and the session and decoder of Facette."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import simplejpeg
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of a peer.

    model: the ONNX file. workers: processes or threads that infer. max_wait_ms: how long a batch
    waits for company, where a peer asks.
    """

    model: str
    port: int
    workers: int
    max_batch_size: int
    max_wait_ms: float


def settings() -> ServerSettings:
    """The settings that the bench put into this process's environment."""
    return ServerSettings(
        model=os.environ["PEER_MODEL"],
        port=int(os.environ["PEER_PORT"]),
        workers=int(os.environ["PEER_WORKERS"]),
        max_batch_size=int(os.environ["PEER_MAX_BATCH_SIZE"]),
        max_wait_ms=float(os.environ["PEER_MAX_WAIT_MS"]),
    )


class FaceNet:
    """The session with the options Facette opens it with; safe to call from several threads."""

    def __init__(self, model: str, max_batch_size: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        for batch in range(1, max_batch_size + 1):  # warm at every size that will come
            self.embed([np.zeros((160, 160, 3), np.uint8)] * batch)

    def embed(self, crops: Sequence[Pixels]) -> Embeddings:
        """Unit vectors, float32 [n, 512], of crops, each uint8 [160, 160, 3] RGB."""
        embeddings: Embeddings = self._session.run(None, {self._input: np.stack(crops)})[0]
        return embeddings


def decode(jpeg: bytes) -> Pixels:
    """A JPEG file's pixels, uint8 [height, width, 3] RGB."""
    pixels: Pixels = simplejpeg.decode_jpeg(jpeg, "RGB")
    return pixels
