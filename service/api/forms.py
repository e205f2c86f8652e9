"""The query string and the form of a request, read strictly: UTF-8, and each name once.

Text that is not UTF-8 is refused. Replacing it by U+FFFD would make two names equal. A name with
two values is refused as well: a gateway might authorise one value, and the service use the other.
"""

from __future__ import annotations

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
    content_type, options = parse_options_header(request.headers.get("content-type"))
    try:
        if content_type == b"multipart/form-data":
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
        form = await MultiPartParser(
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
