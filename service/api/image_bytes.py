"""The bytes of an uploaded image: spooled, or decoded from base64."""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from mmap import mmap
from tempfile import SpooledTemporaryFile
from typing import Final

from starlette.datastructures import UploadFile

from service.domain.errors import ParameterError, UnavailableError
from service.domain.image_files import HEAD_BYTES, is_image
from service.domain.types import PhotoSource

_logger = logging.getLogger(__name__)

IMAGE: Final = "image"
"""The name of the one parameter that is an image."""

HOW_TO_SEND: Final = (
    f"Send a photo as the body itself, as the field '{IMAGE}' of a multipart/form-data form, or as "
    f"base64 in the field '{IMAGE}' of a JSON object."
)

MEMORY_BYTES: Final = 1 << 20
"""A larger image is kept in a temporary file without a name, which the system removes."""

PIECE_BYTES: Final = 1 << 18

_BLANKS: Final = b" \t\r\n"
_TEXT: Final = re.compile(rb"[A-Za-z0-9+/=_ \t\r\n-]+")
_DATA_URL: Final = re.compile(rb"data:[^,]{0,256}?(;base64)?,", re.IGNORECASE)
_LONGEST_ESCAPE: Final = len(rb"\u002b")


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An uploaded image file, which is read when a worker is free for it.

    sha256: computes the hash of the file, in hex, without that all of it is in memory.
    """

    read: PhotoSource
    size_bytes: int
    sha256: Callable[[], Awaitable[str]]

    @classmethod
    def of(cls, upload: UploadFile) -> UploadedImage:
        """The image in a spooled file."""

        async def read() -> bytes:
            await upload.seek(0)
            return await upload.read()

        async def sha256() -> str:
            if (upload.size or 0) <= PIECE_BYTES:  # a thread would cost more than the hash
                return _sha256(upload)
            return await asyncio.to_thread(_sha256, upload)

        return cls(read, upload.size or 0, sha256)


def _sha256(upload: UploadFile) -> str:
    digest = hashlib.sha256()
    upload.file.seek(0)
    while piece := upload.file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def no_room_on_disk(error: OSError, stored: str = "Nothing was stored.") -> UnavailableError:
    """The error of an upload that cannot be written to the temporary folder.

    Args:
        stored: a sentence about what was stored of the request.
    """
    _logger.error("an upload could not be stored: %s", error)
    return UnavailableError(
        "The service cannot take uploads at the moment: its temporary folder is full or missing. "
        + stored
    )


def spool() -> UploadFile:
    """An empty file that stays in memory while it is small."""
    return UploadFile(_spooled_file(), size=0)  # type: ignore[arg-type]


def _spooled_file() -> SpooledTemporaryFile[bytes]:
    # The caller closes the file, as it closes those of a form.
    return SpooledTemporaryFile(max_size=MEMORY_BYTES)


def is_base64(head: bytes) -> bool:
    """Whether text that begins like this is a data: URL or base64."""
    return _DATA_URL.match(head) is not None or _TEXT.fullmatch(head) is not None


def decode_text(text: str) -> UploadFile:
    """Decode an image in text: base64 or a data: URL.

    Raises:
        ParameterError: it is neither.
    """
    try:
        return decode_base64([text.encode("ascii")])
    except UnicodeEncodeError:
        raise _broken() from None


def decode_file(upload: UploadFile) -> UploadFile:
    """Decode a spooled file of base64 or a data: URL.

    Raises:
        ParameterError: it is neither.
    """
    upload.file.seek(0)
    return decode_base64(iter(lambda: upload.file.read(PIECE_BYTES), b""))


def decode_base64(pieces: Iterable[bytes]) -> UploadFile:
    """Decode an image from base64 in either alphabet, or from a data: URL of such text.

    Blanks and line ends are skipped, and padding may be missing.

    Raises:
        ParameterError: there is anything else, or no image in it. Many words are base64.
    """
    decoder, file = _Base64(), _spooled_file()
    try:
        for piece in _without_scheme(pieces):
            file.write(decoder.feed(piece))
        file.write(decoder.end())
        size = file.tell()
        file.seek(0)  # writes what is buffered: a full disk shows now
        if not is_image(file.read(HEAD_BYTES)):
            raise _broken()
    except binascii.Error:
        file.close()
        raise _broken() from None
    except BaseException:
        file.close()
        raise
    return UploadFile(file, size=size)  # type: ignore[arg-type]


def json_string(data: bytes | mmap, start: int, end: int) -> Iterator[bytes]:
    """The text of a long JSON string in pieces, without its escapes.

    Args:
        data: the document.
        start, end: where the string begins and ends, without its quotes.

    Raises:
        ParameterError: it has other characters than ASCII, or is no JSON string.
    """
    while start < end:
        piece = data[start : min(end, start + PIECE_BYTES)]
        if start + len(piece) < end:
            begun = piece.find(b"\\", len(piece) - _LONGEST_ESCAPE)  # an escape may be cut
            piece = piece[:begun] if begun > 0 else piece
        start += len(piece)
        try:
            yield json.loads(b'"%s"' % piece).encode("ascii")
        except ValueError:
            raise _broken() from None


def _without_scheme(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Base64 without the head of a data: URL, which is in the first piece."""
    first = True
    for piece in pieces:
        if first and piece[:5].lower() == b"data:":
            head = _DATA_URL.match(piece)
            if head is None or head[1] is None:
                raise ParameterError(
                    IMAGE,
                    f"The data: URL in '{IMAGE}' must be of the form 'data:image/jpeg;base64,...'.",
                )
            yield piece[head.end() :]
        else:
            yield piece
        first = False


class _Base64:
    """Decodes base64 piece by piece.

    Raises:
        binascii.Error: it is malformed. Two alphabets in one text count as malformed, too.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._padding = b""
        self._alphabets: set[str] = set()

    def feed(self, text: bytes) -> bytes:
        """The bytes of a further piece, as far as they are complete."""
        text = text.translate(None, _BLANKS)
        if self._padding:
            text, self._padding = b"", self._padding + text
        elif (at := text.find(b"=")) >= 0:
            text, self._padding = text[:at], text[at:]
        if len(self._padding) > 2:
            raise binascii.Error("text behind the padding")
        if b"-" in text or b"_" in text:
            self._alphabets.add("url")
        if b"+" in text or b"/" in text:
            self._alphabets.add("standard")
        if len(self._alphabets) > 1:
            raise binascii.Error("two alphabets")
        text = self._rest + text.translate(_TO_STANDARD)
        whole = len(text) & ~3
        self._rest = text[whole:]
        return binascii.a2b_base64(text[:whole], strict_mode=True)

    def end(self) -> bytes:
        """The last bytes."""
        missing = -len(self._rest) % 4
        if self._padding not in (b"", b"=" * missing) or missing > 2:
            raise binascii.Error("wrong padding, or a letter too much")
        return binascii.a2b_base64(self._rest + b"=" * missing, strict_mode=True)


_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


def _broken() -> ParameterError:
    return ParameterError(
        IMAGE,
        f"The text in '{IMAGE}' is neither an image in base64 nor a data: URL of one. A '+' in a "
        f"form of type application/x-www-form-urlencoded must be sent as %2B. {HOW_TO_SEND}",
    )
