"""Forgets what is over its time: the history of tenants, and answers that were kept for a day."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

import asyncpg

from service.domain.errors import StoreUnavailableError
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.database.transactions import in_transaction

_logger = logging.getLogger(__name__)

_ROUND_EVERY_S = 600.0
# Rows of one transaction, during which the tenant's writers wait, and of one round.
_ROWS_AT_ONCE = 200
_ROWS_OF_A_ROUND = 20_000
_PAUSE_S = 1.0
# While this waits for a tenant's lock, the writers of the tenant wait behind it.
_LONGEST_WAIT_FOR_LOCK = "1s"


class Pruning:
    """Removes old changes in the background, and decisions that only such a change could restore.

    A change is removed under its tenant's lock, so that it is not undone meanwhile. Several
    processes may work at once: each finds what the others left.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._age: timedelta | None = None
        self._changed = asyncio.Event()

    def follow(self, days: float) -> None:
        """Keep changes for so many days from now on; 0 keeps them for ever."""
        self._age = timedelta(days=days) if days else None
        self._changed.set()

    async def run(self) -> None:
        """Prune until cancelled; a failed round is repeated."""
        while True:
            self._changed.clear()
            is_done = True
            try:
                is_done = await self.round()
            except StoreUnavailableError as error:
                _logger.warning("the history was not pruned: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_ROUND_EVERY_S if is_done else _PAUSE_S):
                    await self._changed.wait()

    async def round(self, most_rows: int = _ROWS_OF_A_ROUND) -> bool:
        """Remove what is over its time, up to a number of rows; returns whether that is all.

        Tenants that stay locked are left to the next round.

        Raises:
            StoreUnavailableError: the database does not answer; what was removed stays removed.
        """
        removed = 0
        async with self._database.maintenance() as connection:
            last = ""
            while tenants := await connection.fetch(SQL["tenants_to_prune"], last, self._age):
                for row in tenants:
                    last = row["tenant_id"]
                    while some := await self._prune(connection, last):
                        removed += some
                        if removed >= most_rows:
                            return False
        if removed:
            _logger.info("old changes and answers removed", extra={"fields": {"removed": removed}})
        return True

    async def _prune(self, connection: asyncpg.Connection, tenant_id: str) -> int:
        """Remove some rows of a tenant; returns how many, 0 also while the tenant is locked."""
        try:
            async with in_transaction(connection):
                await connection.execute(SQL["limit_wait_for_locks"], _LONGEST_WAIT_FOR_LOCK)
                await connection.execute(SQL["lock_tenants"], [tenant_id])
                answers = await connection.fetchval(SQL["prune_answers"], tenant_id, _ROWS_AT_ONCE)
                old = await connection.fetchrow(
                    SQL["prune_history"], tenant_id, self._age, _ROWS_AT_ONCE
                )
                await connection.execute(SQL["forget_faces_that_left"], tenant_id, old["changes"])
                await connection.execute(
                    SQL["forget_retracted_decisions"], tenant_id, old["decisions"]
                )
        except asyncpg.LockNotAvailableError:
            return 0
        return int(answers) + len(old["changes"])
