"""The index of blobs that rows name, over all tenants; the sweep asks it before removals.

The row of an image names the thumbnails of the image as well, made or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from service.store.blob.names import ImageName, image_name, thumbnail_name
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.database.transactions import in_transaction

# Any constant that no other advisory lock of the service uses: "facettes" in hexadecimal.
SWEEP_TURN_KEY = 0x6661636574746573
# While the sweep waits for a lock, the writers of the tenant wait behind it.
_LONGEST_WAIT_FOR_LOCKS = "2s"


class DatabaseSweepTurns:
    """Gives the sweep to one process at a time, among all processes on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def take(self) -> AsyncIterator[DatabaseBlobIndex | None]:
        """The index for the block, on its own connection; None while another process sweeps.

        Raises:
            StoreUnavailableError: the database does not answer, now or later in the block.
        """
        async with self._database.maintenance() as connection:
            is_ours = await connection.fetchval(SQL["take_sweep_turn"], SWEEP_TURN_KEY)
            yield DatabaseBlobIndex(connection) if is_ours else None


class DatabaseBlobIndex:
    """Looks up keys by the primary keys of their images."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        # Tenants by folder, for the folders of the last keys. The folder of a tenant never changes;
        # a deleted tenant has no rows.
        self._tenants: dict[str, str] = {}

    async def database_id(self) -> str:
        """The id of the database, as in the mark of its blob store."""
        return await database_id(self._connection)

    async def named_blobs(self, keys: Sequence[str]) -> set[str]:
        """The keys that a row names now."""
        names = {key: name for key in keys if (name := _image_of(key)) is not None}
        await self._find_tenants({name.folder for name in names.values()})
        wanted = sorted({name for name in names.values() if name.folder in self._tenants})
        rows = await self._connection.fetch(
            SQL["blob_keys_of_images"],
            [self._tenants[name.folder] for name in wanted],
            [UUID(name.image_id) for name in wanted],
        )
        of_images = {wanted[row["nth"] - 1]: row["blob_key"] for row in rows}
        return {
            key
            for key, name in names.items()
            if name in of_images and (key == of_images[name] or thumbnail_name(key) is not None)
        }

    @asynccontextmanager
    async def unnamed_for_good(self, keys: Sequence[str]) -> AsyncIterator[list[str]]:
        """The keys, of one folder, that no row names and no insert can name in the block.

        Empty where the tenant stays locked: the next sweep tries again. Empty also for a tenant
        with an id that is no longer valid, whose row can only be deleted.

        An insert holds the lock of the tenant from before it checks the age of its blob until its
        commit. The sweep holds the same lock from before it looks for rows until the blobs are
        removed. So an earlier insert has ended, and its row is visible here. A later insert finds
        its blob too old, and puts it again (IngestPhoto).
        """
        if not any(map(_image_of, keys)):
            yield list(keys)  # unfinished files, which no row names
            return
        async with in_transaction(self._connection):
            try:
                await self._exclude_inserts(keys)
            except (asyncpg.LockNotAvailableError, asyncpg.CheckViolationError):
                # CheckViolationError: the id of the tenant is invalid; `facette doctor` reports it.
                unnamed = []
            else:
                named = await self.named_blobs(keys)
                unnamed = [key for key in keys if key not in named]
            yield unnamed

    async def _exclude_inserts(self, keys: Sequence[str]) -> None:
        """Exclude inserts of the tenant of these keys until the transaction ends."""
        folders = {name.folder for key in keys if (name := _image_of(key)) is not None}
        (folder,) = folders
        await self._connection.execute(SQL["limit_wait_for_locks"], _LONGEST_WAIT_FOR_LOCKS)
        tenant_id = self._tenants.get(folder)
        if tenant_id is not None and await self._connection.fetchval(
            SQL["lock_known_tenant"], tenant_id
        ):
            return
        # The tenant does not exist, so that it has no row to lock. All inserts are excluded while a
        # batch is removed.
        await self._connection.execute(SQL["exclude_inserts"])

    async def _find_tenants(self, folders: set[str]) -> None:
        known = {folder: self._tenants[folder] for folder in folders & self._tenants.keys()}
        if unknown := folders - known.keys():
            rows = await self._connection.fetch(SQL["tenants_of_folders"], list(unknown))
            known |= {row["folder"]: row["tenant_id"] for row in rows}
        self._tenants = known


def _image_of(key: str) -> ImageName | None:
    """The image of a key, whether the key is its own or that of a thumbnail."""
    return image_name(key) or thumbnail_name(key)


async def database_id(connection: asyncpg.Connection) -> str:
    """The id of the database, as in the mark of its blob store."""
    return str(await connection.fetchval(SQL["database_id"]))
