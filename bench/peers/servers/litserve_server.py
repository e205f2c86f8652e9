"""LitServe: a FastAPI process speaks HTTP, worker processes take batches from its queue."""

# Annotations stay objects here: LitServe hands them on to FastAPI.
from typing import Annotated

import litserve
from fastapi import Body

from bench.peers.servers.facenet import Embeddings, FaceNet, Pixels, decode, settings

SETTINGS = settings()


class EmbeddingApi(litserve.LitAPI):  # type: ignore[misc]
    """Decoding and inference in the worker, both for a batch."""

    def setup(self, device: str) -> None:
        """Open the session, once a worker."""
        del device
        self._facenet = FaceNet(SETTINGS.model, SETTINGS.max_batch_size)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Pixels:
        """The body is the image."""
        return decode(request)

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        """As they are: the session's call stacks them."""
        return inputs

    def predict(self, x: list[Pixels]) -> Embeddings:
        """One call for the batch."""
        return self._facenet.embed(x)

    def unbatch(self, output: Embeddings) -> list[Embeddings]:
        """Row by row."""
        return list(output)

    def encode_response(self, output: Embeddings) -> dict[str, list[float]]:
        """The list that FastAPI encodes as JSON."""
        return {"embedding": output.tolist()}


def main() -> None:
    """Serve."""
    api = EmbeddingApi(
        max_batch_size=SETTINGS.max_batch_size,
        batch_timeout=SETTINGS.max_wait_ms / 1e3,
        api_path="/embed",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        devices=1,
        workers_per_device=SETTINGS.workers,
        fast_queue=True,  # as documented for hundreds of requests a second
    )
    server.run(
        host="127.0.0.1",
        port=SETTINGS.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
