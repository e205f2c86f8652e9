"""One operation of the API: what it takes, what it answers, and who may call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from service.api.limiter import Permit
from service.api.params import Call, Parameters
from service.api.services import ApiServices
from service.api.v1.models import Request
from service.domain.errors import FacetteError, MissingParameterError
from service.domain.keys import Principal, Scope
from service.domain.types import TenantId

R = TypeVar("R", bound=Request)

JSON_TYPE: Final = "application/json"


class BodyKind(Enum):
    """What the body of a request is.

    PHOTO: one photo, in each form that `POST /insert-image` takes. PHOTO_OR_JSON: a photo, or a
    JSON object without one. STREAM: the operation reads the body itself.
    """

    NONE = "none"
    JSON = "json"
    PHOTO = "photo"
    PHOTO_OR_JSON = "photo or json"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path.

    name: the operationId. takes: the model of a JSON body. query: the model of the query string.
    answers: the model, or the media type, of each status that is no error. errors: those beside
    the ones that every operation may answer. headers: request headers that it reads.
    answer_headers: those of its answers, beside the ones of every answer. media: the media types
    of a body that the operation reads itself, with what the contract says of each. parts: the body
    may be as long as that many of the largest size.
    """

    method: str
    path: str
    handler: Handler
    name: str
    tag: str
    summary: str
    scope: Scope
    answers: Mapping[int, type[BaseModel] | str | None]
    body: BodyKind = BodyKind.NONE
    takes: type[Request] | None = None
    query: type[Request] | None = None
    errors: tuple[type[FacetteError], ...] = ()
    headers: tuple[str, ...] = ()
    stores: bool = False
    answer_headers: tuple[str, ...] = ()
    media: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: int = 1


@dataclass(frozen=True, slots=True)
class BodyStream:
    """The body of a request that the operation reads itself.

    permit: counts its bytes while they are held.
    """

    request: HttpRequest
    permit: Permit


@dataclass(frozen=True, slots=True)
class V1Call:
    """A request to an operation, checked and parsed.

    network: address of the client, for limits. path: as the contract names it. ids: the ids in it,
    by name. form: the body where it has a photo, and the query. stream: the body where the
    operation reads it itself.
    """

    call: Call
    path: str
    network: str
    headers: Headers
    ids: Mapping[str, str]
    query: Request | None = None
    body: Request | None = None
    form: Parameters | None = None
    raw_body: bytes = field(default=b"", repr=False)
    stream: BodyStream | None = None

    @property
    def principal(self) -> Principal:
        """Who sent the request."""
        return self.call.principal

    @property
    def tenant_id(self) -> TenantId:
        """The tenant of the path."""
        return TenantId(self.ids["tenant_id"])

    def record(self, api: ApiServices, action: str, **ids: object) -> None:
        """Record in the audit trail what was done in the tenant of the path, by ids alone."""
        api.audit.write(self.principal, self.call.request_id, self.tenant_id, action, **ids)

    def queried(self, model: type[R]) -> R:
        """The query, as the model that the operation names."""
        assert isinstance(self.query, model)
        return self.query

    def sent(self, model: type[R]) -> R:
        """The body, as the model that the operation names."""
        assert isinstance(self.body, model)
        return self.body

    def photo(self) -> Parameters:
        """The parameters with the photo.

        Raises:
            MissingParameterError: the body has no photo.
        """
        if self.form is None:
            raise MissingParameterError("image")
        return self.form


Handler = Callable[[ApiServices, V1Call], Awaitable[Response]]
