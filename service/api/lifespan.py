"""The ASGI lifespan, with a failure to start said in one line instead of a traceback."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from starlette.types import Receive, Send

from service.domain.errors import FacetteError


async def run_lifespan(
    running: AbstractAsyncContextManager[None], receive: Receive, send: Send
) -> None:
    """Enter `running` when the server starts, leave it when the server stops.

    Errors that name their own remedy reach the server as a message; others pass through.
    """
    await receive()
    try:
        await running.__aenter__()
    except FacetteError as error:
        await send({"type": "lifespan.startup.failed", "message": error.message})
        return
    await send({"type": "lifespan.startup.complete"})
    try:
        await receive()
    finally:
        await running.__aexit__(None, None, None)
    await send({"type": "lifespan.shutdown.complete"})
