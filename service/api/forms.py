"""The query string and the form of a request, read strictly: UTF-8, and each name once.

Text that is not UTF-8 is refused. Replacing it by U+FFFD would make two names equal. A name with
two values is refused as well: a gateway might authorise one value, and the service use the other.

The part of a multipart form that is called `image` is taken as clients send it: with or without a
file name, as bytes or as base64. It names nothing that anybody authorises, so a reader that takes
its bytes otherwise still reads the same parameters.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.image_bytes import HOW_TO_SEND, IMAGE
from service.domain.errors import InputError, ParameterError

Field = str | UploadFile
_Field = TypeVar("_Field", bound=Field)

MAX_FIELDS: Final = 32
MAX_FIELD_BYTES: Final = 64 * 1024
"""The longest text of a field, unless the field is the image."""

MAX_PLAIN_BODY_BYTES: Final = 1 << 20
"""The longest body without a photo."""

_CHARSETS = (b"utf-8", b"utf8")
# Charsets of a part that many clients name for any text. ASCII is the same in all of them.
_LIKE_ASCII = (b"us-ascii", b"iso-8859-1", b"windows-1252")
_UNCHANGED = (b"7bit", b"8bit", b"binary")
_BASE64 = b"base64"
# RFC 7578, section 4.6: a field that says how the text of all others is encoded.
_CHARSET_FIELD = "_charset_"
# A parameter of a header, also as RFC 2231 extends it.
_PARAMETER = rb";[ \t]*%s[ \t]*(?:\*[^=;]*)?="
_NAME = re.compile(_PARAMETER % rb"name", re.IGNORECASE)
_FILE_NAME = re.compile(rb";[ \t]*filename[ \t]*=", re.IGNORECASE)
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


def parse_urlencoded(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form of type application/x-www-form-urlencoded, in order.

    Raises:
        MalformedBodyError: the form has too many or too long fields, or is not UTF-8.
    """
    fields = _fields(body)
    if len(fields) > MAX_FIELDS:
        raise unparsable(f"it has more than {MAX_FIELDS} fields")
    try:
        pairs = [_pair(field) for field in fields]
    except UnicodeDecodeError:
        raise _not_utf_8() from None
    if any(name != IMAGE and len(value) > MAX_FIELD_BYTES for name, value in pairs):
        raise unparsable(_TOO_LONG)
    return pairs


async def parse_multipart(
    content_type: str, pieces: AsyncGenerator[bytes, None]
) -> list[tuple[str, Field]]:
    """The fields of a form of type multipart/form-data, in order; the caller closes the files.

    Raises:
        MalformedBodyError: the form cannot be parsed, or its text is not UTF-8.
    """
    boundary = boundary_of(content_type)
    # Starlette replaces bytes that it cannot decode. Latin-1 decodes every byte, reversibly.
    head = b'multipart/form-data; charset=latin-1; boundary="' + boundary + b'"'
    begin = FormBegin(pieces, boundary)
    parts = _PlainParts(
        Headers(raw=[(b"content-type", head)]),
        begin.pieces(),
        max_files=2,  # a second one has an error of its own
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parts.parse()
    except PartError as error:
        raise unparsable(error.message) from error
    except MultiPartException as error:
        raise unparsable(begin.fault()) from error
    if not parts.is_complete:
        parts.close()
        raise unparsable("it breaks off before the line of its final boundary")
    try:
        return [(_utf_8(name), _again(value)) for name, value in form.multi_items()]
    except UnicodeDecodeError:
        parts.close()
        raise _not_utf_8() from None


def boundary_of(content_type: str, hint: str = HOW_TO_SEND) -> bytes:
    """The boundary that the Content-Type of a form names.

    Args:
        hint: a sentence for the error: what to send instead.

    Raises:
        MalformedBodyError: it names none that each reader takes for the same one.
    """
    head = content_type.encode("latin-1")
    if len(_BOUNDARY.findall(head)) > 1 or len(_CHARSET.findall(head)) > 1:
        raise unparsable("its Content-Type has a boundary or a charset twice", hint)
    _, options = parse_options_header(head)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY_BYTES or b'"' in boundary or b"\\" in boundary:
        raise unparsable("its Content-Type names no usable boundary", hint)
    if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
        raise _not_utf_8()
    return boundary


def disposition_of(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The Content-Disposition of a part, which names one field.

    Args:
        headers: of the part, the names in lower case.

    Raises:
        PartError: a reader of forms could take the headers otherwise.
    """
    found = dict(headers)
    if len(headers) > len(found):
        raise PartError("a part has a header twice")
    disposition = found.get(b"content-disposition", b"")
    kind, _, _ = disposition.partition(b";")
    if kind.strip().lower() != b"form-data" or len(_NAME.findall(disposition)) != 1:
        raise PartError("a part is not 'Content-Disposition: form-data' with one name")
    return disposition


def is_file_part(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a part is a file: it has a file name, or the type of an image or of bytes."""
    found = dict(headers)
    content_type = found.get(b"content-type", b"").strip().lower()
    disposition = found.get(b"content-disposition", b"")
    return bool(_FILE_NAME.search(disposition)) or content_type.startswith(_FILE_TYPES)


def is_encoded_part(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the bytes of a part stand for others, such as those of base64."""
    coding = dict(headers).get(b"content-transfer-encoding", b"binary").strip().lower()
    return coding not in _UNCHANGED


def is_base64_part(part: UploadFile) -> bool:
    """Whether the header of a part says that its bytes are base64."""
    return part.headers.get("content-transfer-encoding", "").strip().lower() == _BASE64.decode()


def is_text_part(part: UploadFile) -> bool:
    """Whether a part may be text: it has neither a file name nor another type."""
    content_type = part.headers.get("content-type", "text/plain").strip().lower()
    return not part.filename and content_type.startswith("text/")


_TOO_LONG: Final = f"a field other than '{IMAGE}' is longer than {MAX_FIELD_BYTES} bytes"


def unparsable(reason: str, hint: str = HOW_TO_SEND) -> MalformedBodyError:
    """The error of a form that cannot be parsed for this reason."""
    return MalformedBodyError(f"The form in the request body cannot be parsed: {reason}. {hint}")


def _not_utf_8() -> MalformedBodyError:
    return MalformedBodyError("The text in the request body must be UTF-8.")


class FormBegin:
    """The beginning of a form: skips a preamble, and keeps the first bytes, to tell what is wrong.

    Mail libraries write a preamble, a sentence before the first boundary (RFC 2046, section 5.1.1).
    It is skipped where each reader finds the same first boundary: the first one stands at the
    beginning of a line.
    """

    def __init__(self, pieces: AsyncGenerator[bytes, None], boundary: bytes) -> None:
        self._pieces = pieces
        self._delimiter = b"--" + boundary
        self._first = b""

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The pieces without a preamble."""
        is_begun = False
        async for piece in self._pieces:
            if is_begun:
                yield piece
                continue
            self._first += piece
            start = self._first.find(self._delimiter)
            if start < 0 and len(self._first) < _KEPT_BYTES:
                continue
            is_begun = True
            is_near = start + len(self._delimiter) <= _KEPT_BYTES
            is_line = is_near and start > 1 and self._first[start - 2 : start] == b"\r\n"
            yield self._first[start:] if is_line else self._first
            self._first = self._first[:_KEPT_BYTES]
        if not is_begun:
            yield self._first

    def fault(self) -> str:
        """The most probable fault of a form that does not parse."""
        first = self._first.lstrip(b"\r\n")
        if self._delimiter not in first:
            return "it does not begin with the boundary that its Content-Type names"
        if first.startswith(self._delimiter + b"\n"):
            return "its lines must end in CR and LF, and end in LF alone"
        if not first.startswith(self._delimiter):
            return "there is text before the first boundary"
        return "a part of it is malformed"


_KEPT_BYTES: Final = 1024
# RFC 2046, section 5.1.1, allows 70.
_MAX_BOUNDARY_BYTES: Final = 256


class PartError(MultiPartException):
    """A part is refused; the message says why."""


class _PlainParts(MultiPartParser):
    """Takes parts that have one name and one encoding, whichever reader looks at them.

    Raises:
        MultiPartException: there is another.

    Attributes:
        is_complete: whether the final boundary was found.
    """

    def __init__(
        self, headers: Headers, stream: AsyncGenerator[bytes, None], **limits: int
    ) -> None:
        super().__init__(headers, stream, **limits)
        self.is_complete = False

    def close(self) -> None:
        """Remove the files, also one that is not complete."""
        for file in self._files_to_close_on_error:
            file.close()

    def on_headers_finished(self) -> None:
        """Look at the headers of a part before they are taken."""
        part = self._current_part
        disposition = disposition_of(part.item_headers)
        if not _FILE_NAME.search(disposition) and (
            is_file_part(part.item_headers) or _names_image(disposition)
        ):
            part.content_disposition = disposition + b'; filename=""'  # a file without a name
        super().on_headers_finished()
        coding = dict(part.item_headers).get(b"content-transfer-encoding", b"").strip().lower()
        if is_encoded_part(part.item_headers) and not (
            part.field_name == IMAGE and coding == _BASE64
        ):
            raise PartError(
                f"a part has a Content-Transfer-Encoding; '{IMAGE}' may be in base64, and no other "
                "part has one"
            )
        if self._current_files > 1:
            raise PartError("it has more than one file")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take bytes of a part."""
        part = self._current_part
        if part.file is None and len(part.data) + end - start > MAX_FIELD_BYTES:
            raise PartError(_TOO_LONG)
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        """Look at the text of a part that is no file."""
        part = self._current_part
        if part.file is None:
            content_type = dict(part.item_headers).get(b"content-type", b"")
            charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").lower()
            is_known = charset in _CHARSETS or (charset in _LIKE_ASCII and part.data.isascii())
            if not is_known or len(_CHARSET.findall(content_type)) > 1:
                raise PartError("the text of a part is in another encoding than UTF-8")
            if part.field_name == _CHARSET_FIELD and bytes(part.data).lower() not in _CHARSETS:
                raise PartError("its text is in another encoding than UTF-8")
        super().on_part_end()

    def on_end(self) -> None:
        """Take note of the final boundary."""
        self.is_complete = True


def _names_image(disposition: bytes) -> bool:
    """Whether the name of a part is that of the image; most parts are told by the first look."""
    name = IMAGE.encode()
    return name in disposition and parse_options_header(disposition)[1].get(b"name") == name


_FILE_TYPES: Final = (b"image/", b"application/octet-stream", b"binary/octet-stream")


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
