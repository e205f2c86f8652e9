"""Parameters of a request, from its query string or its form, checked."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

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


class MalformedBodyError(InputError):
    """The form in the body does not parse."""

    code = "malformed_body"


class UploadTimeoutError(InputError):
    """The body did not come in time."""

    code = "upload_timeout"


class Parameters:
    """The parameters of one request; the form wins over the query string."""

    def __init__(self, query: QueryParams, form: FormData) -> None:
        self._query = query
        self._form = form

    def text(self, name: str) -> str:
        """A required word of 1 to 128 characters, none of them a control character.

        Raises:
            ParameterError: it is missing or malformed.
        """
        value = self._get(name)
        if value is None or value == "":
            raise MissingParameterError(name)
        if len(value) > MAX_ID_LENGTH or _FORBIDDEN.search(value) or not value.strip():
            raise ParameterError(
                name,
                f"The parameter '{name}' must have 1 to {MAX_ID_LENGTH} characters, "
                "none of them a control character.",
            )
        return value

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

    def file(self, name: str) -> PhotoSource:
        """An uploaded file, to be read when its turn comes.

        Raises:
            ParameterError: it is missing, not a file, or empty.
        """
        value = self._form.get(name)
        if value is None and name not in self._query:
            raise MissingParameterError(name)
        if not isinstance(value, UploadFile):
            raise ParameterError(
                name, f"The parameter '{name}' must be a file in a multipart/form-data body."
            )
        if not value.size:
            raise ParameterError(name, f"The file in '{name}' is empty.")
        upload = value

        async def read() -> bytes:
            await upload.seek(0)
            return await upload.read()

        return read

    def _get(self, name: str) -> str | None:
        value = self._form.get(name, self._query.get(name))
        if isinstance(value, UploadFile):
            raise ParameterError(name, f"The parameter '{name}' must be text, not a file.")
        return value


@asynccontextmanager
async def parameters(request: Request, timeout_s: float) -> AsyncIterator[Parameters]:
    """Parse a request's query and form; uploaded files go when the block ends.

    Raises:
        MalformedBodyError: the form does not parse.
        UploadTimeoutError: the body did not come within `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            form = await request.form(max_files=1, max_fields=32, max_part_size=64 * 1024)
    except TimeoutError:
        raise UploadTimeoutError("The request body took too long to arrive.") from None
    except (HTTPException, MultiPartException, FormParserError, ValueError) as error:
        raise MalformedBodyError("The form in the request body cannot be parsed.") from error
    except OSError as error:  # larger uploads wait in a temporary file
        _logger.error("upload not taken: %s", error)
        raise UnavailableError("The service cannot take uploads at the moment.") from error
    try:
        yield Parameters(request.query_params, form)
    finally:
        await form.close()
