"""The database role of the service, to which row-level security shows one tenant at a time."""

from __future__ import annotations

import asyncpg

from service.domain.errors import ConfigError
from service.store.database.statements import SQL

SERVICE_ROLE = "facette_service"


async def prepare_service_role(connection: asyncpg.Connection) -> None:
    """Create the role if it is missing, and grant its privileges.

    The login owns the tables, and row-level security does not apply to the owner. The role owns no
    table, and the service switches to it.

    Raises:
        ConfigError: the login can neither create nor become the role, or row-level security does
            not apply to the role.
    """
    try:
        if not await connection.fetchval(SQL["service_role_exists"]):
            await _create(connection)
        await _grant(connection)
        async with connection.transaction():
            await connection.execute(SQL["become_service_role"])
    except asyncpg.InsufficientPrivilegeError:
        login = await connection.fetchval(SQL["login"])
        raise ConfigError(
            f"the database login {login} can neither create nor become the role {SERVICE_ROLE}, "
            "which keeps tenants apart; let an administrator run once: "
            f"CREATE ROLE {SERVICE_ROLE} NOLOGIN NOINHERIT; GRANT {SERVICE_ROLE} TO {login};"
        ) from None
    if await connection.fetchval(SQL["service_role_bypasses"]):
        raise ConfigError(
            f"the database role {SERVICE_ROLE} must not be a superuser, have BYPASSRLS or own "
            "tables: row-level security would not apply to it"
        )

    if bound := await connection.fetchval(SQL["tables_that_bind_login"]):
        login = await connection.fetchval(SQL["login"])
        raise ConfigError(
            f"row-level security hides rows of {bound} from the database login {login}, which must "
            "own the tables and must not be bound by FORCE ROW LEVEL SECURITY"
        )


async def _grant(connection: asyncpg.Connection) -> None:
    """Grant the privileges that the role lacks.

    Raises:
        ConfigError: the login may not grant them.
    """
    needed = [row["statement"] for row in await connection.fetch(SQL["missing_grants"])]
    for statement in needed:
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            break
    # Without the right to grant, some statements have a warning for a result.
    if missing := [row["statement"] for row in await connection.fetch(SQL["missing_grants"])]:
        raise ConfigError(
            f"the database role {SERVICE_ROLE} lacks privileges that this login may not grant; let "
            f"an administrator run once: {'; '.join(missing)}"
        )


async def _create(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute(SQL["create_service_role"])
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return  # another service on this server has just created it
    await connection.execute(SQL["grant_service_role"])
