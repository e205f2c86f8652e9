"""The changes of tenants as they are committed, for whoever follows them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence

import orjson

from service.domain.errors import NotFoundError, StoreUnavailableError
from service.domain.people import Change
from service.domain.types import TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL

_logger = logging.getLogger(__name__)

_CHANNEL = "facette_changes"
# A connection without notifications is tried that often; a lost one is opened again.
_SILENCE_S = 60.0
_RECONNECT_S = 1.0
# The database is told for a minute at a time that a tenant is watched (`watch_tenant`).
_WATCH_S = 30.0
# A notification may be lost with its connection, so that changes are also looked for.
_LOOK_S = 10.0
_CHANGES_AT_ONCE = 500


class DatabaseChangeFeed:
    """Follows the changes of tenants, of all processes on one database.

    Each writer of a watched tenant notifies of its commit. Followers read the changes from the
    table, in the order of their numbers: a notification only says that there are some.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._stopped = False
        self._ended = 0

    async def run(self) -> None:
        """Listen to notifications, until cancelled."""
        while True:
            try:
                async with self._database.notifications(_CHANNEL, _SILENCE_S) as said:
                    self._wake_all()  # some may have been missed
                    async for payload in said:
                        for event in self._waiting.get(payload, ()):
                            event.set()
            except StoreUnavailableError as error:
                _logger.warning("changes are not listened to: %s", error)
                await asyncio.sleep(_RECONNECT_S)

    def stop(self) -> None:
        """Let all followers end, and new ones at once."""
        self._stopped = True
        self.end_followers()

    def end_followers(self) -> None:
        """Let those end that follow now: they come back, and are checked by what holds then."""
        self._ended += 1
        self._wake_all()

    async def newest(self, tenant_id: TenantId) -> int:
        """The number of the last change, to follow from now on; 0 before the first one.

        Raises:
            NotFoundError: there is no such tenant.
            StoreUnavailableError: the database does not answer.
        """
        async with self._database.snapshot(tenant_id) as connection:
            newest = await connection.fetchval(SQL["newest_change"], tenant_id)
        if newest is None:
            raise NotFoundError("tenant")
        return int(newest)

    async def follow(
        self, tenant_id: TenantId, after: int
    ) -> AsyncGenerator[Sequence[Change], None]:
        """The changes after a number, oldest first, and an empty sequence every ten seconds.

        It ends when the service stops.

        Raises:
            NotFoundError: there is no such tenant, or it was deleted.
            StoreUnavailableError: the database does not answer.
        """
        digest = _digest(tenant_id)
        event = asyncio.Event()
        self._waiting.setdefault(digest, set()).add(event)
        watched_at, ended = -_WATCH_S, self._ended
        try:
            while not self._stopped and ended == self._ended:
                event.clear()
                if time.monotonic() - watched_at >= _WATCH_S:
                    watched_at = time.monotonic()
                    await self._watch(tenant_id)
                changes = await self._changes(tenant_id, after)
                if changes:
                    after = changes[-1].number
                yield changes
                if not changes and not self._stopped and ended == self._ended:
                    await _wait(event, _LOOK_S)
        finally:
            self._waiting[digest].discard(event)
            if not self._waiting[digest]:
                del self._waiting[digest]

    def followers(self, tenant_id: TenantId | None = None) -> int:
        """The number of followers in this process, of one tenant or of all."""
        if tenant_id is None:
            return sum(map(len, self._waiting.values()))
        return len(self._waiting.get(_digest(tenant_id), ()))

    async def _watch(self, tenant_id: TenantId) -> None:
        async with self._database.transaction(tenant_id) as connection:
            if await connection.fetchval(SQL["watch_tenant"], tenant_id) is None:
                raise NotFoundError("tenant")

    async def _changes(self, tenant_id: TenantId, after: int) -> list[Change]:
        async with self._database.snapshot(tenant_id) as connection:
            rows = await connection.fetch(SQL["changes_after"], tenant_id, after, _CHANGES_AT_ONCE)
            if not rows and await connection.fetchrow(SQL["tenant_facts"], tenant_id) is None:
                raise NotFoundError("tenant")
        return [
            Change(
                row["change"],
                row["changed_at"],
                row["kind"],
                row["key_id"],
                orjson.loads(row["subject"]),
            )
            for row in rows
        ]

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()


def _digest(tenant_id: TenantId) -> str:
    """The name of a tenant in notifications, which any login may read."""
    return hashlib.sha256(tenant_id.encode()).hexdigest()


async def _wait(event: asyncio.Event, longest_s: float) -> None:
    try:
        async with asyncio.timeout(longest_s):
            await event.wait()
    except TimeoutError:
        return
