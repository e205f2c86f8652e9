"""An answer that is given before the body of its request is complete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.domain.errors import BodyTooLargeError

_LINGER_S: Final = 2.0


async def answer_early(
    answer: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    max_bytes: int,
    on_answered: Callable[[], None] = lambda: None,
) -> None:
    """Send an answer, and close the connection some seconds later; input is discarded until then.

    Closing at once would reset the connection, and the client would lose the answer.

    Args:
        max_bytes: the connection is closed earlier once so much was discarded.
        on_answered: called when the answer was sent.
    """

    async def send_but_do_not_end(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
        elif message["type"] == "http.response.body":
            message = {**message, "more_body": True}
        await send(message)

    await answer(scope, receive, send_but_do_not_end)
    on_answered()
    with suppress(TimeoutError, BodyTooLargeError):
        async with asyncio.timeout(_LINGER_S):
            await _discard(receive, max_bytes)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive, max_bytes: int) -> None:
    discarded = 0
    while discarded <= max_bytes:
        message = await receive()
        discarded += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
