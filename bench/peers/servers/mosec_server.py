"""Mosec: a server in Rust speaks HTTP and forms batches, worker processes decode and infer."""

from __future__ import annotations

from mosec import Server, Worker

from bench.peers.servers.facenet import FaceNet, decode, settings

SETTINGS = settings()


class Embedder(Worker):  # type: ignore[misc]
    """Decoding and inference of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self._facenet = FaceNet(SETTINGS.model, SETTINGS.max_batch_size)

    def deserialize(self, data: bytes) -> bytes:
        """The body is the image."""
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, list[float]]]:
        """One embedding for each image; Mosec's own serialization makes it JSON."""
        embeddings = self._facenet.embed([decode(jpeg) for jpeg in data])
        return [{"embedding": row} for row in embeddings.tolist()]


def main() -> None:
    """Serve; Mosec reads address and port from the command line."""
    server = Server()
    server.append_worker(
        Embedder,
        num=SETTINGS.workers,
        max_batch_size=SETTINGS.max_batch_size,
        max_wait_time=round(SETTINGS.max_wait_ms),
    )
    server.run()


if __name__ == "__main__":
    main()
