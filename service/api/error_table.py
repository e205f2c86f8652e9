"""When each error is answered, in words: for the contract, the page of errors, and the reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.api import errors as api_errors
from service.api.errors import status_of_kind
from service.api.forms import MalformedBodyError
from service.api.intake import UploadTimeoutError
from service.api.v1.cursors import CursorError
from service.domain import errors

WHEN: Mapping[type[errors.FacetteError], str] = MappingProxyType(
    {
        api_errors.MalformedRequestError: "the bytes are not HTTP/1.1, or can be read in more than "
        "one way",
        api_errors.PipelineTooLongError: "more than 16 requests, or 64 KiB or 100 headers of them, "
        "wait behind an unanswered one",
        errors.MissingTokenError: "no token was sent",
        errors.InvalidTokenError: "below `/v1/`: the token is neither the configured one nor a "
        "valid key; whether a key is unknown, wrong, expired or revoked is not told",
        errors.WrongTokenError: "the same on the other routes",
        errors.ConflictingTokensError: "several tokens were sent, and they differ",
        errors.ForbiddenError: "the key lacks the scope that the call needs, or may not do this",
        api_errors.OriginNotAllowedError: "a browser asks for a call that `server.cors_origins` "
        "does not allow",
        errors.NotFoundError: "the tenant has no such thing, or does not exist, or is another one "
        "than that of the key",
        api_errors.RouteNotFoundError: "no such path",
        api_errors.MethodNotAllowedError: "the path exists, but not for this method",
        api_errors.HeadTimeoutError: "the request's head took longer than `server.head_timeout_s` "
        "to arrive",
        UploadTimeoutError: "the body took longer than `server.upload_timeout_s` to arrive or, 10 "
        "s after its beginning, arrives at less than 1 KiB/s on average",
        errors.DuplicateImageError: "the tenant has a file of the same bytes, `image_id`, and "
        "`on_duplicate` is `reject`",
        errors.ExternalIdTakenError: "another person of the tenant has the external id",
        errors.IdempotencyError: "the `Idempotency-Key` was used for another request within a day",
        errors.LimitReachedError: "a limit of the tenant, `limit`, would be exceeded; nothing was "
        "stored",
        errors.FaceNotEmbeddedError: "the face to search by has no vector of the active model: its "
        "image was missing when the model was changed",
        errors.TenantTakenError: "there is a tenant of this id",
        errors.DecisionConflictError: "it contradicts `decisions`, the ids of what a person "
        "decided before; `override` lets it be the last word",
        errors.ChangeInUseError: "later changes build on the one that is to be undone; the message "
        "says which way",
        errors.ChangeUndoneError: "the change was undone before, by `undone_by`",
        errors.ChangeForGoodError: "changes of this kind, inserts and erasures, cannot be undone",
        errors.MergedPersonError: "the person was merged into another one, `merged_into`",
        errors.RangeError: "the range that is asked for begins behind the end of the file",
        errors.PreconditionError: "`If-Match` names another version than the present one",
        errors.ReviewAnsweredError: "the question was answered meanwhile, by the change "
        "`change_id`; `answer` is null where that settled it without being an answer to it",
        errors.BodyTooLargeError: "the body is longer than `server.max_body_bytes`, or than 1 MiB "
        "without a photo",
        errors.UnsupportedImageError: "the file has none of the supported formats, is a camera's "
        "raw file without a full-size preview, or holds only a preview",
        errors.CorruptImageError: "the image is damaged, or ends early",
        errors.ImageTooComplexError: "decoding would take far more processor time than photos "
        "take: too many scans, parts or numbers",
        errors.ImageTooLargeError: "the header announces more pixels than `images.max_pixels`, or, "
        "in a file that cannot be decoded at a reduced scale, than `images.max_decoded_pixels`; or "
        "more than 65,535 on a side",
        CursorError: "the cursor is none that this list gave, with these filters",
        errors.NoFaceInBoxError: "no face of the photo is where the box is",
        errors.MissingParameterError: "a required parameter was not sent",
        errors.ParameterError: "a parameter is malformed, out of its range, unknown, given twice, "
        "or contradicts another one; the query string is not UTF-8; or the text in `image` is not "
        "base64",
        MalformedBodyError: "the form or the JSON cannot be parsed, can be read in two ways, or is "
        "not UTF-8; the message says what is wrong",
        errors.OverloadedError: "the service, the tenant or the client's address has too many "
        "requests, bytes or predicted seconds of work in progress, or too many connections are "
        "open; an upload that has begun may make room for others",
        errors.RateLimitError: "the tenant sent more requests a minute than its limit "
        "`requests_per_minute`",
        api_errors.HeadTooLargeError: "the head has more than 64 KiB, or more than 100 headers",
        errors.FacetteError: "a fault of the service; its log has the details",
        errors.KeysUnavailableError: "keys can be neither made nor checked: the service has no "
        "master secret to use",
        errors.UnavailableError: "uploads cannot be taken: the temporary folder is full or "
        "missing. Nothing was stored",
        errors.ModelReplacedError: "the database was changed over to another model, which the "
        "service is loading",
        errors.StoppingError: "the service is shutting down",
        errors.StoreUnavailableError: "the database or the disk does not answer; after a failure "
        "during the commit, the change may have been made",
        errors.DeadlineError: "the answer cannot be ready in time, by `X-Request-Timeout-Ms` or "
        "`server.request_timeout_ms`",
    }
)
"""Each class whose instances are answered, and when, in words that follow the code."""


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One row of the table of errors. when: in Markdown without links."""

    status: int
    code: str
    when: str


def entries(kinds: Iterable[type[errors.FacetteError]]) -> list[ErrorEntry]:
    """The rows of these classes, each once, by status and code."""
    found = {ErrorEntry(status_of_kind(kind), kind.code, WHEN[kind]) for kind in kinds}
    return sorted(found, key=lambda each: (each.status, each.code))


def answered(kinds: Iterable[type[errors.FacetteError]]) -> list[type[errors.FacetteError]]:
    """Of these classes and all below them, those whose instances are answered."""
    return [kind for kind in WHEN if issubclass(kind, tuple(kinds))]
