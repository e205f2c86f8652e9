"""The contract as a document: OpenAPI 3.1, made of the lists of operations and nothing else.

Source: the OpenAPI Specification, version 3.1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from service import __version__
from service.api.contract.answers import HEADERS, REPLAYED, TIMING, Answers
from service.api.contract.bodies import body_of, body_of_flat
from service.api.contract.links import links_of, path_parameters
from service.api.contract.schemas import SCHEMAS, Schemas
from service.api.error_table import answered
from service.api.errors import has_problems
from service.api.flat import FlatOperation
from service.api.flat_models import LegacyError
from service.api.forms import MalformedBodyError
from service.api.intake import UploadTimeoutError
from service.api.open import OpenOperation
from service.api.params import MAX_TIMEOUT_MS
from service.api.v1.cursors import CursorError
from service.api.v1.models import Problem
from service.api.v1.operation import BodyKind, Operation
from service.api.v1.requests import IDEMPOTENCY_HEADER, IF_MATCH_HEADER
from service.domain import errors
from service.domain.keys import Scope
from service.domain.names import MAX_NAME_LENGTH, NAME_RULE

_SUMMARY: Final = """\
Face recognition that you host yourself: photos go in, and people come out.

A caller shows a token: the configured one, or an access key, which is bound to one tenant or to all
and has the scopes `read`, `write` or `admin`; each contains the ones before it. Another tenant's id
is answered like one that does not exist.

Lists have `items` and `next`, a cursor for the following page, null on the last one. Times are
RFC 3339 in UTC, and boxes are in pixels of the upright image. Errors below `/v1/` are problems by
RFC 9457, the others have the legacy form; `code` is stable in both."""

_TAGS: Final[Mapping[str, str]] = {
    "images": "Photos of a tenant.",
    "faces": "Faces on the photos.",
    "people": "Groups of faces that are one human being.",
    "tenants": "Closed worlds of photos and people.",
    "recognition": "Detection and embedding; nothing is stored.",
    "legacy": "The API of the service that Facette replaces. A person is called a cluster there, "
    "with the same id. Parameters stand in the query string, in a form or in a JSON object.",
    "operations": "For operators and their tools; they may be on a port of their own.",
    "contract": "What there is, to read.",
}
"""The order of the groups of operations, and what each is about. Further ones follow."""

_SECURITY: Final[Mapping[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The token or an access key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "token",
        "description": "The header of the legacy API; it is taken everywhere.",
    },
}

_TIMEOUT: Final = "X-Request-Timeout-Ms"
_PRIORITY: Final = "X-Priority"
_IF_NONE_MATCH: Final = "If-None-Match"
_HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    _TIMEOUT: {
        "description": "Milliseconds in which the answer is of use, in place of "
        "`server.request_timeout_ms`.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    },
    _PRIORITY: {
        "description": "`bulk` marks work that may wait.",
        "schema": {"enum": ["interactive", "bulk"], "default": "interactive"},
    },
    IDEMPOTENCY_HEADER: {
        "description": "The same request with the same key is done once, and answered alike for a "
        "day.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    IF_MATCH_HEADER: {
        "description": "The `ETag` of the version to change; another one is not changed.",
        "schema": {
            "type": "string",
            "pattern": r'^("[0-9]{1,18}"|\*)$',
            "examples": ['"1"', "*"],
        },
    },
    _IF_NONE_MATCH: {
        "description": "An `ETag` that the client has; the answer is 304 where it is still right.",
        "schema": {"type": "string"},
    },
}
"""The headers of requests. Another one that an operation names is described as text."""

# What can be wrong with any request of an authenticated caller.
_ALWAYS: Final[tuple[type[errors.FacetteError], ...]] = (
    errors.MissingTokenError,
    errors.ConflictingTokensError,
    errors.ForbiddenError,
    errors.ParameterError,
    errors.BodyTooLargeError,
    errors.OverloadedError,
    errors.RateLimitError,
    errors.FacetteError,
    errors.KeysUnavailableError,
    errors.ModelReplacedError,
    errors.StoppingError,
    errors.StoreUnavailableError,
)
_OF_BODIES: Final = (MalformedBodyError, UploadTimeoutError)
_OF_PHOTOS: Final = (
    *_OF_BODIES,
    errors.MissingParameterError,
    errors.UnsupportedImageError,
    errors.CorruptImageError,
    errors.ImageTooLargeError,
    errors.ImageTooComplexError,
    errors.DeadlineError,
    errors.UnavailableError,
)
_OPEN: Final = (errors.BodyTooLargeError, errors.FacetteError, errors.StoppingError)

_Found = tuple[str, str, dict[str, Any]]


def build(
    operations: Sequence[Operation],
    flat: Sequence[FlatOperation],
    unguarded: Sequence[OpenOperation],
) -> dict[str, Any]:
    """The document.

    Args:
        operations: those of the product API.
        flat: those whose parameters are flat.
        unguarded: those that ask for no token.
    """
    schemas = Schemas(_models(operations, flat, unguarded))
    answers = Answers(schemas)
    found = [
        *(_operation(each, operations, schemas, answers) for each in operations),
        *(_flat_operation(each, schemas, answers) for each in flat),
        *(_open_operation(each, answers) for each in unguarded),
    ]
    paths: dict[str, dict[str, Any]] = {}
    for path, method, described in found:
        paths.setdefault(path, {})[method] = described
    used = dict.fromkeys(described["tags"][0] for _, _, described in found)
    named = {
        name
        for each in (*answers.components.values(), *_successes(found))
        for name in each["headers"]
    }
    document = {
        "openapi": "3.1.1",
        "info": {
            "title": "Facette",
            "version": __version__,
            "description": _SUMMARY,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": name, **({"description": _TAGS[name]} if name in _TAGS else {})}
            for name in sorted(
                used, key=lambda each: list(_TAGS).index(each) if each in _TAGS else len(_TAGS)
            )
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "responses": answers.components,
            "headers": {
                name: HEADERS.get(name, {"schema": {"type": "string"}}) for name in sorted(named)
            },
            "parameters": {name: _header_parameter(name) for name in _used_headers(found)},
            "securitySchemes": _SECURITY,
        },
    }
    # Those of parameters alone stand in the operations.
    referred = _referred(document["paths"], answers.components, schemas.definitions)
    for name in schemas.definitions.keys() - referred:
        del schemas.definitions[name]
    return document


def _models(
    operations: Iterable[Operation],
    flat: Iterable[FlatOperation],
    unguarded: Iterable[OpenOperation],
) -> Iterator[type[BaseModel]]:
    yield from (Problem, LegacyError)
    for each in operations:
        yield from (model for model in (each.takes, each.query) if model is not None)
        yield from (answer for answer in each.answers.values() if isinstance(answer, type))
    for flat_one in flat:
        yield flat_one.takes
        yield from (answer for answer in flat_one.answers if isinstance(answer, type))
    for open_one in unguarded:
        yield from (answer for answer in open_one.answers if isinstance(answer, type))


def _operation(
    operation: Operation, operations: Sequence[Operation], schemas: Schemas, answers: Answers
) -> _Found:
    is_analysed = operation.body in (BodyKind.PHOTO, BodyKind.PHOTO_OR_JSON, BodyKind.STREAM)
    headers = [_TIMEOUT, *([_PRIORITY] if is_analysed else []), *operation.headers]
    names = path_parameters(operation.path)
    kinds: list[type[errors.FacetteError]] = [*_ALWAYS, errors.InvalidTokenError]
    kinds += [errors.NotFoundError] if names else []
    kinds += [CursorError] if _has_cursor(operation) else []
    kinds += [errors.IdempotencyError] if IDEMPOTENCY_HEADER in operation.headers else []
    if operation.body is not BodyKind.NONE:
        kinds += _OF_PHOTOS if is_analysed else _OF_BODIES
    kinds += answered(operation.errors)
    of_success = list(operation.answer_headers)
    of_success += [TIMING] if is_analysed and operation.body is not BodyKind.STREAM else []
    of_success += [REPLAYED] if IDEMPOTENCY_HEADER in operation.headers else []
    described = _described(
        operation, operation.scope,
        [
            *(_path_parameter(name) for name in names),
            *_query_parameters(operation.query, schemas),
            *({"$ref": f"#/components/parameters/{name}"} for name in headers),
        ],
        body_of(operation, schemas),
    )  # fmt: skip
    described["responses"] = {
        **{
            str(status): answers.success(
                [form], status, of_success, links_of(operation, form, operations)
            )
            for status, form in operation.answers.items()
        },
        **answers.errors(kinds, as_problems=True),
    }
    return operation.path, operation.method.lower(), described


def _flat_operation(operation: FlatOperation, schemas: Schemas, answers: Answers) -> _Found:
    is_post = operation.method == "POST"
    as_problems = has_problems(operation.path)
    kinds: list[type[errors.FacetteError]] = [
        *_ALWAYS, errors.MissingParameterError, errors.NotFoundError, *_OF_BODIES,
        errors.InvalidTokenError if as_problems else errors.WrongTokenError,
        *(_OF_PHOTOS if operation.photo else ()), *answered(operation.errors),
    ]  # fmt: skip
    headers = [_TIMEOUT, *([_PRIORITY] if operation.photo else [])]
    # Of a POST, a parameter may stand in the body as well.
    parameters = [
        {**each, "required": each["required"] and not is_post}
        for each in _query_parameters(operation.takes, schemas)
    ]
    described = _described(
        operation, operation.scope,
        [
            *(parameters if operation.photo or not is_post else ()),
            *({"$ref": f"#/components/parameters/{name}"} for name in headers),
        ],
        body_of_flat(operation, schemas),
    )  # fmt: skip
    of_success = [*operation.answer_headers, *([TIMING] if operation.photo else [])]
    described["responses"] = {
        "200": answers.success(operation.answers, 200, of_success, {}),
        **answers.errors(kinds, as_problems=as_problems),
    }
    return operation.path, operation.method.lower(), described


def _open_operation(operation: OpenOperation, answers: Answers) -> _Found:
    is_kept = "ETag" in operation.headers
    parameters = [{"$ref": f"#/components/parameters/{_IF_NONE_MATCH}"}] if is_kept else []
    described = _described(operation, None, parameters, None)
    unchanged = {"304": answers.success([], 304, operation.headers, {})} if is_kept else {}
    described["responses"] = {
        "200": answers.success(operation.answers, 200, operation.headers, {}),
        **unchanged,
        **answers.errors(
            [*_OPEN, *answered(operation.errors)], as_problems=has_problems(operation.path)
        ),
    }
    return operation.path, "get", described


def _described(
    operation: Operation | FlatOperation | OpenOperation,
    scope: Scope | None,
    parameters: list[dict[str, Any]],
    body: dict[str, Any] | None,
) -> dict[str, Any]:
    needs = "Needs no token." if scope is None else f"Needs the scope `{scope}`."
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"{operation.summary}. {needs}",
        "security": [] if scope is None else [{name: [str(scope)]} for name in _SECURITY],
    }
    if parameters:
        described["parameters"] = parameters
    if body is not None:
        described["requestBody"] = body
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": f"An id: {NAME_RULE}.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH},
    }


def _query_parameters(model: Any, schemas: Schemas) -> list[dict[str, Any]]:
    if model is None:
        return []
    found = []
    for name, (schema, required) in schemas.fields(model).items():
        kept = dict(schema)
        described = {"description": kept.pop("description")} if "description" in kept else {}
        found.append(
            {"name": name, "in": "query", "required": required, **described, "schema": kept}
        )
    return found


def _used_headers(found: Iterable[_Found]) -> list[str]:
    """The headers of requests that an operation refers to."""
    references = (
        each["$ref"]
        for _, _, described in found
        for each in described.get("parameters", ())
        if "$ref" in each
    )
    return sorted({reference.rpartition("/")[2] for reference in references})


def _header_parameter(name: str) -> dict[str, Any]:
    described = _HEADERS.get(name, {"schema": {"type": "string"}})
    return {"name": name, "in": "header", "required": False, **described}


def _has_cursor(operation: Operation) -> bool:
    return operation.query is not None and "cursor" in operation.query.model_fields


def _referred(paths: Any, responses: Any, definitions: Mapping[str, Any]) -> set[str]:
    """The names of the schemas that are referred to, directly or by others."""
    found: set[str] = set()
    waiting = {*_references(paths), *_references(responses)}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= set(_references(definitions[name])) - found
    return found


def _references(value: Any) -> Iterator[str]:
    """The names of the schemas that a part of the document refers to."""
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(SCHEMAS):
            yield reference.removeprefix(SCHEMAS)
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _successes(found: Iterable[_Found]) -> Iterator[Mapping[str, Any]]:
    for _, _, described in found:
        yield from (each for each in described["responses"].values() if "$ref" not in each)
