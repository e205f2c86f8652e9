"""Callers in a closed loop that keep every answer, each request with a photo of its own."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import numpy as np
from numpy.typing import NDArray

from bench.common.server import TOKEN, ServiceProcess

CONNECTIONS = 16
INSERT = "/insert-image"
EMBED = "/v1/embed"
DETECT = "/v1/detect"
DELETE_IMAGE = "DELETE /image"
DELETE_FACE = "DELETE /face"
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
    """One request and its end.

    photo: which of the photos it shows. sha256: of what was sent, unlike that of any other request;
    of a deletion, what was sent to insert the image that it concerns. target: the id to delete.
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
    target: str = ""


Act = Callable[[httpx.AsyncClient, int, str], Awaitable[Asked]]
"""One request of a caller: with its client, the request's number, and a tenant for it."""


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
    """The embeddings in an answer of /v1/embed: float64 [n, dimension]."""
    return np.array([face["embedding"] for face in answer["faces"]], dtype=np.float64)


@asynccontextmanager
async def under_load(
    service: ServiceProcess,
    photos: Sequence[bytes],
    *,
    inserts_in_four: int = 3,
    connections: int = CONNECTIONS,
    act: Act | None = None,
) -> AsyncIterator[Load]:
    """Callers for the time of the block, which begins once each of them was answered once.

    Args:
        inserts_in_four: of four requests so many insert; the others embed.
        act: makes the requests instead.
    """
    load = Load()
    numbers = itertools.count()
    tenants = [f"drill-{uuid4().hex}" for _ in range(_TENANTS)]

    async def insert_or_embed(client: httpx.AsyncClient, number: int, tenant: str) -> Asked:
        route = INSERT if number % 4 < inserts_in_four else EMBED
        photo = number // 4 % len(photos)
        return await ask(client, route, tenant, photo, photos[photo])

    async def call(client: httpx.AsyncClient) -> None:
        while not load.enough.is_set():
            number = next(numbers)
            tenant = tenants[number % len(tenants)]
            asked = await (act or insert_or_embed)(client, number, tenant)
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
    """Send one request and record its end."""
    body = marked(jpeg)
    request = client.build_request(
        "POST",
        route,
        params={"tenant_id": tenant},
        content=body,
        headers={"Content-Type": "image/jpeg"},
    )
    asked = Asked(route, tenant, photo, hashlib.sha256(body).hexdigest(), 0)
    return await _send(client, request, asked)


async def delete(client: httpx.AsyncClient, route: str, inserted: Asked, target: str) -> Asked:
    """Delete an image, or one of its faces, and record the end.

    Args:
        route: DELETE_IMAGE or DELETE_FACE.
        inserted: what brought the image. target: the image's or the face's id.
    """
    method, path = route.split()
    request = client.build_request(
        method, path, params={"tenant_id": inserted.tenant, f"{path[1:]}_id": target}
    )
    asked = Asked(route, inserted.tenant, inserted.photo, inserted.sha256, 0, target=target)
    return await _send(client, request, asked)


async def _send(client: httpx.AsyncClient, request: httpx.Request, asked: Asked) -> Asked:
    try:
        answer = await client.send(request, stream=True)
    except httpx.ConnectError:
        return replace(asked, code=UNREACHED)
    except httpx.TransportError:
        return replace(asked, code=UNANSWERED)
    try:
        await answer.aread()
    except httpx.TransportError:
        return replace(asked, code=BROKEN)
    found = answer.json()
    code = "" if answer.status_code == 200 else found["error"]["code"]
    return replace(asked, status=answer.status_code, code=code, answer=found)


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
