"""The stream of events itself: clients that stop reading, and keys that end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.api.v1 import events
from service.api.v1.events import EventStream
from service.domain.errors import WrongTokenError
from service.domain.people import Change


class Feed:
    """Changes without an end; `taken` counts those that were asked for."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.taken = 0
        self.is_closed = False

    async def follow(self) -> AsyncGenerator[Sequence[Change], None]:
        try:
            while True:
                self.taken += 1
                if self.quiet:
                    yield []
                else:
                    yield [Change(self.taken, datetime.now(UTC), "person.changed", None, {})]
                await asyncio.sleep(0)
        finally:
            self.is_closed = True


async def _connected() -> Message:
    """The next message of a client that says nothing more."""
    await asyncio.Event().wait()
    raise AssertionError


async def _allowed() -> None:
    return


async def test_a_client_that_stops_reading_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_SEND_TIMEOUT_S", 0.05)
    feed = Feed()
    sent = 0

    async def send(message: Message) -> None:
        nonlocal sent
        sent += 1
        if sent > 5:  # the buffers are full
            await asyncio.Event().wait()

    with pytest.raises(ClientDisconnect):
        await EventStream(feed.follow(), 0, _allowed)({"type": "http"}, _connected, send)
    assert feed.taken <= 5  # nothing is collected for it
    assert feed.is_closed


async def test_a_stream_ends_where_its_key_does() -> None:
    feed = Feed(quiet=True)
    sent: list[bytes] = []
    asked = 0

    async def still_allowed() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise WrongTokenError

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    await EventStream(feed.follow(), 0, still_allowed)({"type": "http"}, _connected, send)
    assert b'"code":"wrong_token"' in sent[-2]
    assert sent[-1] == b""
    assert asked == 3
    assert feed.is_closed


async def test_a_client_that_leaves_ends_its_stream() -> None:
    feed = Feed()

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await asyncio.sleep(0)

    with pytest.raises(ClientDisconnect):
        await EventStream(feed.follow(), 0, _allowed)({"type": "http"}, gone, send)
    assert feed.taken <= 5
    assert feed.is_closed
