"""The parts of a long form, one after the other, each in a file that is spooled while it arrives.

A part that is no usable file fails alone: what is left of it is read and thrown away. A form that
cannot be parsed ends there; the parts before are not touched.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers, UploadFile

from service.api.forms import (
    FormBegin,
    MalformedBodyError,
    PartError,
    boundary_of,
    disposition_of,
    is_encoded_part,
    is_file_part,
    unparsable,
)
from service.api.image_bytes import no_room_on_disk, spool
from service.api.intake import PartedIntake
from service.api.limiter import Permit
from service.domain.errors import BodyTooLargeError, FacetteError, OverloadedError, RequestError

MULTIPART: Final = "multipart/form-data"
MAX_PARTS: Final = 1000
"""Parts of one form."""

_HOW_TO_SEND: Final = (
    f"Send a body of type {MULTIPART} in which each part is a file, at most {MAX_PARTS} of them."
)
# Longer file names are cut: they are only told again.
_MAX_FILE_NAME: Final = 255
# Behind the last boundary there may be an epilogue, which says nothing.
_MAX_EPILOGUE_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Part:
    """A part of a form.

    index: its place among the parts. file: its bytes, unless there is a fault. fault: why it cannot
    be used; None where it can.
    """

    index: int
    permit: Permit
    filename: str | None = None
    fault: FacetteError | None = None
    file: UploadFile = field(default_factory=spool)

    def call(self, filename: str) -> None:
        """Give the part the name of its file."""
        self.filename = filename

    def fail(self, fault: FacetteError) -> None:
        """Give up the part, and forget its bytes."""
        if self.fault is None:
            self.fault = fault
            self.permit.give_back()
            self.file.file.close()

    async def close(self) -> None:
        """Remove the file, and give its bytes back."""
        await self.file.close()
        self.permit.__exit__()


class Parts:
    """Reads the parts of a form.

    Args:
        permit: counts the bytes of the parts that are not closed.
        max_part_bytes: the largest file.
        wait_for_room: returns once a former part is closed; whether there was one to wait for.

    Raises:
        MalformedBodyError: the request has no form with a usable boundary.
    """

    def __init__(
        self,
        intake: PartedIntake,
        headers: Headers,
        permit: Permit,
        *,
        max_part_bytes: int,
        wait_for_room: Callable[[], Awaitable[bool]],
    ) -> None:
        content_types = headers.getlist("content-type")
        kind = content_types[0].partition(";")[0].strip().lower() if content_types else ""
        if len(content_types) != 1 or kind != MULTIPART:
            raise MalformedBodyError(f"The body must be a form. {_HOW_TO_SEND}")
        boundary = boundary_of(content_types[0], _HOW_TO_SEND)
        self._intake = intake
        self._permit = permit
        self._max_part_bytes = max_part_bytes
        self._wait_for_room = wait_for_room
        self._parser = _Parser(boundary)
        self._begin = FormBegin(intake.pieces(), boundary)
        self._part: Part | None = None
        self._count = 0

    async def read(self) -> AsyncGenerator[Part, None]:
        """The parts in their order, which the caller closes; nothing is read between two of them.

        Raises:
            MalformedBodyError: the form cannot be parsed, has too many parts, or breaks off.
            UploadTimeoutError: the body arrives too slowly.
            BodyTooLargeError: the body is longer than the limit.
            UnavailableError: there is no room on the disk.
            ClientDisconnect: the client hung up.
        """
        try:
            async with aclosing(self._begin.pieces()) as pieces:
                async for piece in pieces:
                    error = self._parser.feed(piece)
                    for event in self._parser.take():
                        if (part := await self._handle(event)) is not None:
                            yield part
                    if error is not None:
                        raise unparsable(self._begin.fault(), _HOW_TO_SEND) from error
                    if self._parser.epilogue_bytes > _MAX_EPILOGUE_BYTES:
                        return
            if not self._parser.is_complete:
                raise unparsable(self._fault_of_end(), _HOW_TO_SEND)
        finally:
            if self._part is not None:
                await self._part.close()

    async def _handle(self, event: _Event) -> Part | None:
        """Take what the parser found; returns a part that is complete."""
        if event is _Mark.BEGIN:
            self._open_part()
            return None
        part = self._part
        assert part is not None  # the parser tells of nothing outside parts
        if event is _Mark.END:
            await self._finish(part)
            self._part = None
            return part
        if isinstance(event, bytes):
            await self._write(part, event)
        elif isinstance(event, tuple):
            self._look_at(part, event)
        return None

    def _open_part(self) -> None:
        if self._count == MAX_PARTS:
            raise unparsable(f"it has more than {MAX_PARTS} parts", _HOW_TO_SEND)
        self._intake.begin_part()
        permit = self._permit.part()
        permit.__enter__()
        self._part = part = Part(self._count, permit)
        permit.when_evicted(lambda: part.fail(_made_room()))
        self._count += 1

    def _look_at(self, part: Part, headers: _Headers) -> None:
        try:
            disposition = disposition_of(headers)
        except PartError as error:
            part.fail(_bad(part, f"cannot be read: {error.message}"))
            return
        name = parse_options_header(disposition)[1].get(b"filename")
        if name is not None:
            part.call(name.decode(errors="replace")[:_MAX_FILE_NAME])
        if not is_file_part(headers):
            part.fail(_bad(part, "is no file: it has neither a file name nor the type of an image"))
        elif is_encoded_part(headers):
            part.fail(_bad(part, "has a Content-Transfer-Encoding; send its bytes as they are"))

    async def _write(self, part: Part, data: bytes) -> None:
        if part.fault is None and (part.file.size or 0) + len(data) > self._max_part_bytes:
            part.fail(BodyTooLargeError(self._max_part_bytes, of="of a part."))
        while part.fault is None and not part.permit.fits(len(data)):
            if not await self._wait_for_room():
                break
        if part.fault is not None:
            return
        try:
            part.permit.take(len(data))
            await part.file.write(data)
        except OverloadedError as error:
            part.fail(error)
        except OSError as error:
            raise no_room_on_disk(error, "The photos before were stored.") from error

    async def _finish(self, part: Part) -> None:
        part.permit.complete()
        if part.fault is None and not part.file.size:
            part.fail(_bad(part, "is an empty file"))
        if part.fault is None:
            try:
                await part.file.seek(0)  # writes what is buffered: a full disk shows now
            except OSError as error:
                raise no_room_on_disk(error, "The photos before were stored.") from error

    def _fault_of_end(self) -> str:
        if not self._parser.has_begun:
            return self._begin.fault()
        return "it breaks off before the line of its final boundary"


class _Mark(Enum):
    BEGIN = auto()
    END = auto()


_Headers = tuple[tuple[bytes, bytes], ...]
# A piece of a part's bytes, its headers with the names in lower case, or where it begins and ends.
_Event = bytes | _Headers | _Mark


class _Parser:
    """Tells what each piece of a form has, in the order in which it stands there.

    Attributes:
        has_begun: whether a boundary was found.
        is_complete: whether the final boundary was found.
        epilogue_bytes: at least so much came behind it.
    """

    def __init__(self, boundary: bytes) -> None:
        self._events: list[_Event] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._name = self._value = b""
        self.has_begun = self.is_complete = False
        self.epilogue_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": lambda: self._events.append(tuple(self._headers)),
                "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                "on_part_end": lambda: self._events.append(_Mark.END),
                "on_end": self._on_end,
            },
        )

    def feed(self, piece: bytes) -> FormParserError | None:
        """Parse a further piece; returns the error that ends the form, which is behind all events.

        Call `take` for the events.
        """
        if self.is_complete:
            self.epilogue_bytes += len(piece)
            return None
        try:
            self._parser.write(piece)
        except FormParserError as error:
            return error
        return None

    def take(self) -> list[_Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def _on_part_begin(self) -> None:
        self.has_begun = True
        self._headers = []
        self._events.append(_Mark.BEGIN)

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers.append((self._name.lower(), self._value))
        self._name = self._value = b""

    def _on_end(self) -> None:
        self.has_begun = self.is_complete = True


def _bad(part: Part, what: str) -> RequestError:
    return RequestError(((f"/body/{part.index}", what),))


def _made_room() -> OverloadedError:
    return OverloadedError("The part made room for the uploads of others; send it again.")
