"""The parameters in a JSON body, read strictly: one flat object, UTF-8, and each name once.

A photo in it is base64 text of many megabytes. That one string is cut out before the rest, which is
small, is parsed: neither text nor structures as large as a photo come into memory.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

from starlette.datastructures import UploadFile

from service.api.forms import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_PLAIN_BODY_BYTES,
    Field,
    MalformedBodyError,
    once,
)
from service.api.image_bytes import (
    HOW_TO_SEND,
    IMAGE,
    MEMORY_BYTES,
    PIECE_BYTES,
    decode_base64,
    decode_text,
    json_string,
)
from service.domain.errors import BodyTooLargeError, ParameterError

_Document = bytes | mmap.mmap
_SHAPE: Final = (
    "The JSON in the request body must be one object of parameters, whose values are strings or "
    f"whole numbers. {HOW_TO_SEND}"
)


def parse_json(body: UploadFile) -> list[tuple[str, Field]]:
    """The fields of a JSON body, in order; `image` is decoded into a file that the caller closes.

    Raises:
        MalformedBodyError: the body is not one flat object in JSON, or not UTF-8.
        ParameterError: a name occurs twice, a value is of another type, or the image is not base64.
        BodyTooLargeError: the body is too long for one without its image.
    """
    with _document(body) as data:
        cut = None if len(data) <= MAX_FIELD_BYTES else _cut(data)
        pairs = _parsed(bytes(data) if cut is None else cut.rest)
        fields: dict[str, Field] = {**once(pairs)}
        if cut is not None and cut.span is not None and fields.get(IMAGE) != cut.mark:
            raise MalformedBodyError(
                f"A text in the JSON body is longer than {MAX_FIELD_BYTES} bytes; only '{IMAGE}' "
                "may be."
            )
        if IMAGE in fields:
            if cut is not None and cut.span is not None:
                fields[IMAGE] = decode_base64(json_string(data, *cut.span))
            else:
                fields[IMAGE] = decode_text(str(fields[IMAGE]))
    return list(fields.items())


class _Cut:
    """A document without its long string.

    rest: the document with `mark` in the place of the string.
    span: where the string begins and ends, without its quotes; None where there is none.
    """

    def __init__(self) -> None:
        self.rest = b""
        self.span: tuple[int, int] | None = None
        # Nobody can send this text in another place.
        self.mark = uuid4().hex


def _cut(data: _Document) -> _Cut:
    cut, rest, position, size = _Cut(), [], 0, 0
    while (start := _find_quote(data, position)) >= 0:
        end = _end_of_string(data, start + 1)
        if end - start <= MAX_FIELD_BYTES:
            piece = (position, end + 1)
        elif cut.span is None:
            piece = (position, start)
            cut.span = (start + 1, end)
        else:
            raise MalformedBodyError(
                f"Only one text in the JSON body may be longer than {MAX_FIELD_BYTES} bytes."
            )
        size += piece[1] - piece[0]
        _check_size(size)
        rest.append(data[slice(*piece)])
        if piece[1] == start:
            rest.append(b'"%s"' % cut.mark.encode())
        position = end + 1
    _check_size(size + len(data) - position)
    cut.rest = b"".join([*rest, data[position : len(data)]])
    return cut


def _end_of_string(data: _Document, start: int) -> int:
    """Where the closing quote of a string is.

    A long string may have no escaped quote: base64 has none, and looking at each would take long.
    """
    position = start
    while (end := _find_quote(data, position)) >= 0:
        first = end
        while first > start and data[first - 1 : first] == b"\\":
            first -= 1
            if end - first > MAX_FIELD_BYTES:
                raise MalformedBodyError(_SHAPE)
        if (end - first) % 2 == 0:
            return end
        if end - start > MAX_FIELD_BYTES:
            break
        position = end + 1
    raise MalformedBodyError(_SHAPE)


def _find_quote(data: _Document, position: int) -> int:
    """The next quote; other threads run between two pieces of the search."""
    for start in range(position, len(data), PIECE_BYTES):
        if (found := data.find(b'"', start, start + PIECE_BYTES)) >= 0:
            return found
    return -1


def _check_size(size: int) -> None:
    if size > MAX_PLAIN_BODY_BYTES:
        raise BodyTooLargeError(MAX_PLAIN_BODY_BYTES, of="that a body may have beside its photo")


class _Object(list[tuple[str, object]]):
    """The pairs of an object, in order, duplicates included."""


def _parsed(data: bytes) -> Sequence[tuple[str, str]]:
    try:
        # Whole numbers keep their spelling: the rule for numbers is that of the query string.
        found = json.loads(data.decode(), object_pairs_hook=_Object, parse_int=str)
    except UnicodeDecodeError:
        raise MalformedBodyError("The text in the request body must be UTF-8.") from None
    except (ValueError, RecursionError):
        raise MalformedBodyError(f"The request body is not valid JSON. {HOW_TO_SEND}") from None
    if not isinstance(found, _Object) or len(found) > MAX_FIELDS:
        raise MalformedBodyError(_SHAPE)
    return [(_utf_8(name), _value(name, value)) for name, value in found]


def _value(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ParameterError(
            name, f"The parameter '{name[:64]}' must be a string or a whole number in JSON."
        )
    if name != IMAGE and len(value) > MAX_FIELD_BYTES:
        raise MalformedBodyError(_SHAPE)
    return _utf_8(value)


def _utf_8(text: str) -> str:
    """The text, unless an escape makes half of a surrogate pair of it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedBodyError("The text in the request body must be UTF-8.") from None
    return text


@contextmanager
def _document(body: UploadFile) -> Iterator[_Document]:
    if (body.size or 0) <= MEMORY_BYTES:
        body.file.seek(0)
        yield body.file.read()
        return
    body.file.flush()
    with mmap.mmap(body.file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data
