"""A connection of the tables' owner to a database that may be of any schema, or of none yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from service.domain.errors import ConfigError, StoreUnavailableError
from service.store.database import DatabaseSettings, address_of

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
