"""Servers as processes of their own, each for its turn only, since one of them polls when idle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import psutil

from bench.common.harness import MODELS
from bench.common.processor import tree_s
from bench.common.server import TOKEN, ServiceProcess
from bench.load import Call
from bench.peers.contestants import CHECKOUT, MAX_BATCH_SIZE, Peer, raw_body

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
_MIN_COSINE = 0.9999


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: address, process, request for a JPEG file, reader of its answers."""

    url: str
    pid: int
    call: Callable[[bytes], Call]
    embedding: Callable[[Any], list[float]]

    def processor_s(self) -> float:
        """Processor seconds so far, of its process and all that it started and that still run."""
        return tree_s(psutil.Process(self.pid))

    def check(self, crops: dict[bytes, np.ndarray[Any, np.dtype[np.float32]]]) -> None:
        """Hold its answers to the session's own embeddings.

        Raises:
            RuntimeError: it answers something else.
        """
        with httpx.Client(base_url=self.url, timeout=60.0) as client:
            for jpeg, expected in crops.items():
                answer = _ask(client, self.call(jpeg))
                if answer.status_code != httpx.codes.OK:
                    raise RuntimeError(f"{self.url}: {answer.status_code} {answer.text[:500]}")
                found = np.asarray(self.embedding(answer.json()), np.float32)
                cosine = float(found @ expected / np.linalg.norm(found) / np.linalg.norm(expected))
                if not cosine > _MIN_COSINE:
                    raise RuntimeError(f"{self.url} embeds otherwise: cosine {cosine}")


@contextmanager
def serve_facette(folder: Path) -> Iterator[Served]:
    """`facette serve` as it comes, quiet as the peers are."""
    service = ServiceProcess(folder, MODELS, {"FACETTE_SERVER_LOG_LEVEL": "warning"}).start()
    try:
        yield Served(
            service.url,
            service.pid,
            raw_body("/v1/embed?input=crop", ("token", TOKEN)),
            lambda answer: answer["faces"][0]["embedding"],
        )
    finally:
        service.stop()


@contextmanager
def serve_peer(
    peer: Peer, model: Path, workers: int, folder: Path, jpeg: bytes
) -> Iterator[Served]:
    """A peer's server, ready when it has answered one request.

    folder: for its log, and as its home folder.
    """
    port = _free_port()
    log = folder / f"{peer.key}.log"
    program, *arguments = (part.format(port=port) for part in peer.command)
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603
            [peer.environment / "bin" / program, *arguments],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "PATH": f"{peer.environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "PEER_MODEL": str(model),
                "PEER_PORT": str(port),
                "PEER_WORKERS": str(workers),
                "PEER_MAX_BATCH_SIZE": str(MAX_BATCH_SIZE),
                "PEER_MAX_WAIT_MS": str(peer.max_wait_ms),
                "BENTOML_HOME": str(folder / "bentoml"),
                "BENTOML_DO_NOT_TRACK": "True",
                "PYTRITON_HOME": str(folder / "pytriton"),
            },
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    served = Served(f"http://127.0.0.1:{port}", process.pid, peer.call, peer.embedding)
    try:
        _wait_until_ready(served, process, jpeg, log)
        yield served
    finally:
        _stop(process)


def _wait_until_ready(
    served: Served, process: subprocess.Popen[bytes], jpeg: bytes, log: Path
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(base_url=served.url, timeout=START_TIMEOUT_S) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if _ask(client, served.call(jpeg)).is_success:
                    return
            except httpx.TransportError:  # not listening yet
                pass
            time.sleep(0.1)
    raise RuntimeError(f"{log.stem} did not come up:\n{log.read_text('utf-8', 'replace')[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the first process to end, then kill the rest of its session: some leave workers."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_TIMEOUT_S)


def _ask(client: httpx.Client, call: Call) -> httpx.Response:
    return client.request(call.method, call.path, headers=list(call.headers), content=call.body)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
