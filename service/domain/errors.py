"""Every error Facette raises on purpose, as one tree.

FacetteError
├── ConfigError                 the configuration cannot be used
│   └── ForeignBlobsError       the blob store belongs to another database
├── ModelError                  a model file or its manifest cannot be used
│   └── ProviderError           an execution provider is offered, but does not run a model
├── LostFacesError              stored faces cannot be embedded by another model
├── InputError                  the caller sent something that cannot be served
│   ├── ParameterError          a parameter is missing or malformed
│   │   └── RequestError        parts of a request are not what they should be
│   │   └── NoFaceInBoxError    no face of the photo is where the caller says
│   ├── UnsupportedImageError   not an image, or not of a supported type
│   ├── CorruptImageError       an image that ends early or does not decode
│   ├── ImageTooLargeError      more pixels than the limit
│   ├── ImageTooComplexError    an image that takes far more work to decode than photos do
│   └── BodyTooLargeError       more bytes than the limit
├── AccessError
│   ├── MissingTokenError       no token was sent
│   ├── ConflictingTokensError  several tokens were sent that differ
│   ├── WrongTokenError         a token was sent that is neither the configured one nor a key
│   │   └── InvalidTokenError   the same on a route under /v1
│   └── ForbiddenError          the key may not do this
├── NotFoundError               no such thing in this tenant
├── RangeError                  a range beyond the file
├── MergedPersonError           the person was merged into another one
├── PreconditionError           what is to be changed was changed meanwhile
│   └── ReviewAnsweredError     the question was answered meanwhile
├── ConflictError               what was asked for contradicts what is there
│   ├── ExternalIdTakenError    another person has the external id
│   ├── TenantTakenError        there is a tenant of this id
│   ├── DuplicateImageError     the tenant has the file already
│   ├── LimitReachedError       a limit of the tenant
│   ├── DecisionConflictError   a person decided otherwise before
│   ├── ChangeInUseError        later changes build on the one to be undone
│   ├── ChangeUndoneError       the change was undone before
│   ├── ChangeForGoodError      the change is of a kind that cannot be undone
│   └── IdempotencyError        the Idempotency-Key was used for another request
├── FaceNotEmbeddedError        a stored face has no vector of the active model
├── ArchiveError                a tenant's archive cannot be written, or not be relied on
├── TenantExistsError           a tenant cannot be imported over one that is there
├── DeadlineError               the request's time is over, or too short for what is left to do
├── WithdrawnError              the caller hung up; nobody is there to be told
└── UnavailableError            the request may be repeated later
    ├── OverloadedError         more work in flight than the limit
    ├── RateLimitError          more requests a minute than the tenant may send
    ├── StoppingError           the service is shutting down
    ├── ModelReplacedError      the database is searched by another model than the running one
    ├── KeysUnavailableError    keys cannot be checked, for want of the master secret
    └── StoreUnavailableError   the database or the blob store does not answer

`code` is stable: clients may switch on it. A message is one sentence for a person; it never holds
another error's text, a path or a statement.
"""

from __future__ import annotations

from typing import ClassVar


class FacetteError(Exception):
    """Root of the tree; `code` is part of the API."""

    code: ClassVar[str] = "internal_error"

    @property
    def message(self) -> str:
        """One helpful sentence for the caller."""
        return str(self)


class ConfigError(FacetteError):
    """The configuration cannot be used; the message names setting and line."""

    code = "config_invalid"


class ForeignBlobsError(ConfigError):
    """The blob store is marked as another database's: its blobs are none of ours to judge."""

    code = "foreign_blobs"

    def __init__(self, owner: str, database_id: str) -> None:
        super().__init__(
            f"the photos there belong to the database {owner}, and this one is {database_id}: "
            "correct paths.upload_dir, blobs.url or [database]; or, if they are this database's, "
            "remove facette-database.txt from among them"
        )
        self.owner = owner
        self.database_id = database_id


class ModelError(FacetteError):
    """A model file or its manifest cannot be used."""

    code = "model_invalid"


class ProviderError(ModelError):
    """An execution provider is offered, but does not run a model."""

    code = "provider_failed"


class LostFacesError(FacetteError):
    """Stored faces cannot be embedded by another model, for want of their images."""

    code = "faces_lost"


class InputError(FacetteError):
    """The caller sent something that cannot be served."""

    code = "bad_request"


class ParameterError(InputError):
    """A parameter is missing or malformed."""

    code = "invalid_parameter"

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class RequestError(ParameterError):
    """Parts of a request are not what they should be.

    problems: for each, a pointer to it, such as `/body/label`, and what is wrong.
    """

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        pointer, detail = problems[0]
        super().__init__(pointer, f"{pointer}: {detail}")
        self.problems = problems


class MissingParameterError(ParameterError):
    """A required parameter was not sent."""

    code = "missing_parameter"

    def __init__(self, parameter: str, hint: str = "") -> None:
        super().__init__(parameter, f"The parameter '{parameter}' is missing. {hint}".rstrip())


class NoFaceInBoxError(ParameterError):
    """No face of the photo is in the box that the caller sent.

    faces: the number of faces of the photo.
    """

    code = "no_face_in_box"

    def __init__(self, faces: int) -> None:
        super().__init__(
            "box",
            "No face of the photo has its centre in the box, nor the box its centre in a face; "
            f"the photo shows {faces}. A box is in pixels of the upright photo.",
        )
        self.faces = faces


class UnsupportedImageError(InputError):
    """The bytes are no image of a supported type."""

    code = "unsupported_image"


class CorruptImageError(InputError):
    """The image starts like one of a supported type but cannot be decoded to its end."""

    code = "corrupt_image"


class ImageTooLargeError(InputError):
    """The image's header announces more pixels than the limit, or a longer side.

    setting: the name of the setting that is the limit.
    """

    code = "image_too_large"

    def __init__(
        self, width: int, height: int, max_pixels: int, max_side: int, setting: str
    ) -> None:
        super().__init__(
            f"The image is {width} x {height} pixels; at most {max_pixels} pixels ({setting}) are "
            f"accepted of such a file, and {max_side} on a side."
        )
        self.width = width
        self.height = height
        self.max_pixels = max_pixels
        self.max_side = max_side
        self.setting = setting


class ImageTooComplexError(InputError):
    """The image would take far more processor time than photos of its size do."""

    code = "image_too_complex"

    def __init__(self) -> None:
        super().__init__(
            "The image file has so many parts, or such odd ones, that it is not decoded; save it "
            "anew with another program."
        )


class BodyTooLargeError(InputError):
    """The request body is longer than the limit."""

    code = "body_too_large"

    def __init__(self, max_bytes: int, of: str = "") -> None:
        limit = f"{max_bytes} bytes {of}".rstrip()
        super().__init__(f"The request body is larger than the limit of {limit}.")
        self.max_bytes = max_bytes


class AccessError(FacetteError):
    """The caller may not do this."""

    code = "access_denied"


class MissingTokenError(AccessError):
    """No token was sent."""

    code = "missing_token"

    def __init__(self) -> None:
        super().__init__(
            "Send the token as 'Authorization: Bearer <token>', or in a 'token' or 'x-api-key' "
            "header."
        )


class ConflictingTokensError(AccessError):
    """The head has several tokens, and they differ."""

    code = "conflicting_tokens"

    def __init__(self) -> None:
        super().__init__("The request has several tokens that differ; send one.")


class WrongTokenError(AccessError):
    """A token was sent that is not the configured one, and no valid key.

    Whether a key is unknown, wrong, expired or revoked is not told.
    """

    code = "wrong_token"

    def __init__(self) -> None:
        super().__init__("The token is not valid for this service.")


class InvalidTokenError(WrongTokenError):
    """The same on a route under /v1, which answers it as RFC 6750 does."""


class ForbiddenError(AccessError):
    """The caller is known, and may not do this."""

    code = "forbidden"


class DeadlineError(FacetteError):
    """The request's time is over, or what remains of it is too short for what is left to do."""

    code = "deadline_exceeded"


class WithdrawnError(FacetteError):
    """The caller hung up; nothing more is done for the request."""

    code = "client_gone"


class NotFoundError(FacetteError):
    """No such thing in this tenant (it may well exist in another: the caller is not told)."""

    code = "not_found"

    def __init__(self, kind: str) -> None:
        super().__init__(f"There is no such {kind}.")
        self.kind = kind


class RangeError(FacetteError):
    """The range that a client asks for is beyond the file."""

    code = "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range is beyond the file of {size_bytes} bytes.")
        self.size_bytes = size_bytes


class MergedPersonError(FacetteError):
    """The person was merged into another one, `merged_into`."""

    code = "person_merged"

    def __init__(self, merged_into: str) -> None:
        super().__init__(f"The person was merged into {merged_into}.")
        self.merged_into = merged_into


class PreconditionError(FacetteError):
    """What is to be changed is not as the caller saw it last."""

    code = "precondition_failed"

    def __init__(self) -> None:
        super().__init__(
            "Somebody changed it since this ETag was given; read it again and decide anew."
        )


class ReviewAnsweredError(PreconditionError):
    """A question is not open any more; nothing was changed.

    change_id: of the change that answered it, or settled it otherwise. answer: None where it did
    the latter.
    """

    code = "review_answered"

    def __init__(self, change_id: str, answer: str | None) -> None:
        said = "settled by another change" if answer is None else f"answered '{answer}'"
        FacetteError.__init__(
            self,
            f"The question was {said} meanwhile; undo the change {change_id} to open it again.",
        )
        self.change_id = change_id
        self.answer = answer


class ConflictError(FacetteError):
    """What was asked for contradicts what is there."""

    code = "conflict"


class ExternalIdTakenError(ConflictError):
    """Another person of the tenant has the external id."""

    code = "external_id_taken"

    def __init__(self) -> None:
        super().__init__("Another person of the tenant has this external id already.")


class TenantTakenError(ConflictError):
    """A tenant with this id exists already."""

    code = "tenant_exists"

    def __init__(self) -> None:
        super().__init__("There is a tenant with this id already.")


class DuplicateImageError(ConflictError):
    """The tenant has a file of the same bytes already, `image_id`."""

    code = "duplicate_image"

    def __init__(self, image_id: str) -> None:
        super().__init__(f"The tenant has this file already, as image {image_id}.")
        self.image_id = image_id


class LimitReachedError(ConflictError):
    """A limit of the tenant would be exceeded; nothing was stored."""

    code = "limit_reached"

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(f"The tenant's limit {limit} of {maximum} would be exceeded.")
        self.limit = limit
        self.maximum = maximum


class IdempotencyError(ConflictError):
    """The Idempotency-Key was used for another request within a day."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "The Idempotency-Key was used for a request with other content; use a new key."
        )


class DecisionConflictError(ConflictError):
    """What was asked for contradicts what a person decided before: `decisions`, their ids."""

    code = "decision_conflict"

    def __init__(self, decisions: tuple[str, ...]) -> None:
        super().__init__(
            "A person decided otherwise before; send `override` to let this be the last word."
        )
        self.decisions = decisions


class ChangeInUseError(ConflictError):
    """A change cannot be undone, since later ones build on it."""

    code = "change_in_use"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The change cannot be undone: {reason}.")


class ChangeUndoneError(ConflictError):
    """The change was undone before, by the change `undone_by`."""

    code = "change_undone"

    def __init__(self, undone_by: str) -> None:
        super().__init__(f"The change was undone by the change {undone_by}; undo that one to redo.")
        self.undone_by = undone_by


class ChangeForGoodError(ConflictError):
    """The change is of a kind that cannot be undone: an insert, or an erasure."""

    code = "change_for_good"

    def __init__(self, kind: str) -> None:
        super().__init__(f"A change of the kind {kind} cannot be undone.")


class FaceNotEmbeddedError(FacetteError):
    """A stored face has no vector of the active model, so that it cannot be searched by."""

    code = "face_not_embedded"

    def __init__(self) -> None:
        super().__init__(
            "The face has no vector of the active model: its image was not available when the "
            "model was changed. Search by a photo instead."
        )


class ArchiveError(FacetteError):
    """A tenant's archive cannot be written, or what is in it is not what it should be."""

    code = "archive_invalid"


class TenantExistsError(FacetteError):
    """A tenant of this name is there already; an import never changes one."""

    code = "tenant_exists"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            f"there is a tenant {tenant_id!r} already, and nothing was imported: delete it first, "
            "or import under another name with --as"
        )
        self.tenant_id = tenant_id


class UnavailableError(FacetteError):
    """The request may be repeated after `retry_after_s` seconds."""

    code = "unavailable"
    retry_after_s: int = 1


class OverloadedError(UnavailableError):
    """More work is in flight than the limit; `retry_after_s` is when it may be less."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitError(UnavailableError):
    """The tenant sent more requests a minute than it may; `retry_after_s` is when it may again."""

    code = "rate_limited"

    def __init__(self, requests_per_minute: int, *, retry_after_s: int) -> None:
        super().__init__(
            f"The tenant may send {requests_per_minute} requests a minute; try again later."
        )
        self.retry_after_s = retry_after_s


class StoppingError(UnavailableError):
    """The service is shutting down and takes no new work."""

    code = "stopping"
    retry_after_s = 5


class ModelReplacedError(UnavailableError):
    """The database is searched by another model now, which the service is about to load."""

    code = "model_replaced"
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__("The service is changing to another model; try again shortly.")


class KeysUnavailableError(UnavailableError):
    """Keys can be neither made nor checked, because the service has no master secret to use.

    The configured token works all the same.
    """

    code = "keys_unavailable"
    retry_after_s = 60


class StoreUnavailableError(UnavailableError):
    """The database or the blob store does not answer.

    `outcome_unknown` is true when the connection broke while a commit was under way, so that the
    transaction may or may not have taken effect.
    """

    code = "store_unavailable"
    retry_after_s = 5

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown
