"""PyTriton: Triton speaks HTTP and forms batches, this process's threads decode and infer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.servers.facenet import Embeddings, FaceNet, decode, settings

SETTINGS = settings()


def instance() -> Callable[..., Any]:
    """One instance of the model; Triton gives each its own batches."""
    facenet = FaceNet(SETTINGS.model, SETTINGS.max_batch_size)

    @batch  # type: ignore[untyped-decorator]
    def embed(image: Any) -> dict[str, Embeddings]:
        return {"embedding": facenet.embed([decode(row[0]) for row in image])}

    return embed  # type: ignore[no-any-return]


def main() -> None:
    """Serve."""
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=SETTINGS.port,
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=round(SETTINGS.max_wait_ms * 1e3))
    with Triton(config=config) as triton:
        triton.bind(
            model_name="facenet",
            infer_func=[instance() for _ in range(SETTINGS.workers)],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(512,))],
            config=ModelConfig(max_batch_size=SETTINGS.max_batch_size, batcher=batcher),
        )
        triton.serve()


if __name__ == "__main__":
    main()
