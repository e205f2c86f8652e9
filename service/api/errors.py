"""The one table from Facette's errors to HTTP, and the body every error answer has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from starlette.responses import Response

from service.api.intake import UploadTimeoutError
from service.api.render import Json
from service.domain import errors

PROBLEM_TYPE: Final = "application/problem+json"


class RouteNotFoundError(errors.FacetteError):
    """There is no such route."""

    code = "route_not_found"


class MethodNotAllowedError(errors.FacetteError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"


class MalformedRequestError(errors.InputError):
    """The request is not HTTP/1.1, or it is ambiguous."""

    code = "malformed_request"

    def __init__(self) -> None:
        super().__init__("The request is not HTTP/1.1, or it can be read in more than one way.")


class HeadTooLargeError(errors.InputError):
    """The head of a request has more bytes or headers than the limit."""

    code = "head_too_large"


class PipelineTooLongError(errors.InputError):
    """The client pipelined more bytes behind an unanswered request than the limit."""

    code = "pipeline_too_long"


class HeadTimeoutError(errors.InputError):
    """The head of a request did not arrive completely in time."""

    code = "head_timeout"

    def __init__(self) -> None:
        super().__init__("The head of the request took too long to arrive.")


class OriginNotAllowedError(errors.AccessError):
    """A browser asks for a call that a page of this origin may not make."""

    code = "origin_not_allowed"

    def __init__(self) -> None:
        super().__init__(
            "Pages of this origin may not make this call; server.cors_origins lists the origins."
        )


# The first class in the MRO of an error that stands here decides.
STATUS: Mapping[type[errors.FacetteError], int] = MappingProxyType(
    {
        MalformedRequestError: 400,
        PipelineTooLongError: 400,
        errors.MissingTokenError: 401,
        errors.InvalidTokenError: 401,
        errors.WrongTokenError: 403,
        errors.AccessError: 403,
        errors.NotFoundError: 404,
        errors.MergedPersonError: 410,
        errors.RangeError: 416,
        errors.ConflictError: 409,
        errors.PreconditionError: 412,
        RouteNotFoundError: 404,
        MethodNotAllowedError: 405,
        HeadTimeoutError: 408,
        UploadTimeoutError: 408,
        errors.FaceNotEmbeddedError: 409,
        errors.BodyTooLargeError: 413,
        errors.UnsupportedImageError: 415,
        errors.CorruptImageError: 422,
        errors.ImageTooLargeError: 422,
        errors.ImageTooComplexError: 422,
        errors.ParameterError: 422,
        errors.InputError: 422,
        errors.OverloadedError: 429,
        errors.RateLimitError: 429,
        HeadTooLargeError: 431,
        errors.DeadlineError: 504,
        errors.UnavailableError: 503,
        errors.FacetteError: 500,
    }
)


def _members(error: errors.FacetteError) -> dict[str, Any]:
    """Further members of a problem."""
    if isinstance(error, errors.RequestError):
        return {
            "errors": [{"pointer": pointer, "detail": detail} for pointer, detail in error.problems]
        }
    if isinstance(error, errors.ParameterError):
        return {"errors": [{"pointer": f"/{error.parameter}", "detail": error.message}]}
    if isinstance(error, errors.MergedPersonError):
        return {"merged_into": error.merged_into}
    if isinstance(error, errors.DuplicateImageError):
        return {"image_id": error.image_id}
    if isinstance(error, errors.LimitReachedError):
        return {"limit": error.limit, "maximum": error.maximum}
    if isinstance(error, errors.DecisionConflictError):
        return {"decisions": list(error.decisions)}
    if isinstance(error, errors.ReviewAnsweredError):
        return {"change_id": error.change_id, "answer": error.answer}
    if isinstance(error, errors.ChangeUndoneError):
        return {"undone_by": error.undone_by}
    return {}


def status_of(error: errors.FacetteError) -> int:
    """The HTTP status of an error."""
    return status_of_kind(type(error))


def status_of_kind(kind: type[errors.FacetteError]) -> int:
    """The HTTP status of the errors of a class."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def routing_error(status: int) -> errors.FacetteError:
    """The error of a request that matches no route, from the status of the router."""
    if status == 405:
        return MethodNotAllowedError("This route does not take that method.")
    return RouteNotFoundError("There is no such route; /docs lists all.")


def has_problems(path: str) -> bool:
    """Whether errors of this path are answered by RFC 9457, and not as the legacy API does."""
    return path.startswith(("/v1/", "/console/")) or path == "/v1"


def error_response(
    error: errors.FacetteError,
    headers: Mapping[str, str] | None = None,
    *,
    problem_of: str | None = None,
) -> Response:
    """The response to an error: a stable code and one sentence.

    Args:
        problem_of: the id of the request, for an answer by RFC 9457; None for one of the legacy
            API, in which `detail` is for older clients.
    """
    status = status_of(error)
    # The text of an internal error may contain a path or the text of a driver.
    message = "Something went wrong inside the service." if status == 500 else error.message
    if problem_of is None:
        body: dict[str, Any] = {
            "error": {"code": error.code, "message": message},
            "detail": message,
        }
        answer = Json(body, status_code=status)
    else:
        body = {
            "type": "about:blank",
            "title": error.code.replace("_", " ").capitalize(),
            "status": status,
            "detail": message,
            "code": error.code,
            "request_id": problem_of,
            **_members(error),
        }
        answer = Json(body, status_code=status, media_type=PROBLEM_TYPE)
    if isinstance(error, errors.UnavailableError):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.RangeError):
        answer.headers["Content-Range"] = f"bytes */{error.size_bytes}"
    if isinstance(error, errors.MissingTokenError):
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.InvalidTokenError):
        answer.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    answer.headers.update(headers or {})
    return answer
