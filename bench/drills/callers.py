"""Callers in a closed loop that keep every answer, each request with a photo of its own."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
from numpy.typing import NDArray

from bench.server import TOKEN, ServiceProcess

CONNECTIONS = 16
INSERT = "/insert-image"
EMBED = "/v1/embed"
DETECT = "/v1/detect"
UNREACHED = "unreached"
"""The connection was refused: nothing was sent."""
UNANSWERED = "unanswered"
"""The connection ended before the head of an answer came, or nothing came in time."""
BROKEN = "broken"
"""The connection ended within an answer."""
_TENANTS = 4
_TIMEOUT_S = 90.0
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and what became of it.

    photo: which of the photos it shows. sha256: of what was sent, unlike that of any other request.
    status: 0 where there was no whole answer. code: of the error, or UNREACHED, UNANSWERED or
    BROKEN; "" for 200.
    """

    route: str
    tenant: str
    photo: int
    sha256: str
    status: int
    code: str = ""
    answer: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Load:
    """Callers at work; `asked` grows as requests end."""

    asked: list[Asked] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, asked: Asked) -> None:
        """Note how a request ended."""
        async with self._ended:
            self.asked.append(asked)
            self._ended.notify_all()

    async def more(self, count: int) -> None:
        """Return when that many more requests have ended.

        Raises:
            TimeoutError: they do not.
        """
        until = len(self.asked) + count
        async with asyncio.timeout(_PATIENCE_S), self._ended:
            await self._ended.wait_for(lambda: len(self.asked) >= until)


def marked(jpeg: bytes) -> bytes:
    """The same photo as a file that differs from all others: with a comment after its head."""
    comment = uuid4().hex.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def embeddings_of(answer: dict[str, Any]) -> NDArray[np.float64]:
    """float64 [n, dimension] of what /v1/embed answered."""
    return np.array([face["embedding"] for face in answer["faces"]], dtype=np.float64)


@asynccontextmanager
async def under_load(
    service: ServiceProcess,
    photos: Sequence[bytes],
    *,
    inserts_in_four: int = 3,
    connections: int = CONNECTIONS,
) -> AsyncIterator[Load]:
    """Callers for the time of the block, which begins once each of them was answered once.

    Args:
        inserts_in_four: of four requests so many insert; the others embed.
    """
    load = Load()
    numbers = itertools.count()
    tenants = [f"drill-{uuid4().hex}" for _ in range(_TENANTS)]

    async def call(client: httpx.AsyncClient) -> None:
        while not load.enough.is_set():
            number = next(numbers)
            route = INSERT if number % 4 < inserts_in_four else EMBED
            photo = number // 4 % len(photos)
            tenant = tenants[number % len(tenants)]
            asked = await ask(client, route, tenant, photo, photos[photo])
            await load.add(asked)
            if asked.code == UNREACHED:
                return

    async with asyncio.TaskGroup() as group, _clients(service, connections) as clients:
        callers = [group.create_task(call(client)) for client in clients]
        try:
            await load.more(connections)
            yield load
        finally:
            load.enough.set()
            await asyncio.wait(callers)


async def ask(client: httpx.AsyncClient, route: str, tenant: str, photo: int, jpeg: bytes) -> Asked:
    """One request, however it ends."""
    body = marked(jpeg)
    described = (route, tenant, photo, hashlib.sha256(body).hexdigest())
    request = client.build_request(
        "POST",
        route,
        params={"tenant_id": tenant},
        content=body,
        headers={"Content-Type": "image/jpeg"},
    )
    try:
        answer = await client.send(request, stream=True)
    except httpx.ConnectError:
        return Asked(*described, 0, UNREACHED)
    except httpx.TransportError:
        return Asked(*described, 0, UNANSWERED)
    try:
        await answer.aread()
    except httpx.TransportError:
        return Asked(*described, 0, BROKEN)
    found = answer.json()
    if answer.status_code == 200:
        return Asked(*described, 200, "", found)
    return Asked(*described, answer.status_code, found["error"]["code"], found)


@asynccontextmanager
async def _clients(service: ServiceProcess, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients with one connection each."""
    clients = [
        httpx.AsyncClient(
            base_url=service.url,
            headers={"token": TOKEN},
            timeout=_TIMEOUT_S,
            limits=httpx.Limits(max_connections=1),
        )
        for _ in range(count)
    ]
    try:
        yield clients
    finally:
        for client in clients:
            await client.aclose()
