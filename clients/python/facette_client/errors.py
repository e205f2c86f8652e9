"""What can go wrong: the service does not answer, or it answers with an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class FacetteError(Exception):
    """Any error of the client."""


class UnreachableError(FacetteError):
    """No answer came, after all attempts.

    outcome_unknown: whether a request was sent, so that the service may have done it. The same
    request with the same idempotency key finds out.
    """

    def __init__(self, message: str, *, outcome_unknown: bool) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class AnswerError(FacetteError):
    """The service answered with an error.

    Attributes:
        status: of HTTP.
        code: stable; docs/errors.md of Facette lists them. "" where something else answered, such
            as a proxy.
        request_id: what the service's log line of the request has.
        facts: further members of the answer, such as the `limit` that is reached.
        retry_after_s: from when on another attempt may help, in seconds; None where the service
            does not say.
    """

    def __init__(
        self,
        status: int,
        code: str = "",
        detail: str = "",
        request_id: str = "",
        facts: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code or 'error'} ({status}): {detail}" if detail else f"{status}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.facts = dict(facts or {})
        self.retry_after_s = retry_after_s


class InvalidRequestError(AnswerError):
    """The request is malformed; `facts["errors"]` points to what is wrong."""


class PhotoError(InvalidRequestError):
    """The photo cannot be read, is no photo, or is too large."""


class AuthenticationError(AnswerError):
    """The key is missing, wrong, expired or revoked."""


class ForbiddenError(AnswerError):
    """The key lacks the scope for this."""


class NotFoundError(AnswerError):
    """There is no such thing in what the key reaches."""


class MergedError(NotFoundError):
    """The person was merged into another one."""

    @property
    def merged_into(self) -> str:
        """The id of the other person."""
        return str(self.facts.get("merged_into", ""))


class ConflictError(AnswerError):
    """The request contradicts what is stored; nothing was changed."""


class DecisionConflictError(ConflictError):
    """It contradicts what a person decided before; with `override` it is the last word."""

    @property
    def decisions(self) -> tuple[str, ...]:
        """The ids of the decisions."""
        return tuple(map(str, self.facts.get("decisions", ())))


class UndoError(ConflictError):
    """The change cannot be taken back; `code` says why.

    It is "change_in_use" where later changes build on it, "change_undone" where it was taken back
    before, and "change_for_good" where it has no way back.
    """


class EditedError(ConflictError):
    """Somebody changed the person since; read it again."""


class AnsweredError(EditedError):
    """The question is not open any more: it was answered, or another change settled it."""

    @property
    def change_id(self) -> str:
        """The id of the change that answered or settled it; `undo` opens the question again."""
        return str(self.facts.get("change_id", ""))

    @property
    def answer(self) -> str | None:
        """What it was answered; None where another change settled it."""
        return self.facts.get("answer")


class BusyError(AnswerError):
    """The service has too much to do, after all attempts."""


class ServiceError(AnswerError):
    """The service cannot do this at the moment, after all attempts; or it has a fault."""


class BatchEndedError(ServiceError):
    """The batch ended before the photo had a result: it was not stored, or that is unknown.

    The photo can be sent again, with `on_duplicate` "return" or by repeating the batch with its
    idempotency key. `status` and `code` are those of what ended the batch.
    """


_BY_CODE: Mapping[str, type[AnswerError]] = {
    "wrong_token": AuthenticationError,
    "conflicting_tokens": AuthenticationError,
    "unsupported_image": PhotoError,
    "corrupt_image": PhotoError,
    "image_too_complex": PhotoError,
    "image_too_large": PhotoError,
    "body_too_large": PhotoError,
    "no_face_in_box": PhotoError,
    "decision_conflict": DecisionConflictError,
    "review_answered": AnsweredError,
    "change_in_use": UndoError,
    "change_undone": UndoError,
    "change_for_good": UndoError,
}
_BY_STATUS: Mapping[int, type[AnswerError]] = {
    401: AuthenticationError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: MergedError,
    412: EditedError,
    429: BusyError,
}
_MEMBERS = frozenset(("type", "title", "status", "detail", "code", "request_id"))


def error_of(
    status: int,
    body: object,
    request_id: str,
    retry_after_s: float | None = None,
    *,
    kind: type[AnswerError] | None = None,
) -> AnswerError:
    """The error that an answer is, by its body as far as it is a problem (RFC 9457).

    Args:
        kind: of the error; by default, what status and code say.
    """
    facts: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    code, detail = facts.get("code"), facts.get("detail")
    nested = facts.get("error")
    if code is None and isinstance(nested, Mapping):  # refused before the route was known
        code = nested.get("code")
    code = code if isinstance(code, str) else ""
    kind = kind or _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = ServiceError if status >= 500 else InvalidRequestError
    return kind(
        status,
        code,
        detail if isinstance(detail, str) else "",
        str(facts.get("request_id") or request_id),
        {name: value for name, value in facts.items() if name not in _MEMBERS},
        retry_after_s,
    )
