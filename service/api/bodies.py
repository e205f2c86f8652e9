"""The body of a request, in every form in which clients send a photo or parameters.

A body whose type says neither image nor form is an image if its first bytes do: many clients send a
photo without a type, as text, or as a form that it is not. For a body that is declared as a form
this stays unambiguous, because one is refused in which a reader of forms would find a parameter
that the service takes from elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import unquote_plus

from starlette.datastructures import Headers, UploadFile

from service.api.forms import (
    MAX_FIELD_BYTES,
    MAX_PLAIN_BODY_BYTES,
    Field,
    MalformedBodyError,
    is_base64_part,
    is_text_part,
    once,
    parse_multipart,
    parse_urlencoded,
)
from service.api.image_bytes import (
    HOW_TO_SEND,
    IMAGE,
    decode_file,
    decode_text,
    is_base64,
    spool,
)
from service.api.intake import Intake
from service.api.json_body import parse_json
from service.domain.image_files import HEAD_BYTES, is_image

_Result = TypeVar("_Result")

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_MULTIPART: Final = "multipart/form-data"
_IMAGE_TYPES: Final = ("image/", "application/octet-stream", "binary/octet-stream")
# A gateway that decompresses a body would read another one.
_COMPRESSIONS: Final = ("gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress")
_UTF_8: Final = re.compile(r';\s*charset\s*=\s*"?(?!utf-?8\b)', re.IGNORECASE)
# A name in a form: percent-encoded, and much shorter than the bytes that are kept of each piece.
_NAME_IN_FORM: Final = re.compile(rb"(?:^|[&;])((?:[\w.+-]|%[0-9a-fA-F]{2}){1,64})=")
_KEPT_BYTES: Final = 256


@dataclass(slots=True)
class Body:
    """What a body holds.

    fields: the fields of a form or a JSON object, by name.
    image: the body itself, where it is an image.
    unread: why nothing was read of the body; empty where something was, or the body is empty.
    """

    fields: dict[str, Field] = field(default_factory=dict)
    image: UploadFile | None = None
    unread: str = ""

    async def close(self) -> None:
        """Remove the files."""
        for each in (self.image, *self.fields.values()):
            if isinstance(each, UploadFile):
                await each.close()


async def read_body(intake: Intake, headers: Headers, query: Mapping[str, str]) -> Body:
    """Read the body of a request; the caller closes it.

    Args:
        query: parameters of the query string.

    Raises:
        MalformedBodyError: the body cannot be parsed, or can be read in two ways.
        ParameterError: a parameter occurs twice, or is not what it should be.
        BodyTooLargeError: the body is longer than the limit for its kind.
    """
    content_types = headers.getlist("content-type")
    if len(content_types) > 1:
        raise MalformedBodyError("The request body must have one Content-Type.")
    content_type = content_types[0] if content_types else ""
    kind = content_type.partition(";")[0].strip().lower()
    is_declared_image = kind.startswith(_IMAGE_TYPES)
    coding = headers.get("content-encoding", "").strip().lower()
    if coding in _COMPRESSIONS:
        raise MalformedBodyError(
            f"The body is compressed ('Content-Encoding: {coding}'), which is not supported."
        )
    is_empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if is_empty and not is_declared_image:
        return Body()
    async with aclosing(intake.pieces()) as pieces:
        if is_declared_image:
            return Body(image=await _spooled(pieces))
        if kind == _MULTIPART:
            return await _multipart(content_type, pieces)
        if kind.startswith("multipart/"):
            raise MalformedBodyError(f"The body must be of type {_MULTIPART}. {HOW_TO_SEND}")
        if kind == _JSON:
            return await _json(content_type, pieces)
        return await _by_first_bytes(kind, pieces, intake, {*query, IMAGE, "tenant_id"})


async def _multipart(content_type: str, pieces: AsyncGenerator[bytes, None]) -> Body:
    fields = await parse_multipart(content_type, pieces)
    try:
        found = once(fields)
        part = found.get(IMAGE)
        if isinstance(part, UploadFile) and await _is_encoded(part):
            found[IMAGE] = await _replaced(part, decode_file)
    except BaseException:
        for _, value in fields:
            if isinstance(value, UploadFile):
                await value.close()
        raise
    return Body(found)


async def _is_encoded(part: UploadFile) -> bool:
    """Whether a part is an image in base64, by its header or its text."""
    if is_base64_part(part):
        return True
    if not is_text_part(part) or not part.size:
        return False
    await part.seek(0)
    head = await part.read(HEAD_BYTES)
    return not is_image(head) and is_base64(head)


async def _json(content_type: str, pieces: AsyncGenerator[bytes, None]) -> Body:
    if _UTF_8.search(content_type):
        raise MalformedBodyError("The text in the request body must be UTF-8.")
    text = await _spooled(pieces)
    try:
        return Body(fields=dict(await _off_loop(text, parse_json)))
    finally:
        await text.close()


async def _by_first_bytes(
    kind: str,
    pieces: AsyncGenerator[bytes, None],
    intake: Intake,
    names: Collection[str],
) -> Body:
    """An image, by its first bytes; a form, if the type says so; else nothing.

    Args:
        names: parameters that a reader of forms must not find in an image.
    """
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    if is_image(head):
        check = _FormCheck(names).check if kind == _FORM else None
        return Body(image=await _spooled(pieces, head, check))
    intake.limit(MAX_PLAIN_BODY_BYTES, of=f"of a body without a photo. {HOW_TO_SEND}")
    rest = [head, *[piece async for piece in pieces]]
    if kind != _FORM:
        return Body(unread=_unread(kind)) if head else Body()
    fields: dict[str, Field] = {**once(parse_urlencoded(b"".join(rest)))}
    if image := fields.get(IMAGE):
        # A blank was a '+' that the client did not encode.
        text = str(image)
        fields[IMAGE] = decode_text("?" if " " in text else text)
    return Body(fields)


def _unread(kind: str) -> str:
    what = f"is of type {kind[:64]}" if kind else "has no Content-Type"
    return f"The body {what}, and its first bytes are not those of an image. {HOW_TO_SEND}"


async def _spooled(
    pieces: AsyncGenerator[bytes, None],
    head: bytes = b"",
    check: Callable[[bytes], None] | None = None,
) -> UploadFile:
    file = spool()
    try:
        if check is not None:
            check(head)
        await file.write(head)
        async for piece in pieces:
            if check is not None:
                check(piece)
            await file.write(piece)
        await file.seek(0)  # writes what is buffered: a full disk shows now
    except BaseException:
        await file.close()
        raise
    return file


class _FormCheck:
    """Refuses an image in which a reader of forms would find one of some names."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._last = b""

    def check(self, piece: bytes) -> None:
        """Look at a further piece.

        Raises:
            MalformedBodyError: there is one of the names.
        """
        text = self._last + piece
        for found in _NAME_IN_FORM.finditer(text):
            if unquote_plus(found[1].decode("ascii")) in self._names:
                raise MalformedBodyError(
                    f"The body is an image and, by its type {_FORM}, also a form with parameters. "
                    "Send it with the type of the image."
                )
        self._last = text[-_KEPT_BYTES:]


async def _replaced(file: UploadFile, decode: Callable[[UploadFile], UploadFile]) -> UploadFile:
    """What is decoded of a file, which is closed."""
    try:
        return await _off_loop(file, decode)
    finally:
        await file.close()


async def _off_loop(file: UploadFile, work: Callable[[UploadFile], _Result]) -> _Result:
    """Do work on a file; in a thread, unless the file is small."""
    if (file.size or 0) <= MAX_FIELD_BYTES:
        return work(file)
    return await asyncio.to_thread(work, file)
