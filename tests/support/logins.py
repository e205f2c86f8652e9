"""Logins of a test's database besides the superuser."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path

import asyncpg

from service.store.database.database import DatabaseSettings


async def connect(settings: DatabaseSettings) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=settings.host, port=settings.port, user=settings.user, database=settings.dbname
    )


async def let_in(admin: asyncpg.Connection, settings: DatabaseSettings) -> None:
    """Let this process's account be a login: an embedded server lets it be the superuser alone."""
    users = Path(await admin.fetchval("SHOW ident_file"))
    account = pwd.getpwuid(os.geteuid()).pw_name
    known = await asyncio.to_thread(users.read_text)
    await asyncio.to_thread(users.write_text, f'{known}facette "{account}" {settings.user}\n')
    await admin.execute("SELECT pg_reload_conf()")
    while True:
        try:
            connection = await connect(settings)
        except asyncpg.InvalidAuthorizationSpecificationError:
            await asyncio.sleep(0.01)  # the server reads the file when it comes to it
        else:
            await connection.close()
            return
