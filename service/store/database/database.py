"""The connection pool, which translates outages of the driver into StoreUnavailableError."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg

from service.domain.errors import ConfigError, StoreUnavailableError
from service.domain.types import ModelSpace, TenantId
from service.store.database.active_model import active_model
from service.store.database.migrations import migrate
from service.store.database.role import SERVICE_ROLE
from service.store.database.schemas import Schemas, use_schemas
from service.store.database.statements import SQL, for_tenant
from service.store.database.transactions import BEGIN, BEGIN_SNAPSHOT, in_transaction, is_lost

_logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 10.0

# The server is starting, stopping, crashed, or out of connections, memory or disk, or a statement
# exceeded its timeout.
_OUTAGES = (
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
)
# asyncpg raises these errors for a lost connection, but for wrong use of a good one as well.
_OUTAGES_OF_LOST_CONNECTIONS = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# To connect takes only the address, so these errors always come from the server or the network.
_CONNECTION_FAILURES = (
    *_OUTAGES,
    *_OUTAGES_OF_LOST_CONNECTIONS,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


ACQUIRE_TIMEOUT_S = 10.0
"""How long a request waits for a free connection before it is answered 503."""


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """The address of PostgreSQL and the limits of the pool.

    host: a host name, or the folder of a unix socket. embedded: whether it is the embedded server,
    whose connections do not depend on the environment: PGSSLMODE, PGPASSFILE and the like.
    """

    host: str
    port: int
    dbname: str
    user: str
    password: str
    max_connections: int
    acquire_timeout_s: float
    statement_timeout_s: float
    embedded: bool = False


class Database:
    """A pool of connections that survives a restart of the server.

    Its connections use a role that is subject to row-level security. A transaction therefore sees
    the rows of one tenant only, whatever its statements select.
    """

    def __init__(self, pool: asyncpg.Pool, settings: DatabaseSettings, schemas: Schemas) -> None:
        self._pool = pool
        self._settings = settings
        self._schemas = schemas

    @classmethod
    async def open(cls, settings: DatabaseSettings) -> Database:
        """Migrate the database, then open the pool.

        Raises:
            ConfigError: the server cannot be reached or lacks pgvector, the database has the schema
                of another release, or row-level security cannot be enforced.
        """
        address = address_of(settings)
        with _outages_as_config_errors(settings, _is_refusal):
            connection = await asyncpg.connect(**address, server_settings=_session("facette start"))
        try:
            with _outages_as_config_errors(settings, partial(_is_outage, connection)):
                await migrate(connection)
                schemas = await use_schemas(connection)
        finally:
            await _close(connection)
        return await cls.open_migrated(settings, schemas)

    @classmethod
    async def open_migrated(cls, settings: DatabaseSettings, schemas: Schemas) -> Database:
        """Open the pool of a database that has this release's schema.

        Raises:
            ConfigError: the server cannot be reached.
        """
        with _outages_as_config_errors(settings, _is_refusal):
            pool = await asyncpg.create_pool(
                **address_of(settings),
                min_size=1,
                max_size=settings.max_connections,
                command_timeout=settings.statement_timeout_s,
                max_inactive_connection_lifetime=300,
                init=schemas.register_types,
                reset=_skip_reset,
                server_settings={
                    **_session("facette"),
                    "role": SERVICE_ROLE,
                    "search_path": schemas.search_path,
                },
            )
        return cls(pool, settings, schemas)

    async def close(self) -> None:
        """Close every connection; connections in use are cut after ten seconds."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout=_CLOSE_TIMEOUT_S)
        except TimeoutError:
            _logger.warning("database connections were still in use at shutdown and were cut")
            self._pool.terminate()

    async def ping(self) -> None:
        """Return when the database has answered a query.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._connection() as connection:
            await connection.fetchval(SQL["ping"])

    async def active_space(self) -> ModelSpace | None:
        """The space of the active model; None if no model is active yet.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._connection() as connection:
            model = await active_model(connection)
            return None if model is None else model.space

    @asynccontextmanager
    async def snapshot(self, tenant_id: TenantId) -> AsyncIterator[asyncpg.Connection]:
        """A connection that reads one tenant; all statements in the block see the same snapshot.

        Raises:
            StoreUnavailableError: no connection is available, or the connection was lost.
        """
        begin = f"{BEGIN_SNAPSHOT}; {for_tenant('use_tenant_of_text', tenant_id)}"
        async with (
            self._connection(reads_only=True) as connection,
            in_transaction(connection, begin=begin),
        ):
            yield connection

    @asynccontextmanager
    async def transaction(self, tenant_id: TenantId) -> AsyncIterator[asyncpg.Connection]:
        """A transaction on one tenant: committed when the block ends, rolled back when it raises.

        Raises:
            StoreUnavailableError: no connection is available, or the connection was lost;
                with `outcome_unknown` if it was lost during the commit.
        """
        async with self._connection() as connection:
            is_outage = partial(_is_outage, connection)
            committing = partial(_outages_translated, is_outage, committing=True)
            begin = f"{BEGIN}; {for_tenant('use_tenant_of_text', tenant_id)}"
            async with in_transaction(connection, committing, begin=begin):
                yield connection

    @asynccontextmanager
    async def common(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for tables about the database as a whole.

        Each statement is a transaction of its own. One that names a tenant itself sees the rows of
        that tenant, and any other one sees no rows of tenants.

        Raises:
            StoreUnavailableError: no connection is available, or the connection was lost.
        """
        async with self._connection() as connection:
            yield connection

    @asynccontextmanager
    async def maintenance(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection outside the pool, as the owner of the tables: it sees all tenants.

        For work on the database as a whole. Its statements have no timeout.

        Raises:
            StoreUnavailableError: no connection is available, or the connection was lost.
        """
        with _outages_translated(_is_connection_failure):
            connection = await asyncpg.connect(
                **address_of(self._settings),
                server_settings={
                    **_session("facette maintenance"),
                    "search_path": self._schemas.search_path,
                },
            )
        try:
            with _outages_translated(partial(_is_outage, connection)):
                await self._schemas.register_types(connection)
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
        with _outages_translated(_is_connection_failure):
            connection = await asyncpg.connect(
                **address_of(self._settings),
                server_settings={
                    "application_name": "facette notifications",
                    "role": SERVICE_ROLE,
                },
            )
        with _outages_translated(partial(_is_outage, connection)):
            try:
                received: asyncio.Queue[str | None] = asyncio.Queue()
                connection.add_termination_listener(lambda _: received.put_nowait(None))
                await connection.add_listener(channel, lambda *said: received.put_nowait(said[-1]))
                yield _payloads(connection, received, silence_s)
            finally:
                connection.terminate()  # without a word to a server that may not answer

    @asynccontextmanager
    async def _connection(self, *, reads_only: bool = False) -> AsyncIterator[asyncpg.Connection]:
        with _outages_translated(_is_connection_failure):
            # The pool's own timeout would make a task of every acquisition.
            async with asyncio.timeout(self._settings.acquire_timeout_s):
                connection = await self._pool.acquire()
        try:
            with _outages_translated(partial(_is_outage, connection, reads_only=reads_only)):
                yield connection
        finally:
            await self._release(connection)

    async def _release(self, connection: asyncpg.Connection) -> None:
        """Return a connection to the pool, which resets it, or replaces it if it was lost.

        Errors are logged, and not raised: the transaction has ended by now, and an error would tell
        the caller that a committed transaction was rolled back.
        """
        try:
            await self._pool.release(connection)
        except _OUTAGES as error:
            _log_late_loss(error)
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
    """The arguments of `asyncpg.connect`."""
    address = {
        "host": settings.host,
        "port": settings.port,
        "database": settings.dbname,
        "user": settings.user,
        "password": settings.password or None,
        "timeout": settings.acquire_timeout_s,
    }
    if settings.embedded:
        # asyncpg reads the environment for each of these that is None.
        address |= {
            "password": "",
            "ssl": False,
            "direct_tls": False,
            "target_session_attrs": "any",
            "gsslib": "gssapi",
        }
    return address


def _session(name: str) -> dict[str, str]:
    """Settings of a session that must not depend on those of the login and the database."""
    return {"application_name": name, "jit": "off", "row_security": "on"}


async def _skip_reset(connection: asyncpg.Connection) -> None:
    """Leave a session as it is, which saves a round trip to the server.

    All settings and locks end with their transaction. asyncpg rolls back an open transaction before
    it calls this.
    """


def _is_outage(
    connection: asyncpg.Connection, error: Exception, *, reads_only: bool = False
) -> bool:
    """Whether an error in the use of a connection means that the database is away.

    Args:
        reads_only: the transaction is read-only, so that a write in it is misuse. A write that is
            refused in another transaction means a standby server or a read-only disk.
    """
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return not reads_only
    return isinstance(error, _OUTAGES) or (
        isinstance(error, _OUTAGES_OF_LOST_CONNECTIONS) and is_lost(connection)
    )


def _is_connection_failure(error: Exception) -> bool:
    return isinstance(error, _CONNECTION_FAILURES)


def _is_refusal(error: Exception) -> bool:
    """Whether an error means that no connection can be made, for whatever reason.

    A ValueError is about the address or the environment: a host that cannot be a name, a port or a
    mode of TLS in a variable that asyncpg reads.
    """
    return isinstance(error, (*_CONNECTION_FAILURES, asyncpg.PostgresError, ValueError))


@contextmanager
def _outages_translated(
    is_outage: Callable[[Exception], bool], *, committing: bool = False
) -> Iterator[None]:
    """Raise StoreUnavailableError in place of an outage; other errors pass."""
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
def _outages_as_config_errors(
    settings: DatabaseSettings, is_outage: Callable[[Exception], bool]
) -> Iterator[None]:
    """Raise ConfigError in place of an outage; other errors pass."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        raise ConfigError(f"{_name_of(settings)} cannot be used: {_words_of(error)}") from error


def _words_of(error: Exception) -> str:
    """The message of an error, its details and hint, in one line."""
    return "; ".join(str(error).splitlines()) or type(error).__name__


def _name_of(settings: DatabaseSettings) -> str:
    return f"the database {settings.dbname} at {settings.host}:{settings.port}"


async def _close(connection: asyncpg.Connection) -> None:
    """Close a connection after its use; a loss at this point is logged, and not raised."""
    try:
        await connection.close()
    except (*_OUTAGES, *_OUTAGES_OF_LOST_CONNECTIONS) as error:
        _log_late_loss(error)


def _log_late_loss(error: Exception) -> None:
    _logger.warning(
        "a database connection was lost after its use: %s: %s", type(error).__name__, error
    )


@asynccontextmanager
async def owner_connection(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Connection]:
    """A connection for reading as the owner of the tables: it sees all tenants, without timeout.

    Raises:
        ConfigError: the database cannot be reached, or the login does not own its tables.
        StoreUnavailableError: the connection was lost.
    """
    name = _name_of(settings)
    try:
        connection = await asyncpg.connect(
            **address_of(settings),
            server_settings=_session("facette command"),
        )
    except Exception as error:
        if not _is_refusal(error):
            raise
        raise ConfigError(f"{name} cannot be used: {_words_of(error)}") from error
    try:
        await use_schemas(connection)
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(f"{name} does not let {settings.user} read it: {error}") from error
    except Exception as error:
        if not _is_outage(connection, error, reads_only=True):
            raise
        raise StoreUnavailableError(f"{name} does not answer any more; try again.") from error
    finally:
        await _close(connection)
