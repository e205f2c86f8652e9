"""The checked parameters of a request, from its query string, form and head."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Receive

from service.api.accept import preferred
from service.api.forms import (
    Field,
    MalformedBodyError,
    merge,
    once,
    parse_query,
    read_form,
)
from service.batching import Priority
from service.domain.errors import (
    InputError,
    MissingParameterError,
    ParameterError,
    UnavailableError,
)
from service.domain.names import NAME_RULE, is_name
from service.domain.types import PhotoSource, TenantId

_logger = logging.getLogger(__name__)

MAX_PAGE = 1000
_MAX_INT64 = 2**63 - 1
# Each has one spelling.
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")


class UploadTimeoutError(InputError):
    """The body did not arrive within the timeout."""

    code = "upload_timeout"


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An uploaded image file, which is read when a worker is free for it."""

    read: PhotoSource
    size_bytes: int


class Parameters:
    """The parameters of one request.

    Args:
        call: facts of the head.
        values: parameters of the query string and the form.
        image: the body of a request whose body is an image.
        accept: value of the Accept header; empty where there is none.
    """

    def __init__(
        self, call: Call, values: Mapping[str, Field], image: bytes | None, accept: str
    ) -> None:
        self.call = call
        self._values = values
        self._image = image
        self._accept = accept

    def text(self, name: str) -> str:
        """A required id or word that satisfies `NAME_RULE`.

        Raises:
            ParameterError: the parameter is missing or malformed.
        """
        value = self._get(name)
        if value is None or value == "":
            raise MissingParameterError(name)
        if not is_name(value):
            raise ParameterError(name, f"The parameter '{name}' must have {NAME_RULE}.")
        return value

    def optional(self, name: str) -> str | None:
        """An optional id or word; None where it is missing.

        Raises:
            ParameterError: the parameter is malformed.
        """
        return self.text(name) if self._get(name) else None

    def choice(self, name: str, words: Sequence[str]) -> str:
        """One of `words`; the first where the parameter is missing.

        Raises:
            ParameterError: the parameter is another word.
        """
        value = self._get(name) or words[0]
        if value in words:
            return value
        listed = ", ".join(f"'{word}'" for word in words)
        raise ParameterError(name, f"The parameter '{name}' must be one of {listed}.")

    def media_type(self, offers: Sequence[str]) -> str:
        """The media type of `offers`, the default first, that the client prefers."""
        return preferred(self._accept, offers)

    def tenant_id(self) -> TenantId:
        """The tenant id, a required parameter."""
        return TenantId(self.text("tenant_id"))

    def integer(
        self, name: str, *, default: int | None = None, low: int = 0, high: int = _MAX_INT64
    ) -> int:
        """A whole number from `low` to `high`; required where there is no default.

        Raises:
            ParameterError: the parameter is missing or malformed.
        """
        value = self._get(name)
        if value is None or value == "":
            if default is None:
                raise MissingParameterError(name)
            return default
        if _WHOLE_NUMBER.fullmatch(value) and low <= (number := int(value)) <= high:
            return number
        raise ParameterError(
            name, f"The parameter '{name}' must be a whole number from {low} to {high}."
        )

    def file(self, name: str) -> UploadedImage:
        """An uploaded file: a field of the form, or the whole body.

        Raises:
            ParameterError: the file is missing or empty, or the parameter is no file.
        """
        value = self._values.get(name)
        if self._image is not None:
            if value is not None:
                raise ParameterError(name, f"The body is the '{name}'; the query may not name it.")
            return _in_memory(name, self._image)
        if value is None:
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
        value = self._values.get(name)
        if isinstance(value, UploadFile):
            raise ParameterError(name, f"The parameter '{name}' must be text, not a file.")
        return value


def is_image(content_type: str) -> bool:
    """Whether a body of this content type is an image, and not a form."""
    return content_type.lower().startswith(("image/", "application/octet-stream"))


def _in_memory(name: str, image: bytes) -> UploadedImage:
    if not image:
        raise ParameterError(name, f"The file in '{name}' is empty.")

    async def read() -> bytes:
        return image

    return UploadedImage(read, len(image))


@asynccontextmanager
async def parameters(request: Request, call: Call, timeout_s: float) -> AsyncIterator[Parameters]:
    """Read the parameters of a request; uploaded files are removed when the block ends.

    Raises:
        MalformedBodyError: the form cannot be parsed.
        ParameterError: a parameter occurs twice in the form, or has another value in the query.
        UploadTimeoutError: the body did not arrive within `timeout_s`.
    """
    headers = request.headers
    if len(headers.getlist("content-type")) > 1:
        raise MalformedBodyError("The request body must have one Content-Type.")
    form, image = FormData(), None
    try:
        async with asyncio.timeout(timeout_s):
            if is_image(headers.get("content-type", "")):
                image = await request.body()
            else:
                form = await read_form(request)
    except TimeoutError:
        raise UploadTimeoutError("The request body took too long to arrive.") from None
    except OSError as error:  # larger uploads are written to a temporary file
        _logger.error("an upload could not be stored: %s", error)
        raise UnavailableError("The service cannot take uploads at the moment.") from error
    try:
        values = merge(call.query, once(form.multi_items()))
        yield Parameters(call, values, image, ", ".join(headers.getlist("accept")))
    finally:
        await form.close()


TIMEOUT_HEADER = "x-request-timeout-ms"
PRIORITY_HEADER = "x-priority"
MAX_TIMEOUT_MS = 600_000
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Call:
    """Facts of the head of one request.

    query: parameters of the query string.
    tenant: tenant id of the query string; None where the form may have it.
    deadline: `time.monotonic()` by which the request must be answered.
    body_bytes: announced length of the body; None where it is unknown.
    receive: ASGI messages of the connection.
    """

    query: Mapping[str, str]
    tenant: str | None
    priority: Priority
    deadline: float
    body_bytes: int | None
    receive: Receive

    @classmethod
    def of(cls, request: Request, default_timeout_s: float) -> Call:
        """Read the head of a request.

        Raises:
            ParameterError: a header is malformed, or the query string is not UTF-8 or has a
                parameter twice.
        """
        headers = request.headers
        announced = headers.get("content-length")
        if announced is None:
            body_bytes = None if "transfer-encoding" in headers else 0
        else:
            body_bytes = int(announced)
        given = headers.get(TIMEOUT_HEADER)
        timeout_s = default_timeout_s if given is None else _timeout_s(given)
        query = parse_query(request.scope["query_string"])
        return cls(
            query,
            query.get("tenant_id"),
            _priority(headers.get(PRIORITY_HEADER, "interactive")),
            time.monotonic() + timeout_s,
            body_bytes,
            request.receive,
        )


def _timeout_s(given: str) -> float:
    plain = len(given) <= _MAX_DIGITS and given.isascii() and given.isdigit()
    if plain and 1 <= int(given) <= MAX_TIMEOUT_MS:
        return int(given) / 1e3
    raise ParameterError(
        "X-Request-Timeout-Ms",
        f"The header 'X-Request-Timeout-Ms' must be a whole number from 1 to {MAX_TIMEOUT_MS}.",
    )


def _priority(given: str) -> Priority:
    try:
        return Priority[given.strip().upper()]
    except KeyError:
        raise ParameterError(
            "X-Priority", "The header 'X-Priority' must be 'interactive' or 'bulk'."
        ) from None
