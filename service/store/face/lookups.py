"""Ids and rows that may not exist, as errors."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from service.domain.errors import NotFoundError


def found(row: asyncpg.Record | None, kind: str) -> asyncpg.Record:
    """The row.

    Raises:
        NotFoundError: there is no row.
    """
    if row is None:
        raise NotFoundError(kind)
    return row


def known_uuid(value: str, kind: str) -> UUID:
    """Parse an id. Ids are opaque to callers, so a malformed one is an id that does not exist.

    So is another spelling of an id: a gateway that authorises by ids compares them as text.

    Raises:
        NotFoundError: the text is no UUID.
    """
    try:
        found = UUID(value)
    except ValueError:
        raise NotFoundError(kind) from None
    if str(found) != value:
        raise NotFoundError(kind)
    return found
