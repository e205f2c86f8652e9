"""Cursors: where the next page of a list begins, as opaque text.

A cursor belongs to one list: the same path and the same filters. It holds a position, which names
nothing that the caller may not see; a checksum tells one that was changed from one that was given.
The checksum is no secret, so whatever a cursor holds is a value that the database can look for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson

from service.domain.errors import ParameterError

_CHECK_BYTES = 8
_BEYOND_INT64 = 2**63


class CursorError(ParameterError):
    """The cursor is none of this list."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        super().__init__("cursor", "The cursor is none that this list gave.")


def encode_cursor(of_list: str, *values: object) -> str:
    """The cursor of a position.

    Args:
        of_list: the list with its filters.
        values: whole numbers, texts, UUIDs and times.
    """
    data = orjson.dumps(values)
    return base64.urlsafe_b64encode(_check(of_list, data) + data).decode().rstrip("=")


def decode_cursor(
    cursor: str, of_list: str, kinds: Sequence[type[int] | type[str] | type[UUID] | type[datetime]]
) -> list[int | str | UUID | datetime]:
    """The position in a cursor.

    Args:
        kinds: of its values.

    Raises:
        CursorError: it is none of this list.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, data = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if check != _check(of_list, data):
            raise CursorError
        values = orjson.loads(data)
        return [_value(value, kind) for value, kind in zip(values, kinds, strict=True)]
    except (binascii.Error, ValueError, TypeError, OverflowError):
        raise CursorError from None


def _check(of_list: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=hashlib.sha256(of_list.encode()).digest()).digest()[
        :_CHECK_BYTES
    ]


def _value(
    value: object, kind: type[int] | type[str] | type[UUID] | type[datetime]
) -> int | str | UUID | datetime:
    if kind is UUID and isinstance(value, str):
        return UUID(value)
    if kind is datetime and isinstance(value, str):
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    if kind is int and type(value) is int and -_BEYOND_INT64 <= value < _BEYOND_INT64:
        return value
    if kind is str and isinstance(value, str) and "\0" not in value:
        return value
    raise ValueError("a value of another kind")
