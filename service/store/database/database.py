"""The connection pool, and the border where the driver's errors become ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector

from service.domain.errors import ConfigError, StoreUnavailableError
from service.domain.types import ModelSpace, TenantId
from service.store.database.active_model import active_model
from service.store.database.migrations import migrate
from service.store.database.role import SERVICE_ROLE
from service.store.database.statements import SQL

_logger = logging.getLogger(__name__)

_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    # The server is starting, stopping, crashed, or out of connections, memory or disk.
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    # A standby that was promoted away, or a disk that went read-only.
    asyncpg.ReadOnlySQLTransactionError,
)


ACQUIRE_TIMEOUT_S = 10.0
"""How long a request waits for a free connection before it is answered 503."""


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """How to reach PostgreSQL; `host` is a host name or the folder of a unix socket."""

    host: str
    port: int
    dbname: str
    user: str
    password: str
    max_connections: int
    acquire_timeout_s: float
    statement_timeout_s: float


class Database:
    """A pool of connections that survives a restart of the server.

    They work as a role that row-level security binds: a transaction sees one tenant, whatever its
    statements ask for.
    """

    def __init__(self, pool: asyncpg.Pool, settings: DatabaseSettings) -> None:
        self._pool = pool
        self._settings = settings

    @classmethod
    async def open(cls, settings: DatabaseSettings) -> Database:
        """Migrate the database, then open the pool.

        Raises:
            ConfigError: the server cannot be reached, lacks pgvector, is another release's, or
                does not let tenants be kept apart.
        """
        address = address_of(settings)
        try:
            connection = await asyncpg.connect(**address)
            try:
                await migrate(connection)
            finally:
                await connection.close()
        except _UNREACHABLE as error:
            raise ConfigError(
                f"the database {settings.dbname} at {settings.host}:{settings.port} "
                f"cannot be used: {error or type(error).__name__}"
            ) from error
        except (asyncpg.UndefinedFileError, asyncpg.FeatureNotSupportedError) as error:
            raise ConfigError(f"the database server lacks pgvector: {error}") from error
        pool = await asyncpg.create_pool(
            **address,
            min_size=1,
            max_size=settings.max_connections,
            command_timeout=settings.statement_timeout_s,
            max_inactive_connection_lifetime=300,
            init=register_vector,
            reset=_leave_as_it_is,
            server_settings={"application_name": "facette", "jit": "off", "role": SERVICE_ROLE},
        )
        return cls(pool, settings)

    async def close(self) -> None:
        """Close every connection, waiting a while for those in use."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout=10)
        except TimeoutError:
            _logger.warning("database connections were still in use and were cut")
            self._pool.terminate()

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            StoreUnavailableError: it does not.
        """
        async with self._connection() as connection:
            await connection.fetchval(SQL["ping"])

    async def active_space(self) -> ModelSpace | None:
        """The space that the database is searched by; None before a model was chosen.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._connection() as connection:
            model = await active_model(connection)
            return None if model is None else model.space

    @asynccontextmanager
    async def snapshot(self, tenant_id: TenantId) -> AsyncIterator[asyncpg.Connection]:
        """A connection for reading a tenant; all statements in the block see the same moment.

        Raises:
            StoreUnavailableError: there is none, or it broke.
        """
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(SQL["use_tenant"], tenant_id)
            yield connection

    @asynccontextmanager
    async def transaction(self, tenant_id: TenantId) -> AsyncIterator[asyncpg.Connection]:
        """A transaction on a tenant: committed when the block ends, rolled back when it raises.

        Raises:
            StoreUnavailableError: with `outcome_unknown` when the commit itself broke.
        """
        async with self._connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(SQL["use_tenant"], tenant_id)
                yield connection
            except BaseException:
                if not connection.is_closed():
                    await transaction.rollback()
                raise
            with _translated(committing=True):
                await transaction.commit()

    @asynccontextmanager
    async def maintenance(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection outside the pool, of the tables' owner: it sees all tenants.

        For what concerns the database as a whole; its statements may take as long as they need.

        Raises:
            StoreUnavailableError: there is none, or it broke.
        """
        with _translated():
            connection = await asyncpg.connect(
                **address_of(self._settings),
                server_settings={"application_name": "facette maintenance", "jit": "off"},
            )
            try:
                await register_vector(connection)
                yield connection
            finally:
                await connection.close()

    @asynccontextmanager
    async def notifications(
        self, channel: str, silence_s: float
    ) -> AsyncIterator[AsyncIterator[str]]:
        """The payloads of a channel, as they are committed, over a connection outside the pool.

        Args:
            silence_s: where nothing came for so long, the server is asked whether it is there.

        Raises:
            StoreUnavailableError: there is no connection, or it broke.
        """
        with _translated():
            connection = await asyncpg.connect(
                **address_of(self._settings),
                server_settings={
                    "application_name": "facette notifications",
                    "role": SERVICE_ROLE,
                },
            )
            try:
                received: asyncio.Queue[str | None] = asyncio.Queue()
                connection.add_termination_listener(lambda _: received.put_nowait(None))
                await connection.add_listener(channel, lambda *said: received.put_nowait(said[-1]))
                yield _payloads(connection, received, silence_s)
            finally:
                connection.terminate()  # without a word to a server that may not answer

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        with _translated():
            connection = await self._pool.acquire(timeout=self._settings.acquire_timeout_s)
            try:
                yield connection
            finally:
                await self._give_back(connection)

    async def _give_back(self, connection: asyncpg.Connection) -> None:
        """Return it to the pool, which resets it, or forgets it where it is broken.

        By then its work is done: to fail here would say of a committed transaction that it was
        rolled back.
        """
        try:
            await self._pool.release(connection)
        except _UNREACHABLE as error:
            _logger.warning(
                "a database connection broke after its use: %s: %s", type(error).__name__, error
            )


async def _payloads(
    connection: asyncpg.Connection, received: asyncio.Queue[str | None], silence_s: float
) -> AsyncIterator[str]:
    while True:
        try:
            async with asyncio.timeout(silence_s):
                payload = await received.get()
        except TimeoutError:
            await connection.fetchval(SQL["ping"], timeout=silence_s)
            continue
        if payload is None:
            raise ConnectionResetError("the connection for notifications was lost")
        yield payload


def address_of(settings: DatabaseSettings) -> dict[str, Any]:
    """What asyncpg needs to know to connect."""
    return {
        "host": settings.host,
        "port": settings.port,
        "database": settings.dbname,
        "user": settings.user,
        "password": settings.password or None,
        "timeout": settings.acquire_timeout_s,
    }


async def _leave_as_it_is(connection: asyncpg.Connection) -> None:
    """Nothing in a session has to be undone: settings and locks are those of a transaction.

    One that is still open is rolled back before. It saves a round trip to the server for each use.
    """


@contextmanager
def _translated(*, committing: bool = False) -> Iterator[None]:
    try:
        yield
    except _UNREACHABLE as error:
        _logger.warning("database unavailable: %s: %s", type(error).__name__, error)
        raise StoreUnavailableError(
            "The database does not answer; try again shortly.", outcome_unknown=committing
        ) from error


_LOST = (
    ConnectionError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)


@asynccontextmanager
async def owner_connection(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Connection]:
    """One connection that row-level security does not bind; its statements may take long.

    Raises:
        ConfigError: the database cannot be reached, or the login does not own its tables.
        StoreUnavailableError: the connection broke.
    """
    name = f"the database {settings.dbname} at {settings.host}:{settings.port}"
    try:
        connection = await asyncpg.connect(
            **address_of(settings),
            server_settings={"application_name": "facette command", "jit": "off"},
        )
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        raise ConfigError(f"{name} cannot be used: {error or type(error).__name__}") from error
    try:
        yield connection
    except _LOST as error:
        raise StoreUnavailableError(f"{name} went away; try again.") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(f"{name} does not let {settings.user} look: {error}") from error
    finally:
        await connection.close()
