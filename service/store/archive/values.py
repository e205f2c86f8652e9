"""The readers of columns in an archive, which accept only values that the service stores.

A column is in PostgreSQL's COPY text format. Its reader returns the value for the database driver,
and raises a ValueError for an invalid column.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Set
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import numpy as np
import orjson
from pgvector import HalfVector

from service.domain.decisions import DecisionKind
from service.domain.names import MAX_NAME_LENGTH, is_name
from service.domain.people import MAX_LABEL_LENGTH, MAX_METADATA_BYTES, clean_label
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
_FIRST_YEAR, _FIRST_YEAR_OF_PHOTOS, _YEAR_AFTER_LAST = 1970, 1900, 2200
_LARGEST_INTEGER = 2**31 - 1
_LARGEST_BIGINT = 2**63 - 1
_LARGEST_VERSION = 2**53 - 1
_LARGEST_REAL = 1e9
"""Limit on coordinates, in pixels, and on other measurements."""
_LONGEST_FACTS = 4096
_LONGEST_SPACE = 200
# The database writes numbers without exponents: 5e-324 becomes 326 characters.
_LONGEST_METADATA = 64 * MAX_METADATA_BYTES
_LONGEST_WITHOUT_EXPONENT = 16
_MOST_REASONS = 16
_FACTS = frozenset(each.name for each in fields(FaceQuality)) - {"score"}
_BYTES_PER_NUMBER = 2
_LONGEST_VECTOR = 4 * math.ceil(MOST_DIMENSIONS * _BYTES_PER_NUMBER / 3)
# pgvector sends the dimension of a vector, and two unused bytes before its components.
_UNUSED = bytes(2)


def time(column: bytes, first_year: int = _FIRST_YEAR) -> datetime:
    """A UTC time from the first year to 2199."""
    match = _TIME.fullmatch(column)
    if match is None:
        raise ValueError("a time is malformed")
    *whole, fraction = match.groups(default=b"")
    year, month, day, hour, minute, second = map(int, whole)
    microsecond = int(fraction.ljust(6, b"0"))
    found = datetime(year, month, day, hour, minute, second, microsecond, UTC)
    if not first_year <= found.year < _YEAR_AFTER_LAST:
        raise ValueError(f"a time is not between {first_year} and {_YEAR_AFTER_LAST - 1}")
    return found


def _time_of_photo(column: bytes) -> datetime:
    return time(column, _FIRST_YEAR_OF_PHOTOS)


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


def _word(words: Set[str]) -> Reader:
    def read(column: bytes) -> str:
        word = column.decode("ascii")
        if word not in words:
            raise ValueError(f"a word is none of {', '.join(sorted(words))}")
        return word

    return read


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


def _text(column: bytes, what: str, longest: int) -> str:
    if len(column) > 2 * 4 * longest:  # the longest encoding: each byte of four escaped
        raise ValueError(f"{what} is too long")
    return unescape(column)


def _space(column: bytes) -> str:
    text = _text(column, "the name of a model", _LONGEST_SPACE)
    if not 0 < len(text) <= _LONGEST_SPACE or "\0" in text:
        raise ValueError("the name of a model is empty or too long")
    return text


def _label(column: bytes) -> str:
    text = _text(column, "a label", MAX_LABEL_LENGTH)
    if clean_label(text) != text:
        raise ValueError("a label is not one that the service stores")
    return text


def _external_id(column: bytes) -> str:
    text = _text(column, "an external id", MAX_NAME_LENGTH)
    if not is_name(text):
        raise ValueError("an external id is not one that the service stores")
    return text


def _metadata(column: bytes) -> str:
    """JSON text of an object of at most `MAX_METADATA_BYTES`, as the API counts them."""
    if len(column) > _LONGEST_METADATA:
        raise ValueError("the metadata of a person are too long")
    try:
        found = json.loads(
            unescape(column), parse_int=_whole_of_json, parse_float=_finite, parse_constant=_finite
        )
        encoded = orjson.dumps(found)
    except (json.JSONDecodeError, RecursionError, TypeError):
        # orjson raises TypeError for a lone surrogate, a number of 65 bits and deep nesting.
        raise ValueError("the metadata of a person cannot be stored") from None
    if not isinstance(found, dict):
        raise ValueError("the metadata of a person are no object")
    if len(encoded) > MAX_METADATA_BYTES or b"\\u0000" in encoded:
        raise ValueError("the metadata of a person are too long, or have the character U+0000")
    return encoded.decode()


def _whole_of_json(digits: str) -> int | float:
    """A whole number in its shorter notation: the database writes 1e300 with 301 digits."""
    if len(digits) <= _LONGEST_WITHOUT_EXPONENT:
        return int(digits)
    real = _finite(digits)
    whole = int(digits)
    is_real = Decimal(repr(real)) == whole and len(repr(real)) < len(digits)
    return real if is_real else whole


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number of the metadata is not finite")
    return number


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
        "taken_at": _or_null(_time_of_photo),
        "orientation": _whole(1, 8),
        "latitude": _or_null(_real(-90, 90)),
        "longitude": _or_null(_real(-180, 180)),
    },
    "clusters": {
        "cluster_id": _uuid,
        "created_at": time,
        "label": _or_null(_label),
        "external_id": _or_null(_external_id),
        "metadata": _metadata,
        "hidden": _boolean,
        "version": _whole(1, _LARGEST_VERSION),
        "last_face_at": time,
        "cover_face_id": _or_null(_uuid),
    },
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
        "kind": _word({"new_person", "same_person", "weak_match", "odd_face"}),
        "face_id": _or_null(_uuid),
        "other_cluster_id": _or_null(_uuid),
        "distance": _or_null(_COORDINATE),
        "other_distance": _or_null(_COORDINATE),
        "similarity": _or_null(_real(0, 1)),
        "faces": _whole(0, _LARGEST_INTEGER),
        "chance": _real(0, 1),
        "put_off": _boolean,
    },
    "merges": {"cluster_id": _uuid, "merged_into": _uuid, "merged_at": time},
    "decisions": {"decision_id": _uuid, "kind": _word(set(DecisionKind)), "decided_at": time},
    "decision_faces": {
        "decision_id": _uuid,
        "face_id": _uuid,
        "side": _whole(0, 1),
        "is_claim": _boolean,
    },
}
"""The reader of each column of each kind of rows."""
