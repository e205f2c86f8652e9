"""The answers of an operation in the contract: their headers, their bodies, and the errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from pydantic import BaseModel

from service.api import errors as api_errors
from service.api.contract.schemas import Schemas
from service.api.error_table import ErrorEntry, entries
from service.api.errors import PROBLEM_TYPE
from service.api.flat_models import LegacyError
from service.api.render import Json
from service.api.v1.models import Problem
from service.domain import errors

Kinds = Iterable[type[errors.FacetteError]]

REQUEST_ID: Final = "X-Request-Id"
RETRY_AFTER: Final = "Retry-After"
TIMING: Final = "Server-Timing"
REPLAYED: Final = "Idempotency-Replayed"
CHALLENGE: Final = "WWW-Authenticate"

_TEXT: Final = {"type": "string"}
HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    REQUEST_ID: {
        "description": "The id of the request, which its line in the log repeats.",
        "required": True,
        "schema": _TEXT,
    },
    RETRY_AFTER: {
        "description": "Seconds after which to send the request again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    CHALLENGE: {
        "description": "How to send a token.",
        "required": True,
        "schema": _TEXT,
    },
    TIMING: {
        "description": "Milliseconds in queue, decode, detect, embed and store.",
        "schema": _TEXT,
    },
    REPLAYED: {
        "description": "`true` where the answer is the one that was given before.",
        "schema": {"enum": ["true"]},
    },
    "ETag": {
        "description": "The version, for `If-Match` and `If-None-Match`.",
        "schema": _TEXT,
    },
    "X-Model-Space": {"description": "The space of the embeddings.", "schema": _TEXT},
    "X-Embedding-Shape": {
        "description": "Number of rows, and numbers in each.",
        "schema": {"type": "string", "pattern": r"^\d+,\d+$"},
    },
}
"""The headers of answers. Another one that an operation names is described as text."""

UNROUTED: Final[tuple[type[errors.FacetteError], ...]] = (
    api_errors.MalformedRequestError,
    api_errors.PipelineTooLongError,
    api_errors.HeadTimeoutError,
    api_errors.HeadTooLargeError,
    errors.OverloadedError,
    errors.StoppingError,
)
"""Errors of requests that no route has seen: they have the legacy form everywhere."""


class Answers:
    """Makes the answers of operations; equal errors are described once, as components."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._named: dict[str, str] = {}
        self.components: dict[str, Any] = {}

    def headers(self, names: Iterable[str]) -> dict[str, Any]:
        """References to headers."""
        return {name: {"$ref": f"#/components/headers/{name}"} for name in names}

    def success(
        self,
        forms: Iterable[type[BaseModel] | str | None],
        status: int,
        headers: Iterable[str],
        links: Mapping[str, Any],
    ) -> dict[str, Any]:
        """An answer that is no error.

        Args:
            forms: the model or the media type of each form; None for an empty body.
        """
        content: dict[str, Any] = {}
        described = HTTPStatus(status).phrase
        for form in forms:
            if isinstance(form, str):
                content[form] = {"schema": _TEXT} if form.startswith("text/") else {}
            elif form is not None:
                content[Json.media_type] = {"schema": self._schemas.reference(form)}
                described = (form.__doc__ or described).partition("\n")[0]
        answer: dict[str, Any] = {
            "description": described,
            "headers": self.headers([REQUEST_ID, *headers]),
        }
        if content:
            answer["content"] = content
        return {**answer, **({"links": dict(links)} if links else {})}

    def errors(self, kinds: Kinds, *, as_problems: bool) -> dict[str, Any]:
        """The error answers of an operation, by status, with those that no route gives.

        Args:
            as_problems: they are answered by RFC 9457.
        """
        legacy = entries(UNROUTED)
        problems: list[ErrorEntry] = []
        if as_problems:
            problems = entries(kinds)
        else:
            legacy = entries({*UNROUTED, *kinds})
        by_status: dict[int, tuple[list[ErrorEntry], list[ErrorEntry]]] = {}
        for place, found in enumerate((problems, legacy)):
            for status, group in groupby(found, key=lambda each: each.status):
                by_status.setdefault(status, ([], []))[place].extend(group)
        return {
            str(status): self._error(status, *of_status)
            for status, of_status in sorted(by_status.items())
        }

    def _error(
        self, status: int, problems: list[ErrorEntry], legacy: list[ErrorEntry]
    ) -> dict[str, str]:
        names = [REQUEST_ID]
        names += [RETRY_AFTER] if status in (429, 503) else []
        names += [CHALLENGE] if status == 401 else []
        content = {}
        if problems:
            codes = {"enum": [entry.code for entry in problems]}
            content[PROBLEM_TYPE] = {
                "schema": {**self._schemas.reference(Problem), "properties": {"code": codes}}
            }
        if legacy:
            codes = {"enum": [entry.code for entry in legacy]}
            error = {"properties": {"code": codes}}
            content[Json.media_type] = {
                "schema": {**self._schemas.reference(LegacyError), "properties": {"error": error}}
            }
        rows = dict.fromkeys(f"- `{entry.code}`: {entry.when}" for entry in (*problems, *legacy))
        answer = {
            "description": "\n".join([f"{HTTPStatus(status).phrase}\n", *rows]),
            "headers": self.headers(names),
            "content": content,
        }
        return {"$ref": f"#/components/responses/{self._component(status, answer)}"}

    def _component(self, status: int, answer: dict[str, Any]) -> str:
        text = repr(answer)
        if text not in self._named:
            count = sum(name.partition("_")[0] == f"E{status}" for name in self._named.values())
            self._named[text] = f"E{status}" if not count else f"E{status}_{count + 1}"
            self.components[self._named[text]] = answer
        return self._named[text]
