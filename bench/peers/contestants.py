"""The peers: command, request, answer and configuration of each, with the configurations tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import Call
from bench.load.wire import multipart

CHECKOUT = Path(__file__).resolve().parents[2]
PEERS_ENVIRONMENT = CHECKOUT / ".venv-peers"
PYTRITON_ENVIRONMENT = CHECKOUT / ".venv-pytriton"
MAX_BATCH_SIZE = 8


@dataclass(frozen=True, slots=True)
class Peer:
    """One server beside Facette.

    key: in the names of ratios. command: after the environment's bin folder; {port} is filled in.
    call: one request for a JPEG file. embedding: the 512 numbers in an answer's JSON.
    note: its configuration, and other ones that were tried.
    """

    key: str
    name: str
    environment: Path
    command: tuple[str, ...]
    max_wait_ms: float
    call: Callable[[bytes], Call]
    embedding: Callable[[Any], list[float]]
    note: str

    @property
    def installed(self) -> bool:
        """Whether its environment is there."""
        return (self.environment / "bin" / self.command[0]).exists()


def raw_body(path: str, *headers: tuple[str, str]) -> Callable[[bytes], Call]:
    """Requests whose body is the image."""
    return lambda jpeg: Call("POST", path, (("Content-Type", "image/jpeg"), *headers), jpeg)


def _form(path: str, field: str) -> Callable[[bytes], Call]:
    def call(jpeg: bytes) -> Call:
        kind, body = multipart(field, jpeg, filename="crop.jpg")
        return Call("POST", path, (kind,), body)

    return call


def _triton(path: str) -> Callable[[bytes], Call]:
    """Triton's binary extension on the way in, JSON on the way out.

    Source: the binary tensor data extension of the KServe v2 protocol, in Triton's documentation.
    """

    def call(jpeg: bytes) -> Call:
        request = {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(jpeg) + 4},
                }
            ],
            "outputs": [{"name": "embedding", "parameters": {"binary_data": False}}],
        }
        head = json.dumps(request).encode()
        headers = (
            ("Content-Type", "application/octet-stream"),
            ("Inference-Header-Content-Length", str(len(head))),
        )
        return Call("POST", path, headers, head + len(jpeg).to_bytes(4, "little") + jpeg)

    return call


PEERS = (
    Peer(
        key="mosec",
        name="Mosec 0.9.8",
        environment=PEERS_ENVIRONMENT,
        command=(
            *("python", "-m", "bench.peers.servers.mosec_server", "--address", "127.0.0.1"),
            *("--port", "{port}", "--log-level", "error"),
        ),
        max_wait_ms=1,
        call=raw_body("/inference"),
        embedding=lambda answer: answer["embedding"],
        note=(
            "Mosec: one stage that decodes and infers, waits of 1 ms, its smallest. A stage for "
            "decoding, as in its ResNet example, cost 2 % more processor time a request; waits of "
            "5 ms 2 % less, but a lone request 4 ms; of 10 ms the same throughput, and 10 ms."
        ),
    ),
    Peer(
        key="bentoml",
        name="BentoML 1.4.40",
        environment=PEERS_ENVIRONMENT,
        command=(
            *("bentoml", "serve", "bench.peers.servers.bentoml_server:Embedding"),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        max_wait_ms=0,
        call=_form("/embed", "crops"),
        embedding=lambda answer: answer[0],
        note=(
            "BentoML: one service with a batchable endpoint that takes a list of files in a form, "
            "as its batcher needs lists. Two services, with HTTP and decoding apart from the "
            "model, took 1.2 to 1.3 times the processor time, and answered some requests with "
            "500. Its batcher learns how long to wait: after load a lone request took 30 to 100 "
            "ms, so for all servers it is measured before."
        ),
    ),
    Peer(
        key="litserve",
        name="LitServe 0.2.19",
        environment=PEERS_ENVIRONMENT,
        command=("python", "-m", "bench.peers.servers.litserve_server"),
        max_wait_ms=1,
        call=raw_body("/embed"),
        embedding=lambda answer: answer["embedding"],
        note=(
            "LitServe: its ZeroMQ queue, one process for HTTP, waits of 1 ms. With its other "
            "queue, two processes for HTTP and waits of 5 ms throughput was within 3 %, and lone "
            "requests up to 3 ms slower. Its workers poll: 0.26 cores when nobody asks."
        ),
    ),
    Peer(
        key="pytriton",
        name="PyTriton 0.7.0",
        environment=PYTRITON_ENVIRONMENT,
        command=("python", "-m", "bench.peers.servers.pytriton_server"),
        max_wait_ms=0,
        call=_triton("/v2/models/facenet/infer"),
        embedding=lambda answer: answer["outputs"][0]["data"],
        note=(
            "PyTriton: two instances, Triton's dynamic batcher without a delay. A delay of 5 ms "
            "filled all batches, which changed throughput by less than the noise, and made lone "
            "requests 4 ms slower. It wants NumPy 1 and has an environment of its own."
        ),
    ),
    Peer(
        key="starlette",
        name="Starlette 1.10 with to_thread",
        environment=PEERS_ENVIRONMENT,
        command=("python", "-m", "bench.peers.servers.starlette_server"),
        max_wait_ms=0,
        call=raw_body("/embed"),
        embedding=lambda answer: answer["embedding"],
        note="Starlette: uvicorn with uvloop, two threads, calls of one crop: the control.",
    ),
)


def installed_peers() -> tuple[Peer, ...]:
    """Those that can run here; PyTriton may be missing.

    Raises:
        SystemExit: the peers' environment is missing.
    """
    missing = [peer for peer in PEERS if not peer.installed]
    if any(peer.environment == PEERS_ENVIRONMENT for peer in missing):
        raise SystemExit(f"{PEERS_ENVIRONMENT.name} is missing: make it with `make peers`")
    return tuple(peer for peer in PEERS if peer not in missing)
