"""Parameters of a request, from its query string or its form, checked."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from service.api.call import Call
from service.domain.errors import (
    InputError,
    MissingParameterError,
    ParameterError,
    UnavailableError,
)
from service.domain.types import PhotoSource, TenantId

_logger = logging.getLogger(__name__)

MAX_ID_LENGTH = 128
MAX_PAGE = 1000
_MAX_INT64 = 2**63 - 1
# Control characters, and halves of surrogate pairs, which no text that can be stored has.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def is_word(value: str) -> bool:
    """Whether an id may be so: 1 to 128 characters, none of them a control character."""
    return len(value.strip()) > 0 and len(value) <= MAX_ID_LENGTH and not _FORBIDDEN.search(value)


class MalformedBodyError(InputError):
    """The form in the body does not parse."""

    code = "malformed_body"


class UploadTimeoutError(InputError):
    """The body did not come in time."""

    code = "upload_timeout"


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An image file as it was sent, to be read when its turn comes."""

    read: PhotoSource
    size_bytes: int


class Parameters:
    """The parameters of one request; the form wins over the query string.

    Args:
        form: empty where the body is the image itself.
        image: the body, if it is one.
        accept: the request's Accept header.
    """

    def __init__(
        self, call: Call, query: QueryParams, form: FormData, image: bytes | None, accept: str
    ) -> None:
        self.call = call
        self._query = query
        self._form = form
        self._image = image
        self._accept = accept

    def text(self, name: str) -> str:
        """A required word of 1 to 128 characters, none of them a control character.

        Raises:
            ParameterError: it is missing or malformed.
        """
        value = self._get(name)
        if value is None or value == "":
            raise MissingParameterError(name)
        if not is_word(value):
            raise ParameterError(
                name,
                f"The parameter '{name}' must have 1 to {MAX_ID_LENGTH} characters, "
                "none of them a control character.",
            )
        return value

    def optional(self, name: str) -> str | None:
        """The same word where it may be left out.

        Raises:
            ParameterError: it is malformed.
        """
        return self.text(name) if self._get(name) else None

    def choice(self, name: str, words: Sequence[str]) -> str:
        """One of some words; the first when none was sent.

        Raises:
            ParameterError: it is another word.
        """
        value = self._get(name) or words[0]
        if value in words:
            return value
        listed = ", ".join(f"'{word}'" for word in words)
        raise ParameterError(name, f"The parameter '{name}' must be one of {listed}.")

    def wants(self, media_type: str) -> bool:
        """Whether the caller asked for this type by name."""
        return media_type in self._accept

    def tenant_id(self) -> TenantId:
        """The tenant, which every route needs."""
        return TenantId(self.text("tenant_id"))

    def integer(
        self, name: str, *, default: int | None = None, low: int = 0, high: int = _MAX_INT64
    ) -> int:
        """A whole number from `low` to `high`; required when there is no default.

        Raises:
            ParameterError: it is missing or malformed.
        """
        value = self._get(name)
        if value is None or value == "":
            if default is None:
                raise MissingParameterError(name)
            return default
        if re.fullmatch(r"[+-]?[0-9]{1,19}", value) and low <= (number := int(value)) <= high:
            return number
        raise ParameterError(
            name, f"The parameter '{name}' must be a whole number from {low} to {high}."
        )

    def file(self, name: str) -> UploadedImage:
        """An uploaded file: the field of a form, or the whole body.

        Raises:
            ParameterError: it is missing, not a file, or empty.
        """
        if self._image is not None:
            return _in_memory(name, self._image)
        value = self._form.get(name)
        if value is None and name not in self._query:
            raise MissingParameterError(name)
        if not isinstance(value, UploadFile):
            raise ParameterError(
                name,
                f"The parameter '{name}' must be a file in a multipart/form-data body, or the "
                "body itself with a Content-Type of image/*.",
            )
        if not value.size:
            raise ParameterError(name, f"The file in '{name}' is empty.")
        upload = value

        async def read() -> bytes:
            await upload.seek(0)
            return await upload.read()

        return UploadedImage(read, value.size)

    def _get(self, name: str) -> str | None:
        value = self._form.get(name, self._query.get(name))
        if isinstance(value, UploadFile):
            raise ParameterError(name, f"The parameter '{name}' must be text, not a file.")
        return value


def is_image(content_type: str) -> bool:
    """Whether a body of this type is the image itself."""
    return content_type.lower().startswith(("image/", "application/octet-stream"))


def _in_memory(name: str, image: bytes) -> UploadedImage:
    if not image:
        raise ParameterError(name, f"The file in '{name}' is empty.")

    async def read() -> bytes:
        return image

    return UploadedImage(read, len(image))


@asynccontextmanager
async def parameters(request: Request, call: Call, timeout_s: float) -> AsyncIterator[Parameters]:
    """Parse a request's query and body; uploaded files go when the block ends.

    Raises:
        MalformedBodyError: the form does not parse.
        UploadTimeoutError: the body did not come within `timeout_s`.
    """
    headers = request.headers
    form, image = FormData(), None
    try:
        async with asyncio.timeout(timeout_s):
            if is_image(headers.get("content-type", "")):
                image = await request.body()
            else:
                form = await request.form(max_files=1, max_fields=32, max_part_size=64 * 1024)
    except TimeoutError:
        raise UploadTimeoutError("The request body took too long to arrive.") from None
    except (HTTPException, MultiPartException, FormParserError, ValueError) as error:
        raise MalformedBodyError("The form in the request body cannot be parsed.") from error
    except OSError as error:  # larger uploads wait in a temporary file
        _logger.error("upload not taken: %s", error)
        raise UnavailableError("The service cannot take uploads at the moment.") from error
    try:
        yield Parameters(call, request.query_params, form, image, headers.get("accept", ""))
    finally:
        await form.close()
