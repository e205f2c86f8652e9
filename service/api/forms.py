"""The query string and the form of a request, read strictly: UTF-8, and each name once.

Text that is not UTF-8 is refused. Replacing it by U+FFFD would make two names equal. A name with
two values is refused as well: a gateway might authorise one value, and the service use the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.domain.errors import InputError, ParameterError

Field = str | UploadFile
_Field = TypeVar("_Field", bound=Field)

_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 64 * 1024
_CHARSETS = (b"utf-8", b"utf8")
# Charsets of a part that many clients name for any text. ASCII is the same in all of them.
_LIKE_ASCII = (b"us-ascii", b"iso-8859-1", b"windows-1252")
_UNCHANGED = (b"7bit", b"8bit", b"binary")
# RFC 7578, section 4.6: a field that says how the text of all others is encoded.
_CHARSET_FIELD = "_charset_"
# A parameter of a header, also as RFC 2231 extends it.
_PARAMETER = rb";[ \t]*%s[ \t]*(?:\*[^=;]*)?="
_NAME = re.compile(_PARAMETER % rb"name", re.IGNORECASE)
_BOUNDARY = re.compile(_PARAMETER % rb"boundary", re.IGNORECASE)
_CHARSET = re.compile(_PARAMETER % rb"charset", re.IGNORECASE)
# Error messages repeat at most this many characters of a name.
_SHOWN = 64


class MalformedBodyError(InputError):
    """The form in the body does not parse."""

    code = "malformed_body"


def parse_query(query: bytes) -> dict[str, str]:
    """The parameters of an undecoded query string.

    Raises:
        ParameterError: the query string is not UTF-8, or has a parameter twice.
    """
    try:
        return once(map(_pair, _fields(query)))
    except UnicodeDecodeError:
        raise ParameterError("query", "The query string must be percent-encoded UTF-8.") from None


async def read_form(request: Request) -> FormData:
    """The fields of the form in a request body, in order; empty for a body of another type.

    The caller closes the form, which removes uploaded files.

    Raises:
        MalformedBodyError: the form cannot be parsed, or its text is not UTF-8.
    """
    head = request.headers.get("content-type", "").encode("latin-1")
    content_type, options = parse_options_header(head)
    try:
        if content_type == b"multipart/form-data":
            if len(_BOUNDARY.findall(head)) > 1 or len(_CHARSET.findall(head)) > 1:
                raise _unparsable()
            return await _multipart(request, options)
        if content_type == b"application/x-www-form-urlencoded":
            return _urlencoded(await request.body())
    except UnicodeDecodeError:
        raise MalformedBodyError("The text in the request body must be UTF-8.") from None
    except (MultiPartException, FormParserError) as error:
        raise _unparsable() from error
    return FormData()


def once(fields: Iterable[tuple[str, _Field]]) -> dict[str, _Field]:
    """The fields by name.

    Raises:
        ParameterError: a name occurs twice.
    """
    found: dict[str, _Field] = {}
    for name, value in fields:
        if name in found:
            raise ParameterError(name, f"The parameter '{name[:_SHOWN]}' was given twice.")
        found[name] = value
    return found


def merge(query: Mapping[str, str], form: Mapping[str, Field]) -> dict[str, Field]:
    """The parameters of the query string and the form.

    Raises:
        ParameterError: a name has different values in them.
    """
    for name, value in form.items():
        if query.get(name, value) != value:
            raise ParameterError(
                name,
                f"The parameter '{name[:_SHOWN]}' has one value in the query string and another "
                "in the body.",
            )
    return {**query, **form}


def _unparsable() -> MalformedBodyError:
    return MalformedBodyError("The form in the request body cannot be parsed.")


def _urlencoded(body: bytes) -> FormData:
    fields = _fields(body)
    if len(fields) > _MAX_FIELDS or any(len(field) > _MAX_FIELD_BYTES for field in fields):
        raise _unparsable()
    return FormData([_pair(field) for field in fields])


async def _multipart(request: Request, options: Mapping[bytes, bytes]) -> FormData:
    boundary = options.get(b"boundary", b"")
    if not boundary or b'"' in boundary or b"\\" in boundary:
        raise _unparsable()
    if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
        raise MalformedBodyError("The text in the request body must be UTF-8.")
    # Starlette replaces bytes that it cannot decode. Latin-1 decodes every byte, reversibly.
    head = b'multipart/form-data; charset=latin-1; boundary="' + boundary + b'"'
    async with aclosing(request.stream()) as stream:
        form = await _PlainParts(
            Headers(raw=[(b"content-type", head)]),
            stream,
            max_files=1,
            max_fields=_MAX_FIELDS,
            max_part_size=_MAX_FIELD_BYTES,
        ).parse()
    try:
        fields = [(_utf_8(name), _again(value)) for name, value in form.multi_items()]
    except UnicodeDecodeError:
        await form.close()
        raise
    return FormData(fields)


class _PlainParts(MultiPartParser):
    """Takes parts that have one name and one encoding, whichever reader looks at them.

    Raises:
        MultiPartException: there is another.
    """

    def on_headers_finished(self) -> None:
        """Look at the headers of a part before they are taken."""
        headers = self._current_part.item_headers
        names = [name for name, _ in headers]
        if len(names) > len(set(names)):
            raise MultiPartException("a header stands twice")
        found = dict(headers)
        disposition = found.get(b"content-disposition", b"")
        kind, _, _ = disposition.partition(b";")
        names_of_it = _NAME.findall(disposition)
        if kind.strip().lower() != b"form-data" or len(names_of_it) != 1:
            raise MultiPartException("not one name of a form's field")
        coding = found.get(b"content-transfer-encoding", b"binary").strip().lower()
        if coding not in _UNCHANGED:
            raise MultiPartException("a coding of another protocol")
        super().on_headers_finished()

    def on_part_end(self) -> None:
        """Look at the text of a part that is no file."""
        part = self._current_part
        if part.file is None:
            content_type = dict(part.item_headers).get(b"content-type", b"")
            charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").lower()
            is_known = charset in _CHARSETS or (charset in _LIKE_ASCII and part.data.isascii())
            if not is_known or len(_CHARSET.findall(content_type)) > 1:
                raise MultiPartException("text in another encoding")
            if part.field_name == _CHARSET_FIELD and bytes(part.data).lower() not in _CHARSETS:
                raise MultiPartException("other parts in another encoding")
        super().on_part_end()


def _again(value: Field) -> Field:
    return _utf_8(value) if isinstance(value, str) else value


def _utf_8(text: str) -> str:
    """Decode text as UTF-8 that was decoded as Latin-1."""
    return text.encode("latin-1").decode()


def _fields(encoded: bytes) -> list[bytes]:
    return [field for field in encoded.split(b"&") if field]


def _pair(field: bytes) -> tuple[str, str]:
    name, _, value = field.partition(b"=")
    return _text(name), _text(value)


def _text(encoded: bytes) -> str:
    return unquote_to_bytes(encoded.replace(b"+", b" ")).decode()
