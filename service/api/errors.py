"""The one table from Facette's errors to HTTP, and the body every error answer has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from starlette.responses import Response

from service.api.params import UploadTimeoutError
from service.api.render import Json
from service.domain import errors


class RouteNotFoundError(errors.FacetteError):
    """There is no such route."""

    code = "route_not_found"


class MethodNotAllowedError(errors.FacetteError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"


# The first class in an error's own line of ancestors decides.
STATUS: Mapping[type[errors.FacetteError], int] = MappingProxyType(
    {
        errors.MissingTokenError: 401,
        errors.WrongTokenError: 403,
        errors.AccessError: 403,
        errors.NotFoundError: 404,
        RouteNotFoundError: 404,
        MethodNotAllowedError: 405,
        UploadTimeoutError: 408,
        errors.BodyTooLargeError: 413,
        errors.UnsupportedImageError: 415,
        errors.CorruptImageError: 422,
        errors.ImageTooLargeError: 422,
        errors.ParameterError: 422,
        errors.InputError: 422,
        errors.OverloadedError: 429,
        errors.DeadlineError: 504,
        errors.UnavailableError: 503,
        errors.FacetteError: 500,
    }
)


def status_of(error: errors.FacetteError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


def routing_error(status: int) -> errors.FacetteError:
    """The error for a request that no route takes, by the router's status."""
    if status == 405:
        return MethodNotAllowedError("This route does not take that method.")
    return RouteNotFoundError("There is no such route; see the README for the list.")


def error_response(
    error: errors.FacetteError, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to an error: a stable code and one sentence; `detail` is for older clients."""
    status = status_of(error)
    # An internal error's text may hold a path or a driver's words.
    message = "Something went wrong inside the service." if status == 500 else error.message
    answer = Json(
        {"error": {"code": error.code, "message": message}, "detail": message}, status_code=status
    )
    if isinstance(error, errors.UnavailableError):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.MissingTokenError):
        answer.headers["WWW-Authenticate"] = "Bearer"
    answer.headers.update(headers or {})
    return answer
