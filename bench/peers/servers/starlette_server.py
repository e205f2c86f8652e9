"""The control: Starlette and uvicorn, one thread a request, no batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.peers.servers.facenet import FaceNet, decode, settings

SETTINGS = settings()


@asynccontextmanager
async def _as_many_threads_as_workers(_: Starlette) -> AsyncIterator[None]:
    with ThreadPoolExecutor(SETTINGS.workers) as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        yield


def application() -> Starlette:
    """POST /embed with the image as body."""
    facenet = FaceNet(SETTINGS.model, SETTINGS.max_batch_size)

    def embed(jpeg: bytes) -> list[float]:
        vector: list[float] = facenet.embed([decode(jpeg)])[0].tolist()
        return vector

    async def handle(request: Request) -> JSONResponse:
        return JSONResponse({"embedding": await asyncio.to_thread(embed, await request.body())})

    return Starlette(
        routes=[Route("/embed", handle, methods=["POST"])], lifespan=_as_many_threads_as_workers
    )


def main() -> None:
    """Serve."""
    uvicorn.run(
        application(), host="127.0.0.1", port=SETTINGS.port, log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
