"""The time that a body of many parts may take: that of the client, and not that of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.api.intake import GRACE_S, MIN_BYTES_PER_S, PartedIntake, UploadTimeoutError


class Client:
    """A client whose messages come after seconds of a clock that the test turns."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, messages: Sequence[tuple[float, bytes]]
    ) -> None:
        self._messages = list(messages)
        self.now = 0.0
        self.allowed = Allowed(0.0)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(asyncio, "timeout", self._allow)

    def _allow(self, seconds: float) -> Allowed:
        self.allowed = Allowed(seconds)
        return self.allowed

    async def receive(self) -> Message:
        takes_s, body = self._messages.pop(0)
        if takes_s > self.allowed.seconds:
            self.now += max(0.0, self.allowed.seconds)
            raise TimeoutError
        self.now += takes_s
        return {"type": "http.request", "body": body, "more_body": bool(self._messages)}


class Allowed:
    """In the place of a timeout: it tells how long one may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __aenter__(self) -> Allowed:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


async def parts(client: Client, intake: PartedIntake, pause_s: float = 0.0) -> AsyncIterator[int]:
    """The lengths of the pieces, each a part, with a pause of the service behind it."""
    async for piece in intake.pieces():
        intake.begin_part()
        client.now += pause_s
        yield len(piece)


async def test_a_pause_of_the_service_is_no_time_of_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(monkeypatch, [(5.0, bytes(50_000))] * 10)
    intake = PartedIntake(client.receive, timeout_s=8.0)
    assert [size async for size in parts(client, intake, pause_s=1000.0)] == [50_000] * 10
    assert intake.is_complete


async def test_each_part_has_the_time_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(monkeypatch, [(7.0, bytes(50_000)), (7.0, bytes(50_000)), (9.0, b"x")])
    intake = PartedIntake(client.receive, timeout_s=8.0)
    with pytest.raises(UploadTimeoutError, match="part of the body took too long"):
        async for _ in parts(client, intake):
            pass
    assert client.now == 7.0 + 7.0 + 8.0
    assert not intake.is_complete


async def test_a_part_must_arrive_at_the_least_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    drip = [(GRACE_S / 4, b"x")] * 8
    client = Client(monkeypatch, [(0.1, bytes(1_000_000)), *drip])
    intake = PartedIntake(client.receive, timeout_s=600.0)
    pieces = intake.pieces()
    assert len(await anext(pieces)) == 1_000_000
    intake.begin_part()
    with pytest.raises(UploadTimeoutError, match=f"at least {MIN_BYTES_PER_S} bytes a second"):
        _ = [piece async for piece in pieces]
    assert client.now <= GRACE_S + 0.2


async def test_many_small_parts_must_arrive_at_the_least_rate_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(monkeypatch, [(GRACE_S / 3, b"x")] * 100)
    intake = PartedIntake(client.receive, timeout_s=600.0)
    with pytest.raises(UploadTimeoutError, match="request body arrived too slowly"):
        async for _ in parts(client, intake):
            pass
    assert client.now <= GRACE_S + 1


async def test_a_client_that_hangs_up_ends_the_body() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        async for _ in PartedIntake(receive, timeout_s=1.0).pieces():
            pass
