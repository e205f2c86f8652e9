"""Links of the contract: from an answer that holds an id to the operations that take the id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from service.api.v1.operation import Operation

_IN_PATH: Final = re.compile(r"\{(\w+)\}")
_SUFFIX: Final = "Answer"
_CURSOR: Final = "cursor"


@dataclass(frozen=True, slots=True)
class _Found:
    """An id in an answer.

    parameter: the parameter of a path that takes it. pointer: where it stands. is_own: whether it
    is the id of what the answer describes, and not of something else that it mentions.
    """

    parameter: str
    pointer: str
    is_own: bool


def path_parameters(path: str) -> list[str]:
    """The names of the parameters of a path, in order."""
    return _IN_PATH.findall(path)


def links_of(
    source: Operation, answer: type[BaseModel] | str | None, operations: Iterable[Operation]
) -> dict[str, Any]:
    """The links of an answer, by the names of the operations that they lead to.

    An operation whose path ends with an id of the answer is linked: any, where the id is that of
    what the answer describes, else those that only read. A list is linked to its next page.
    """
    if not isinstance(answer, type):
        return {}
    links: dict[str, Any] = {}
    if source.query is not None and _CURSOR in source.query.model_fields:
        next_page = _link(source, source, {})
        next_page["parameters"][f"query.{_CURSOR}"] = "$response.body#/next"
        links[source.name] = next_page
    is_erased = source.method == "DELETE"
    for found in () if is_erased else _ids(answer):
        for target in operations:
            names = path_parameters(target.path)
            if not names or names[-1] != found.parameter or target.name in links:
                continue
            if not (found.is_own or target.method == "GET"):
                continue
            known = {found.parameter: f"$response.body#{found.pointer}"}
            if set(names) <= {*known, *path_parameters(source.path)}:
                links[target.name] = _link(source, target, known)
    return links


def _link(source: Operation, target: Operation, known: Mapping[str, str]) -> dict[str, Any]:
    parameters = {
        f"path.{name}": known.get(name, f"$request.path.{name}")
        for name in path_parameters(target.path)
    }
    return {"operationId": target.name, "parameters": parameters, "description": target.summary}


def _kind(model: type[BaseModel]) -> str:
    """What a model describes, by its own name or that of the model that it extends."""
    named = (each.__name__ for each in model.__mro__ if each.__name__.endswith(_SUFFIX))
    return next(named, model.__name__).removesuffix(_SUFFIX).lower()


def _ids(model: type[BaseModel], pointer: str = "") -> Iterator[_Found]:
    for name, field in model.model_fields.items():
        if name == "id":
            yield _Found(f"{_kind(model)}_id", f"{pointer}/id", True)
        elif name.endswith("_id"):
            yield _Found(name, f"{pointer}/{name}", False)
        elif get_origin(field.annotation) is list:
            (item,) = get_args(field.annotation)
            if isinstance(item, type) and issubclass(item, BaseModel) and not pointer:
                yield from _ids(item, f"/{name}/0")
