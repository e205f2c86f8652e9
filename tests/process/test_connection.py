"""A connection of its own over a real socket: what it keeps, and when it gives up."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from starlette.types import Receive, Scope, Send

from service.process.connection import Connection, ConnectionState
from service.process.connection_limiter import ConnectionLimiter, ConnectionLimits
from service.telemetry import Metrics

WAIT_S = 30.0
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def _limiter(refuse: Callable[[str], None]) -> ConnectionLimiter:
    return ConnectionLimiter(ConnectionLimits(8, 8), on_size=lambda _: None, on_refusal=refuse)


class House:
    """Connections of one small application."""

    def __init__(self, app: App) -> None:
        self.metrics = Metrics()
        refuse = self._note
        self.state = ConnectionState(
            self.metrics,
            limiter=_limiter(refuse),
            operations=app,
            operations_limiter=_limiter(refuse),
            head_timeout_s=600.0,
        )
        self._config = uvicorn.Config(app, http=Connection, lifespan="off", log_config=None)
        self.opened: list[Connection] = []

    def _note(self, reason: str) -> None:
        self.state.note_refusal(reason)

    def connect(self) -> Connection:
        connection = Connection(self._config, self.state, {})
        self.opened.append(connection)
        return connection

    def refusals(self, reason: str) -> float:
        labels = {"reason": reason}
        name = "facette_connection_refusals_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def served(app: App) -> AsyncIterator[tuple[House, Callable[[], Awaitable[Caller]]]]:
    """The house, and how a caller comes in."""
    loop = asyncio.get_running_loop()
    house = House(app)
    server = await loop.create_server(house.connect, "127.0.0.1", 0)
    callers: list[Caller] = []

    async def call() -> Caller:
        caller = socket.create_connection(server.sockets[0].getsockname())
        caller.setblocking(False)
        callers.append(Caller(caller))
        return callers[-1]

    try:
        yield house, call
    finally:
        for caller in callers:
            caller.close()
        for connection in list(house.state.connections):
            connection.transport.abort()
        server.close()
        await until(lambda: not house.state.connections and not house.state.tasks)


class Caller:
    """The other end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.close = connection.close

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def read(self, size: int) -> None:
        while size > 0:
            data = await asyncio.get_running_loop().sock_recv(self._connection, min(size, 1 << 16))
            size -= len(data)

    async def read_to_end(self) -> bytes:
        loop = asyncio.get_running_loop()
        found = bytearray()
        while data := await loop.sock_recv(self._connection, 1 << 16):
            found += data
        return bytes(found)


async def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)


def is_gone_after_long(house: House) -> bool:
    """Whether the first connection is given up; each time its caller's time is over."""
    connection = house.opened[0]
    if house.state.connections:
        connection.expire(connection._read_due)
    return not house.state.connections


async def answer(send: Send, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def small(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, scope["path"].encode())


def request(path: str, *, body: bytes = b"", extra: str = "") -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


async def test_answers_that_nobody_reads_are_given_up() -> None:
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, bytes(64 << 20))

    async with served(large) as (house, call):
        caller = await call()
        await caller.send(request("/"))
        await until(lambda: bool(house.opened) and house.opened[0]._read_due < math.inf)
        (connection,) = house.opened
        connection.expire(time.monotonic())
        assert not connection.transport.is_closing()
        await until(lambda: is_gone_after_long(house))
        assert house.refusals("unread") == 1


async def test_an_answer_that_is_read_slowly_is_given_to_its_end() -> None:
    size = 64 << 20

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, bytes(size), (b"connection", b"close"))

    async with served(large) as (house, call):
        caller = await call()
        await caller.send(request("/"))
        await until(lambda: bool(house.opened) and house.opened[0]._read_due < math.inf)
        (connection,) = house.opened
        for _ in range(3):
            waiting = connection.transport.get_write_buffer_size()
            await caller.read(8 << 20)
            await until(
                lambda waiting=waiting: connection.transport.get_write_buffer_size() < waiting
            )
            connection.expire(connection._read_due)
            assert house.state.connections
        assert len(await caller.read_to_end()) > size - 3 * (8 << 20) - 1000
        assert house.refusals("unread") == 0


async def test_a_closed_connection_whose_last_answer_is_not_read_is_given_up() -> None:
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, bytes(64 << 20), (b"connection", b"close"))

    async with served(large) as (house, call):
        caller = await call()
        await caller.send(request("/"))
        await until(lambda: bool(house.opened) and house.opened[0]._read_due < math.inf)
        (connection,) = house.opened
        connection.expire(time.monotonic())
        assert house.state.connections
        await until(lambda: is_gone_after_long(house))
        assert house.refusals("unread") == 1


async def test_a_request_that_is_answered_leaves_nothing_behind() -> None:
    async with served(small) as (house, call):
        caller = await call()
        await caller.send(request("/a", body=bytes(200_000), extra=f"X: {'y' * 30_000}\r\n"))
        await until(lambda: bool(house.opened) and house.opened[0].limiter is house.state.limiter)
        connection = house.opened[0]
        await until(lambda: house.state.total_requests == 1 and not connection._reading_body)
        assert len(connection.cycle.body) == 0
        assert not connection.cycle.scope
        assert (connection.headers, connection.url) == ([], b"")


async def test_what_waits_behind_a_request_is_bounded() -> None:
    may_end = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await answer(send, scope["path"].encode())

    async with served(slow) as (house, call):
        caller = await call()
        sending = asyncio.create_task(caller.send(request("/a") * 100_000))
        await until(lambda: bool(house.opened) and house.opened[0]._refusal is not None)
        (connection,) = house.opened
        assert len(connection.pipeline) == 16
        assert connection.flow.read_paused
        may_end.set()
        found = await caller.read_to_end()
        assert found.count(b"HTTP/1.1 200 ") == 17
        assert found.count(b"HTTP/1.1 400 ") == 1
        assert found.index(b"HTTP/1.1 400 ") > found.rindex(b"HTTP/1.1 200 ")
        assert b'"pipeline_too_long"' in found
        sending.cancel()
        await asyncio.wait([sending])
        assert house.refusals("pipeline") == 1


async def test_the_heads_that_wait_may_have_what_one_may_have() -> None:
    may_end = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await answer(send, scope["path"].encode())

    async with served(slow) as (house, call):
        caller = await call()
        await caller.send(request("/a", extra=f"X: {'y' * 30_000}\r\n") * 5)
        await until(lambda: bool(house.opened) and house.opened[0]._refusal is not None)
        may_end.set()
        found = await caller.read_to_end()
        assert found.count(b"HTTP/1.1 200 ") == 3
        assert b'"pipeline_too_long"' in found


async def test_bodies_that_wait_behind_a_request_are_not_read_on() -> None:
    may_end = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await may_end.wait()
        await receive()
        await answer(send, scope["path"].encode())

    async with served(slow) as (house, call):
        caller = await call()
        large = request("/b", body=bytes(64 << 20))
        sending = asyncio.create_task(caller.send(request("/a") + large))
        await until(lambda: bool(house.opened) and bool(house.opened[0].pipeline))
        (connection,) = house.opened
        assert connection.flow.read_paused
        assert len(connection.cycle.body) < 1 << 20
        connection.flow.resume_reading()  # as every receive of the first one does
        assert connection.flow.read_paused
        sending.cancel()
        await asyncio.wait([sending])
        may_end.set()


async def test_a_broken_body_is_answered_and_its_request_told_that_nobody_waits() -> None:
    told: list[str] = []

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            told.append(message["type"])
        told.append(message["type"])

    async with served(reads) as (house, call):
        caller = await call()
        await caller.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        )
        await until(lambda: told == ["http.request"])
        await caller.send(b"no length\r\n")
        found = await caller.read_to_end()
        assert found.startswith(b"HTTP/1.1 400 ")
        assert b'"malformed_request"' in found
        await until(lambda: told == ["http.request", "http.disconnect"])
        assert house.refusals("malformed") == 1


async def test_a_broken_body_behind_an_answer_gets_no_second_one() -> None:
    async with served(small) as (_, call):
        caller = await call()
        await caller.send(
            b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"
        )
        first = partial(asyncio.get_running_loop().sock_recv, caller._connection, 1 << 16)
        assert (await first()).endswith(b"/a")
        await caller.send(b"lo\r\nno length\r\n")
        assert await caller.read_to_end() == b""


async def test_a_broken_request_is_answered_after_those_before_it() -> None:
    async with served(small) as (_, call):
        caller = await call()
        await caller.send(request("/a") + request("/b") + b"no request\r\n\r\n" + request("/c"))
        found = await caller.read_to_end()
        assert found.index(b"/a") < found.index(b"/b") < found.index(b"malformed_request")
        assert b"/c" not in found


async def test_a_broken_body_that_waits_is_answered_in_its_turn() -> None:
    may_end = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await may_end.wait()
        await answer(send, scope["path"].encode())

    async with served(slow) as (house, call):
        caller = await call()
        await caller.send(
            request("/a")
            + b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n"
        )
        await until(lambda: bool(house.opened) and house.opened[0]._refusal is not None)
        may_end.set()
        found = await caller.read_to_end()
        assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200", b"400"]
        assert b"/b" not in found


async def test_a_request_behind_a_refused_upgrade_is_answered() -> None:
    async with served(small) as (_, call):
        caller = await call()
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        last = request("/b", extra="Connection: close\r\n")
        await caller.send(request("/a", extra=upgrade) + last)
        found = await caller.read_to_end()
        assert found.count(b"HTTP/1.1 200 ") == 2
        assert found.endswith(b"/b")
