"""The checked parameters of a request, from its query string, body and head."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Receive

from service.api.accept import preferred
from service.api.bodies import Body, read_body
from service.api.boundary import REQUEST_ID
from service.api.forms import Field, merge, parse_query
from service.api.image_bytes import HOW_TO_SEND, UploadedImage, no_room_on_disk
from service.api.intake import Intake
from service.batching import Priority
from service.domain.errors import (
    MissingParameterError,
    ParameterError,
)
from service.domain.keys import Principal
from service.domain.names import NAME_RULE, is_name
from service.domain.types import TenantId

MAX_PAGE = 1000
_MAX_INT64 = 2**63 - 1
# Each has one spelling.
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")


class Parameters:
    """The parameters of one request.

    Args:
        call: facts of the head.
        body: what the body holds.
        accept: value of the Accept header; empty where there is none.

    Raises:
        ParameterError: a parameter has one value in the query string and another in the body.
    """

    def __init__(self, call: Call, body: Body, accept: str) -> None:
        self.call = call
        self._values = merge(call.query, body.fields)
        self._body = body
        self._accept = accept

    def text(self, name: str) -> str:
        """A required id or word that satisfies `NAME_RULE`.

        Raises:
            ParameterError: the parameter is missing or malformed.
        """
        value = self._get(name)
        if value is None or value == "":
            raise MissingParameterError(name)
        return _name(name, value)

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

    def texts(self, *, except_for: str) -> dict[str, str]:
        """All parameters by name, but for one.

        Raises:
            ParameterError: one of them is a file.
        """
        names = [name for name in self._values if name != except_for]
        return {name: self._get(name) or "" for name in names}

    def media_type(self, offers: Sequence[str]) -> str:
        """The media type of `offers`, the default first, that the client prefers."""
        return preferred(self._accept, offers)

    def tenant_id(self) -> TenantId:
        """The tenant id, a required parameter.

        Raises:
            NotFoundError: the caller's key reaches another tenant alone.
        """
        tenant_id = TenantId(self.text("tenant_id"))
        self.call.principal.require_tenant(tenant_id)
        return tenant_id

    def tenant_served(self) -> TenantId | None:
        """The tenant whose share of the service the request uses.

        It is the named one, else that of the caller's key; None where neither tells.

        Raises:
            NotFoundError: the caller's key reaches another tenant alone.
        """
        return self.tenant_id() if self._get("tenant_id") else self.call.principal.tenant_id

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
        """An uploaded image: a field of the body, or the whole body.

        Raises:
            ParameterError: the image is missing or empty, or the parameter is no file.
        """
        value: Field | None = self._values.get(name)
        if self._body.image is not None:
            if value is not None:
                raise ParameterError(name, f"The body is the '{name}'; the query may not name it.")
            value = self._body.image
        if value is None:
            raise MissingParameterError(name, self._hint())
        if not isinstance(value, UploadFile) and value:
            raise ParameterError(
                name, f"The parameter '{name}' cannot be in the query string. {HOW_TO_SEND}"
            )
        if not isinstance(value, UploadFile) or not value.size:
            raise ParameterError(name, f"The file in '{name}' is empty.")
        return UploadedImage.of(value)

    def _hint(self) -> str:
        """What is sent in the place of an image, and how to send one."""
        for other, value in self._values.items():
            if isinstance(value, UploadFile):
                return f"The form has a file in the field '{other[:64]}'. {HOW_TO_SEND}"
        return self._body.unread or HOW_TO_SEND

    def _get(self, name: str) -> str | None:
        value = self._values.get(name)
        if isinstance(value, UploadFile):
            raise ParameterError(name, f"The parameter '{name}' must be text, not a file.")
        return value


@asynccontextmanager
async def parameters(request: Request, call: Call, intake: Intake) -> AsyncIterator[Parameters]:
    """Read the parameters of a request; uploaded files are removed when the block ends.

    Raises:
        MalformedBodyError: the body cannot be parsed.
        ParameterError: a parameter occurs twice in the body, or has another value in the query.
        UploadTimeoutError: the body did not arrive in time, or arrived too slowly.
        OverloadedError: there is no room for the bytes of the body.
        UnavailableError: there is no room for it on the disk.
    """
    headers = request.headers
    try:
        async with intake.open():
            body = await read_body(intake, headers, call.query)
    except OSError as error:  # larger uploads are written to a temporary file
        raise no_room_on_disk(error) from error
    try:
        yield Parameters(call, body, ", ".join(headers.getlist("accept")))
    finally:
        await body.close()


TIMEOUT_HEADER = "x-request-timeout-ms"
PRIORITY_HEADER = "x-priority"
MAX_TIMEOUT_MS = 600_000
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Call:
    """Facts of the head of one request.

    principal: who sent it.
    request_id: what its answer has in X-Request-Id.
    query: parameters of the query string.
    tenant: tenant id of the query string; None where the form may have it.
    deadline: `time.monotonic()` by which the request must be answered.
    timeout_s: from the head of the request to that moment.
    body_bytes: announced length of the body; None where it is unknown.
    receive: ASGI messages of the connection.
    """

    principal: Principal
    request_id: str
    query: Mapping[str, str]
    tenant: str | None
    priority: Priority
    deadline: float
    timeout_s: float
    body_bytes: int | None
    receive: Receive

    @classmethod
    def of(cls, request: Request, principal: Principal, default_timeout_s: float) -> Call:
        """Read the head of a request of an authenticated caller.

        Raises:
            ParameterError: a header is malformed, the query string is not UTF-8 or has a parameter
                twice, or its tenant can be none: limits of the tenant are asked for before the
                other parameters are looked at.
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
            principal,
            request.scope[REQUEST_ID],
            query,
            _tenant(query.get("tenant_id")),
            _priority(headers.get(PRIORITY_HEADER, "interactive")),
            time.monotonic() + timeout_s,
            timeout_s,
            body_bytes,
            request.receive,
        )


def _name(parameter: str, value: str) -> str:
    if not is_name(value):
        raise ParameterError(parameter, f"The parameter '{parameter}' must have {NAME_RULE}.")
    return value


def _tenant(value: str | None) -> str | None:
    return _name("tenant_id", value) if value else None


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
