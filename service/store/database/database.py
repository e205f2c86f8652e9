"""The connection pool, and the border where the driver's errors become ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector

from service.domain.errors import ConfigError, StoreUnavailableError
from service.domain.types import ModelSpace, TenantId
from service.store.database.active_model import active_model
from service.store.database.migrations import migrate
from service.store.database.role import SERVICE_ROLE
from service.store.database.statements import SQL
from service.store.database.transactions import in_transaction, is_lost

_logger = logging.getLogger(__name__)

# The server is starting, stopping, crashed, or out of connections, memory or disk, or a statement
# took longer than it may.
_OUTAGES = (
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
)
# asyncpg raises the same errors for a connection that is gone and for one that is used wrongly.
_OUTAGES_IF_LOST = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# Nothing but the address is given to connect, so whatever fails is the server or the way to it.
_FAILURES_TO_CONNECT = (
    *_OUTAGES,
    *_OUTAGES_IF_LOST,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


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
        with _unusable(settings, _fails_to_connect):
            connection = await asyncpg.connect(**address)
        try:
            with _unusable(settings, partial(_is_outage, connection)):
                await _migrate(connection)
        finally:
            await _close(connection)
        with _unusable(settings, _fails_to_connect):
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
            self._connection(reads_only=True) as connection,
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
            committing = partial(_translated, partial(_is_outage, connection), committing=True)
            async with in_transaction(connection, committing):
                await connection.execute(SQL["use_tenant"], tenant_id)
                yield connection

    @asynccontextmanager
    async def maintenance(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection outside the pool, of the tables' owner: it sees all tenants.

        For what concerns the database as a whole; its statements may take as long as they need.

        Raises:
            StoreUnavailableError: there is none, or it broke.
        """
        with _translated(_fails_to_connect):
            connection = await asyncpg.connect(
                **address_of(self._settings),
                server_settings={"application_name": "facette maintenance", "jit": "off"},
            )
        try:
            with _translated(partial(_is_outage, connection)):
                await register_vector(connection)
                yield connection
        finally:
            await _close(connection)

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
        with _translated(_fails_to_connect):
            connection = await asyncpg.connect(
                **address_of(self._settings),
                server_settings={
                    "application_name": "facette notifications",
                    "role": SERVICE_ROLE,
                },
            )
        with _translated(partial(_is_outage, connection)):
            try:
                received: asyncio.Queue[str | None] = asyncio.Queue()
                connection.add_termination_listener(lambda _: received.put_nowait(None))
                await connection.add_listener(channel, lambda *said: received.put_nowait(said[-1]))
                yield _payloads(connection, received, silence_s)
            finally:
                connection.terminate()  # without a word to a server that may not answer

    @asynccontextmanager
    async def _connection(self, *, reads_only: bool = False) -> AsyncIterator[asyncpg.Connection]:
        with _translated(_fails_to_connect):
            connection = await self._pool.acquire(timeout=self._settings.acquire_timeout_s)
        try:
            with _translated(partial(_is_outage, connection, reads_only=reads_only)):
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
        except _OUTAGES as error:
            _log_late_break(error)
        except Exception:
            _logger.exception("a database connection could not be returned to its pool")


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


async def _migrate(connection: asyncpg.Connection) -> None:
    try:
        await migrate(connection)
    except (asyncpg.UndefinedFileError, asyncpg.FeatureNotSupportedError) as error:
        raise ConfigError(f"the database server lacks pgvector: {error}") from error


async def _leave_as_it_is(connection: asyncpg.Connection) -> None:
    """Nothing in a session has to be undone: settings and locks are those of a transaction.

    One that is still open is rolled back before. It saves a round trip to the server for each use.
    """


def _is_outage(
    connection: asyncpg.Connection, error: Exception, *, reads_only: bool = False
) -> bool:
    """Whether an error in the use of a connection is the server's, and not the statement's.

    Args:
        reads_only: nothing may be written in its transactions, so one that is refused to write is
            used wrongly; others are on a standby that was promoted away, or a read-only disk.
    """
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return not reads_only
    return isinstance(error, _OUTAGES) or (
        isinstance(error, _OUTAGES_IF_LOST) and is_lost(connection)
    )


def _fails_to_connect(error: Exception) -> bool:
    return isinstance(error, _FAILURES_TO_CONNECT)


@contextmanager
def _translated(
    is_outage: Callable[[Exception], bool], *, committing: bool = False
) -> Iterator[None]:
    """Raise StoreUnavailableError for outages; every other error is a bug, and passes through."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        _logger.warning("database unavailable: %s: %s", type(error).__name__, error)
        raise StoreUnavailableError(
            "The database does not answer; try again shortly.", outcome_unknown=committing
        ) from error


@contextmanager
def _unusable(settings: DatabaseSettings, is_outage: Callable[[Exception], bool]) -> Iterator[None]:
    """Raise ConfigError for outages; every other error is a bug, and passes through."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        raise ConfigError(
            f"{_name_of(settings)} cannot be used: {str(error) or type(error).__name__}"
        ) from error


def _name_of(settings: DatabaseSettings) -> str:
    return f"the database {settings.dbname} at {settings.host}:{settings.port}"


async def _close(connection: asyncpg.Connection) -> None:
    """Close a connection whose work is done: that it breaks only now is no failure of the work."""
    try:
        await connection.close()
    except (*_OUTAGES, *_OUTAGES_IF_LOST) as error:
        _log_late_break(error)


def _log_late_break(error: Exception) -> None:
    _logger.warning(
        "a database connection broke after its use: %s: %s", type(error).__name__, error
    )


@asynccontextmanager
async def owner_connection(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Connection]:
    """One connection that row-level security does not bind; its statements may take long.

    Raises:
        ConfigError: the database cannot be reached, or the login does not own its tables.
        StoreUnavailableError: the connection broke.
    """
    name = _name_of(settings)
    try:
        connection = await asyncpg.connect(
            **address_of(settings),
            server_settings={"application_name": "facette command", "jit": "off"},
        )
    except (*_FAILURES_TO_CONNECT, asyncpg.PostgresError) as error:
        raise ConfigError(f"{name} cannot be used: {str(error) or type(error).__name__}") from error
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(f"{name} does not let {settings.user} look: {error}") from error
    except Exception as error:
        if not _is_outage(connection, error, reads_only=True):
            raise
        raise StoreUnavailableError(f"{name} went away; try again.") from error
    finally:
        await _close(connection)
