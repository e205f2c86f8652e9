"""Which blobs rows name, over all tenants: what the sweep must know before it removes any."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from service.store.blob.names import image_name
from service.store.database.database import Database
from service.store.database.statements import SQL

# Any constant that no other advisory lock of the service uses: "facettes" in hexadecimal.
SWEEP_TURN_KEY = 0x6661636574746573
# Writers of a tenant wait behind the sweep while it waits, so it gives up soon.
_LONGEST_WAIT_FOR_LOCKS = "2s"


class DatabaseSweepTurns:
    """Turns among all processes on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def take(self) -> AsyncIterator[DatabaseBlobIndex | None]:
        """The index for the block, on a connection of its own; None while another has the turn.

        Raises:
            StoreUnavailableError: the database does not answer, also later in the block.
        """
        async with self._database.maintenance() as connection:
            is_ours = await connection.fetchval(SQL["take_sweep_turn"], SWEEP_TURN_KEY)
            yield DatabaseBlobIndex(connection) if is_ours else None


class DatabaseBlobIndex:
    """Looks keys up by the primary keys of their images."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        # Keys come folder by folder. A tenant's folder never changes; where the tenant has gone,
        # no row is found.
        self._tenants: dict[str, str] = {}

    async def database_id(self) -> str:
        """The identity of the database, which its blob store is marked with."""
        return await database_id(self._connection)

    async def named_blobs(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a row names now."""
        names = [name for key in keys if (name := image_name(key)) is not None]
        await self._find_tenants({name.folder for name in names})
        wanted = [name for name in names if name.folder in self._tenants]
        rows = await self._connection.fetch(
            SQL["blob_keys_of_images"],
            [self._tenants[name.folder] for name in wanted],
            [UUID(name.image_id) for name in wanted],
        )
        return {row["blob_key"] for row in rows}.intersection(keys)

    @asynccontextmanager
    async def unnamed_for_good(self, keys: Sequence[str]) -> AsyncIterator[list[str]]:
        """Those of one folder's keys that no row names, nor will before the block ends.

        None where somebody keeps the tenant locked for long: the next sweep will see. None either
        of a tenant with an id that is not allowed any more, whose row can only be deleted.

        Whoever inserts an image holds the tenant's lock from before it looks at the age of its
        blob until its commit. The sweep holds the same lock from before it looks for rows until
        the blobs are gone. So an insert that came first has ended, and its row is seen here; one
        that comes later finds its blob too old to rely on, and puts it again (IngestPhoto).
        """
        if not any(map(image_name, keys)):
            yield list(keys)  # unfinished files, which no row can come to name
            return
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            try:
                await self._exclude_inserts(keys)
            except (asyncpg.LockNotAvailableError, asyncpg.CheckViolationError):
                # The latter of a tenant that no caller can name: `facette doctor` tells of it.
                unnamed = []
            else:
                named = await self.named_blobs(keys)
                unnamed = [key for key in keys if key not in named]
            yield unnamed
        finally:
            if not self._connection.is_closed():
                await transaction.rollback()  # it changed nothing

    async def _exclude_inserts(self, keys: Sequence[str]) -> None:
        """Let nobody store an image of this folder's tenant until the transaction ends."""
        folders = {name.folder for key in keys if (name := image_name(key)) is not None}
        (folder,) = folders
        await self._connection.execute(SQL["limit_wait_for_locks"], _LONGEST_WAIT_FOR_LOCKS)
        tenant_id = self._tenants.get(folder)
        if tenant_id is not None and await self._connection.fetchval(
            SQL["lock_known_tenant"], tenant_id
        ):
            return
        # The tenant is gone or not there yet, so there is no row to lock. For the moment that
        # removing a batch takes, nobody inserts.
        await self._connection.execute(SQL["exclude_inserts"])

    async def _find_tenants(self, folders: set[str]) -> None:
        known = {folder: self._tenants[folder] for folder in folders & self._tenants.keys()}
        if unknown := folders - known.keys():
            rows = await self._connection.fetch(SQL["tenants_of_folders"], list(unknown))
            known |= {row["folder"]: row["tenant_id"] for row in rows}
        self._tenants = known


async def database_id(connection: asyncpg.Connection) -> str:
    """The identity of the database, which its blob store is marked with."""
    return str(await connection.fetchval(SQL["database_id"]))
