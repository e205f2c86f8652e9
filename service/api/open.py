"""An operation that asks for no token: a GET without parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.api.services import ApiServices
from service.domain.errors import FacetteError

OpenHandler = Callable[[ApiServices, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class OpenOperation:
    """A GET of a path.

    name: the operationId. answers: the model or the media type of each form of the answer, the
    default first. headers: of the answer. errors: those beside the ones of every open operation.
    """

    path: str
    handler: OpenHandler
    name: str
    tag: str
    summary: str
    answers: tuple[type[BaseModel] | str, ...]
    headers: tuple[str, ...] = ()
    errors: tuple[type[FacetteError], ...] = ()
