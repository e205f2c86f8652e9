"""The readers of columns in an archive, which accept only values that the service stores.

A column is in PostgreSQL's COPY text format. Its reader returns the value for the database driver,
and raises a ValueError for an invalid column.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
from pgvector import HalfVector

from service.domain.types import FaceQuality
from service.store.archive.format import LARGEST_REVIEW_ID, SUFFIX, unescape

Reader = Callable[[bytes], Any]

MOST_DIMENSIONS: Final = 16_000
"""The limit of pgvector for half-precision vectors."""

_NULL = b"\\N"
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WHOLE = re.compile(rb"-?[0-9]{1,19}")
_REAL = re.compile(rb"-?[0-9]{1,50}(?:\.[0-9]{1,50})?(?:e[+-]?[0-9]{1,3})?")
_TIME = re.compile(rb"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?\+00")
_HEX = re.compile(rb"[0-9a-f]+")
_REASON = re.compile("[a-z_]{1,32}")
_FIRST_YEAR, _YEAR_AFTER_LAST = 1970, 2200
_LARGEST_INTEGER = 2**31 - 1
_LARGEST_BIGINT = 2**63 - 1
_LARGEST_REAL = 1e9
"""Limit on coordinates, in pixels, and on other measurements."""
_LONGEST_FACTS = 4096
_LONGEST_SPACE = 200
_MOST_REASONS = 16
_FACTS = frozenset(each.name for each in fields(FaceQuality)) - {"score"}
_BYTES_PER_NUMBER = 2
_LONGEST_VECTOR = 4 * math.ceil(MOST_DIMENSIONS * _BYTES_PER_NUMBER / 3)
# pgvector sends the dimension of a vector, and two unused bytes before its components.
_UNUSED = bytes(2)


def time(column: bytes) -> datetime:
    """A UTC time from 1970 to 2199."""
    match = _TIME.fullmatch(column)
    if match is None:
        raise ValueError("a time is malformed")
    *whole, fraction = match.groups(default=b"")
    year, month, day, hour, minute, second = map(int, whole)
    microsecond = int(fraction.ljust(6, b"0"))
    found = datetime(year, month, day, hour, minute, second, microsecond, UTC)
    if not _FIRST_YEAR <= found.year < _YEAR_AFTER_LAST:
        raise ValueError("a time is not between 1970 and 2199")
    return found


def _uuid(column: bytes) -> UUID:
    if not _UUID.fullmatch(column):
        raise ValueError("an id is no UUID")
    return UUID(column.decode("ascii"))


def _or_null(read: Reader) -> Reader:
    return lambda column: None if column == _NULL else read(column)


def _whole(low: int, high: int) -> Reader:
    def read(column: bytes) -> int:
        if not _WHOLE.fullmatch(column) or not low <= int(column) <= high:
            raise ValueError(f"a number is malformed, or not between {low} and {high}")
        return int(column)

    return read


def _turned(column: bytes) -> int:
    if column not in (b"0", b"90", b"180", b"270"):
        raise ValueError("an angle is none of 0, 90, 180, 270")
    return int(column)


def _real(low: float, high: float) -> Reader:
    def read(column: bytes) -> float:
        # The pattern and the bounds both exclude NaN and infinity.
        if not _REAL.fullmatch(column) or not low <= float(column) <= high:
            raise ValueError(f"a number is malformed, or not between {low:g} and {high:g}")
        return float(column)

    return read


def _array(count: int, read: Reader) -> Reader:
    def read_all(column: bytes) -> list[Any]:
        if not (column.startswith(b"{") and column.endswith(b"}")):
            raise ValueError("a list is malformed")
        # A bounded split: a column may be megabytes of commas.
        parts = column[1:-1].split(b",", count)
        if len(parts) != count:
            raise ValueError(f"a list does not have {count} numbers")
        return [read(part) for part in parts]

    return read_all


def _area(column: bytes) -> list[int]:
    x, y, width, height = _array(4, _whole(0, _LARGEST_INTEGER))(column)
    if not (width and height):
        raise ValueError("an area is empty")
    return [x, y, width, height]


def _boolean(column: bytes) -> bool:
    if column not in (b"t", b"f"):
        raise ValueError("a boolean is neither t nor f")
    return column == b"t"


def _hex(digits: int) -> Reader:
    def read(column: bytes) -> str:
        if len(column) != digits or not _HEX.fullmatch(column):
            raise ValueError(f"a hash does not have {digits} hexadecimal digits")
        return column.decode("ascii")

    return read


def _suffix(column: bytes) -> str:
    if not SUFFIX.fullmatch(column):
        raise ValueError("the name of a format is malformed")
    return column.decode("ascii")


def _space(column: bytes) -> str:
    if len(column) > 2 * 4 * _LONGEST_SPACE:  # the longest encoding: each byte of four escaped
        raise ValueError("the name of a model is too long")
    text = unescape(column)
    if not 0 < len(text) <= _LONGEST_SPACE or "\0" in text:
        raise ValueError("the name of a model is empty or too long")
    return text


def _facts(column: bytes) -> str:
    """JSON text with the fields of `render_quality_facts`, and no others."""
    if len(column) > _LONGEST_FACTS:
        raise ValueError("the quality of a face is too long")
    text = unescape(column)
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict) or found.keys() != _FACTS:
        raise ValueError("the quality of a face has other fields")
    reasons = found.pop("reasons")
    if not (
        isinstance(reasons, list)
        and len(reasons) <= _MOST_REASONS
        and all(isinstance(each, str) and _REASON.fullmatch(each) for each in reasons)
    ):
        raise ValueError("the reasons of a quality are not a list of words")
    for number in found.values():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError("a quality of a face is no number")
        if not abs(number) <= _LARGEST_REAL:  # NaN fails the comparison, too
            raise ValueError("a quality of a face is no number")
    return text


def _vector(column: bytes) -> HalfVector:
    if len(column) > _LONGEST_VECTOR:
        raise ValueError(f"a vector has more than {MOST_DIMENSIONS} numbers")
    data = base64.b64decode(column, validate=True)
    count = len(data) // _BYTES_PER_NUMBER
    if not 0 < count <= MOST_DIMENSIONS or len(data) != count * _BYTES_PER_NUMBER:
        raise ValueError(f"a vector does not have 1 to {MOST_DIMENSIONS} numbers")
    numbers = np.frombuffer(data, ">f2")
    if not np.isfinite(numbers).all():
        raise ValueError("a vector has NaN or infinity")
    if not numbers.any():
        raise ValueError("a vector is zero")
    return HalfVector.from_binary(count.to_bytes(2, "big") + _UNUSED + data)


_COORDINATE = _real(-_LARGEST_REAL, _LARGEST_REAL)

READERS: Final[dict[str, dict[str, Reader]]] = {
    "images": {
        "image_id": _uuid,
        "photo_suffix": _or_null(_suffix),
        "format": _suffix,
        "width": _whole(1, _LARGEST_INTEGER),
        "height": _whole(1, _LARGEST_INTEGER),
        "size_bytes": _whole(1, _LARGEST_BIGINT),
        "sha256": _hex(64),
        "phash": _hex(16),
        "created_at": time,
        "turned": _turned,
    },
    "clusters": {"cluster_id": _uuid, "created_at": time},
    "faces": {
        "face_id": _uuid,
        "image_id": _uuid,
        "cluster_id": _uuid,
        "box": _array(4, _COORDINATE),
        "landmarks": _array(10, _COORDINATE),
        "area": _area,
        "confidence": _real(0, 1),
        "is_auto_matched": _boolean,
        "distance": _or_null(_COORDINATE),
        "quality": _or_null(_real(0, 1)),
        "quality_facts": _or_null(_facts),
        "is_matchable": _boolean,
    },
    "vectors": {"face_id": _uuid, "model_space": _space, "embedding": _vector},
    "reviews": {
        "review_id": _whole(1, LARGEST_REVIEW_ID),
        "cluster_id": _uuid,
        "created_at": time,
    },
}
"""The reader of each column of each kind of rows."""
