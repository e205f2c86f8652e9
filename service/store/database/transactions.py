"""A transaction on one connection, which may break in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import asyncpg

BEGIN = "BEGIN"
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""Begins reads that all see what the first of them sees."""


@asynccontextmanager
async def in_transaction(
    connection: asyncpg.Connection,
    committing: Callable[[], AbstractContextManager[None]] = nullcontext,
    *,
    begin: str = BEGIN,
) -> AsyncIterator[None]:
    """Run the block in a transaction: commit at its end, roll back where it raises.

    An error of the block passes through as it is. asyncpg's own context would replace it by the
    error of the rollback where the connection broke, and cannot be used inside the block.

    Args:
        committing: context of the commit alone.
        begin: what begins the transaction; statements without arguments may follow in it.
    """
    try:
        await connection.execute(begin)
        yield
    except BaseException:
        if not is_lost(connection):
            await connection.execute("ROLLBACK")
        raise
    with committing():
        await connection.execute("COMMIT")


def is_lost(connection: asyncpg.Connection) -> bool:
    """Whether a connection that was not given back yet is closed."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # the pool took it back as it closed
        return True
