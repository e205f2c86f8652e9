"""Every error Facette raises on purpose, as one tree.

FacetteError
├── ConfigError                 the configuration cannot be used
│   └── ForeignBlobsError       the blob store belongs to another database
├── ModelError                  a model file or its manifest cannot be used
│   └── ProviderError           an execution provider is offered, but does not run a model
├── LostFacesError              stored faces cannot be embedded by another model
├── InputError                  the caller sent something that cannot be served
│   ├── ParameterError          a parameter is missing or malformed
│   ├── UnsupportedImageError   not an image, or not of a supported type
│   ├── CorruptImageError       an image that ends early or does not decode
│   ├── ImageTooLargeError      more pixels than the limit
│   ├── ImageTooComplexError    an image that takes far more work to decode than photos do
│   └── BodyTooLargeError       more bytes than the limit
├── AccessError
│   ├── MissingTokenError       no token was sent
│   ├── ConflictingTokensError  several tokens were sent that differ
│   └── WrongTokenError         a token was sent that is not the right one
├── NotFoundError               no such thing in this tenant
├── ArchiveError                a tenant's archive cannot be written, or not be relied on
├── TenantExistsError           a tenant cannot be imported over one that is there
├── DeadlineError               the request's time is over, or too short for what is left to do
├── WithdrawnError              the caller hung up; nobody is there to be told
└── UnavailableError            the request may be repeated later
    ├── OverloadedError         more work in flight than the limit
    ├── StoppingError           the service is shutting down
    ├── ModelReplacedError      the database is searched by another model than the running one
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


class MissingParameterError(ParameterError):
    """A required parameter was not sent."""

    code = "missing_parameter"

    def __init__(self, parameter: str, hint: str = "") -> None:
        super().__init__(parameter, f"The parameter '{parameter}' is missing. {hint}".rstrip())


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
    """A token was sent that is not the right one."""

    code = "wrong_token"

    def __init__(self) -> None:
        super().__init__("The token is not valid for this service.")


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
