"""BentoML: worker processes speak HTTP themselves, and each forms batches of what it gets."""

# Annotations stay objects here: BentoML builds the endpoint's input from them.
from pathlib import Path

import bentoml

from bench.peers.servers.facenet import FaceNet, decode, settings

SETTINGS = settings()


@bentoml.service(workers=SETTINGS.workers, logging={"access": {"enabled": False}})
class Embedding:
    """A batchable endpoint; each request brings a list of one file in a form."""

    def __init__(self) -> None:
        self._facenet = FaceNet(SETTINGS.model, SETTINGS.max_batch_size)

    # The adaptive batcher's own choice of how long to wait. A latency limit would not make it
    # faster: it drops what it expects to miss the limit.
    @bentoml.api(batchable=True, max_batch_size=SETTINGS.max_batch_size)  # type: ignore[untyped-decorator]
    def embed(self, crops: list[Path]) -> list[list[float]]:
        """One embedding for each file."""
        embeddings = self._facenet.embed([decode(each.read_bytes()) for each in crops])
        rows: list[list[float]] = embeddings.tolist()
        return rows
