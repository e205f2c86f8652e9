"""Decides which of several concurrent clients goes on next, statement by statement.

Each statement of each client waits for its turn, and a list of picks says whose turn it is. So an
interleaving is data: it can be drawn, counted, shrunk and repeated. A client whose statement waits
for a lock in PostgreSQL is recognised by asking the server, never by how long it takes; the others
go on until it is let through. One thing stays PostgreSQL's choice: which of several clients that
wait for the same transaction is let through first when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import asyncpg

from service.domain.types import ImageId, TenantId
from service.store.database.statements import SQL
from service.usecases.ports import BlobStore

# The server is asked about a statement only when it has no answer by then; this decides nothing.
_ASK_AFTER_S = 0.002
_NAMES = {statement: name for name, statement in SQL.items()}
_BLOCKED = "SELECT pid FROM unnest($1::integer[]) AS pid WHERE pg_blocking_pids(pid) <> '{}'"


@dataclass(eq=False, slots=True)
class _Client:
    """One of the concurrent clients.

    gate: what it waits for before its next step; None while it is on its way.
    pid: the server process that executes its statement; None where its step is no statement.
    """

    number: int
    turns: Turns
    gate: asyncio.Future[None] | None = None
    pid: int | None = None
    is_done: bool = False

    @property
    def is_moving(self) -> bool:
        return self.gate is None and not self.is_done


_client: ContextVar[_Client | None] = ContextVar("client", default=None)


async def turn(step: str, pid: int | None = None) -> None:
    """Wait until the client that runs here may take a step; at once where nobody takes turns."""
    client = _client.get()
    if client is not None:
        await client.turns.wait(client, step, pid)


class Turns:
    """Runs clients one step at a time.

    Args:
        observer: a connection that no client uses.
        picks: which of the clients that wait goes next; used again from the start when they end.
    """

    def __init__(self, observer: asyncpg.Connection, picks: Sequence[int]) -> None:
        self._observer = observer
        self._picks = picks
        self._clients: list[_Client] = []
        self._blocked: set[_Client] = set()
        self._progress = asyncio.Event()
        self.trace: list[tuple[int, str]] = []

    async def run(self, programs: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Run the programs to their ends, each as a client of its own."""
        self._clients = [_Client(number, self) for number in range(len(programs))]
        tasks = [
            asyncio.create_task(self._live(client, program))
            for client, program in zip(self._clients, programs, strict=True)
        ]
        try:
            while await self._settle():
                ready = [client for client in self._clients if client.gate is not None]
                pick = self._picks[len(self.trace) % len(self._picks)]
                self._open(ready[pick % len(ready)])
        finally:
            for task in tasks:
                task.cancel()  # only those that are left when something failed
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()

    async def wait(self, client: _Client, step: str, pid: int | None) -> None:
        """Let a client wait for its turn to take a step."""
        client.gate = asyncio.get_running_loop().create_future()
        client.pid = pid
        self._blocked.discard(client)
        self._progress.set()
        await client.gate
        self.trace.append((client.number, step))

    async def _live(self, client: _Client, program: Callable[[], Awaitable[None]]) -> None:
        _client.set(client)
        try:
            await program()
        finally:
            client.is_done = True
            self._blocked.discard(client)
            self._progress.set()

    def _open(self, client: _Client) -> None:
        gate, client.gate = client.gate, None
        assert gate is not None
        gate.set_result(None)

    async def _settle(self) -> bool:
        """Wait until each client waits for its turn, for a lock, or for nothing any more.

        Returns whether there is a client whose turn it can be.
        """
        while moving := self._moving():
            if self._blocked.issuperset(moving):
                # They were, when last asked; the step since then may have let one through.
                await self._look(moving)
                moving = self._moving()
                if self._blocked.issuperset(moving) and any(c.gate for c in self._clients):
                    return True
            self._progress.clear()
            try:
                async with asyncio.timeout(_ASK_AFTER_S):
                    await self._progress.wait()
            except TimeoutError:
                await self._look(self._moving())
        return any(client.gate for client in self._clients)

    def _moving(self) -> list[_Client]:
        return [client for client in self._clients if client.is_moving]

    async def _look(self, moving: Iterable[_Client]) -> None:
        """Ask the server which of the clients on their way wait for a lock."""
        by_pid = {client.pid: client for client in moving if client.pid is not None}
        rows = await self._observer.fetch(_BLOCKED, list(by_pid))
        blocked = (by_pid[row["pid"]] for row in rows)
        # One may have gone on while the question was under way.
        self._blocked = {client for client in blocked if client.is_moving}


class TurnConnection(asyncpg.Connection):
    """A connection of the pool whose every statement, BEGIN and COMMIT included, takes a turn."""

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        await self._turn(query)
        return await super().execute(query, *args, **options)

    async def executemany(self, command: str, args: Any, **options: Any) -> Any:
        await self._turn(command)
        return await super().executemany(command, args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        await self._turn(query)
        return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        await self._turn(query)
        return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        await self._turn(query)
        return await super().fetchval(query, *args, **options)

    async def reset(self, **options: Any) -> None:
        """As the pool does after use: no step, since nobody can see it."""
        token = _client.set(None)
        try:
            await super().reset(**options)
        finally:
            _client.reset(token)

    async def _turn(self, query: str) -> None:
        await turn(_NAMES.get(query, query), self.get_server_pid())


class TurnBlobs:
    """A blob store whose every change takes a turn."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def key(self, tenant_id: TenantId, image_id: ImageId, suffix: str) -> str:
        return self._blobs.key(tenant_id, image_id, suffix)

    async def put(self, key: str, data: bytes) -> str:
        await turn("put blob")
        return await self._blobs.put(key, data)

    async def delete(self, keys: Iterable[str]) -> list[str]:
        await turn("delete blobs")
        return await self._blobs.delete(keys)
