"""The databases of a test: each is a copy of a template, which a worker fills once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from service.store.database.database import Database, DatabaseSettings
from service.store.database.schemas import Schemas
from service.store.embedded.server import EmbeddedAddress

Fill = Callable[[Database, Path], Awaitable[None]]


@dataclass(slots=True)
class Templates:
    """The templates of one server, by the function that filled them.

    folder: holds a folder of photos for each. schemas: where the tables of all of them are.
    """

    folder: Path
    names: dict[Fill | None, str] = field(default_factory=dict)
    schemas: Schemas | None = None


class Databases:
    """Makes databases, which are dropped at the end of the test."""

    def __init__(
        self, address: EmbeddedAddress, templates: Templates, admin: asyncpg.Connection
    ) -> None:
        self._address = address
        self._templates = templates
        self._admin = admin
        self._open: list[Database] = []
        self._made: list[str] = []

    async def empty(self) -> DatabaseSettings:
        """A database without any table."""
        return await self._copy("template0")

    async def prepared(self) -> DatabaseSettings:
        """A database with every table and no row, for one who opens it."""
        return await self._copy(await self._template(None))

    async def migrated(self) -> Database:
        """The same, opened."""
        return await self.opened(await self.prepared())

    async def filled(self, fill: Fill, uploads: Path, *, onto: Fill | None = None) -> Database:
        """A database as `fill` leaves it.

        Args:
            fill: a function of a module; it gets a migrated database and an empty folder for
                photos, and is called once by each worker.
            uploads: where the photos go.
            onto: fills the database before, without a photo; it is called once, too.
        """
        return await self.opened(await self._copy_filled(fill, uploads, onto=onto))

    @asynccontextmanager
    async def undone(self, fill: Fill) -> AsyncIterator[asyncpg.Connection]:
        """A transaction, as the owner, in a database as `fill` leaves it; it is rolled back."""
        connection = await connect(replace(self._address, dbname=await self._template(fill)))
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()
            await connection.close()

    async def kept(self, fill: Fill, uploads: Path) -> DatabaseSettings:
        """A database as `fill` leaves it, which stays for the tests after this one.

        Args:
            fill: as for `filled`.
            uploads: where the photos go, which must stay, too.
        """
        return await self._copy_filled(fill, uploads, keep=True)

    async def opened(self, settings: DatabaseSettings) -> Database:
        """One of these databases, open until the end of the test."""
        schemas = self._templates.schemas
        assert schemas is not None
        database = await Database.open_migrated(settings, schemas)
        self._open.append(database)
        return database

    async def _copy_filled(
        self, fill: Fill, uploads: Path, *, onto: Fill | None = None, keep: bool = False
    ) -> DatabaseSettings:
        template = await self._template(fill, onto)
        photos = self._templates.folder / template
        if photos.exists():
            shutil.copytree(photos, uploads, dirs_exist_ok=True)
        return await self._copy(template, keep=keep)

    async def _template(self, fill: Fill | None, onto: Fill | None = None) -> str:
        names = self._templates.names
        if fill not in names:
            source = "template0" if fill is None else await self._template(onto)
            settings = await self._copy(source, keep=True)
            database = await Database.open(settings)
            self._templates.schemas = database._schemas
            if fill is not None:
                await fill(database, self._templates.folder / settings.dbname)
            await database.close()
            names[fill] = settings.dbname
        return names[fill]

    async def _copy(self, template: str, *, keep: bool = False) -> DatabaseSettings:
        name = f"test_{uuid4().hex}"
        await self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        if not keep:
            self._made.append(name)
        address = self._address
        return DatabaseSettings(
            address.socket_dir, address.port, name, address.user, "", 8, 10.0, 30.0
        )

    async def drop(self) -> None:
        """Close and drop what was made."""
        for database in self._open:
            await database.close()
        for name in self._made:
            await self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def databases_of_a_test(
    address: EmbeddedAddress, templates: Templates
) -> AsyncIterator[Databases]:
    """The databases of one test."""
    admin = await connect(address)
    made = Databases(address, templates, admin)
    try:
        yield made
    finally:
        await made.drop()
        await admin.close()


async def connect(address: EmbeddedAddress) -> asyncpg.Connection:
    """A connection to the database of an embedded server, as its owner."""
    return await asyncpg.connect(
        host=address.socket_dir, port=address.port, user=address.user, database=address.dbname
    )


def ask_all(address: EmbeddedAddress, statement: str) -> list[Any]:
    """The first column of what a statement gives."""

    async def run() -> list[Any]:
        connection = await connect(address)
        try:
            return [row[0] for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(run())


def ask(address: EmbeddedAddress, statement: str) -> Any:
    """The one value that a statement gives; None where it gives none."""
    return next(iter(ask_all(address, statement)), None)
