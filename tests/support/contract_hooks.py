"""What schemathesis cannot know: photos, and ids of things that exist. Loaded by its command line.

The folder that `PHOTOS` names holds photos; `KNOWN` is a JSON object of lists of ids by the names
of the parameters that take them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData

PHOTOS: Final = "CONTRACT_PHOTOS"
KNOWN: Final = "CONTRACT_KNOWN"
_IMAGE: Final = "image"
_COMPARED: Final = {"first", "second"}
_TENANT_PATHS: Final = ("/tenant", "/{tenant_id}")
_RATE: Final = "requests_per_minute"
_UNKNOWN_HEADER: Final = "in header - object with unexpected properties"
_MAX_RATE: Final = 2**31 - 1

_photos: Final = [path.read_bytes() for path in sorted(Path(os.environ[PHOTOS]).iterdir())]
_known: Final[Mapping[str, list[str]]] = json.loads(os.environ[KNOWN])


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    """A photo, a part of one, one with some other bytes, or no photo at all."""
    photo = draw(st.sampled_from(_photos))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return photo[: draw(st.integers(0, len(photo)))]
    if kind == 1:
        start = draw(st.integers(0, len(photo)))
        return photo[:start] + draw(st.binary(max_size=8)) + photo[start + 8 :]
    if kind == 2:
        return draw(st.binary(max_size=64))
    return photo


for _media_type in ("image/*", "image/gif", "image/jpeg", "application/octet-stream"):
    schemathesis.openapi.media_type(_media_type, _files())


@schemathesis.hook
def before_generate_body(context: Any, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Put photos where a form or a JSON object has one, and ids that exist."""

    def with_photo(body: Any) -> st.SearchStrategy[Any]:
        if not isinstance(body, dict):
            return st.just(body)
        if body.keys() == _COMPARED:
            return st.fixed_dictionaries({name: _files() for name in sorted(_COMPARED)})
        if _IMAGE not in body:
            return st.one_of(st.just(body), _with_known(body))
        as_text = _files().map(lambda data: base64.b64encode(data).decode())
        return st.one_of(st.just(body), as_text.map(lambda text: {**body, _IMAGE: text}))

    return strategy.flatmap(with_photo)


@schemathesis.hook
def before_generate_path_parameters(
    context: Any, strategy: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Take ids that exist, in most cases; but never erase the tenant that has them."""
    if _erases_tenant(context):
        return strategy
    return st.one_of(strategy, strategy.flatmap(_with_known), strategy.flatmap(_with_known))


@schemathesis.hook
def before_generate_query(context: Any, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The same for the ids of the query."""
    if _erases_tenant(context):
        return strategy
    return st.one_of(strategy, strategy.flatmap(_with_known), strategy.flatmap(_with_known))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Let no tenant run into a rate: a valid one becomes the largest."""
    if isinstance(case.body, dict):
        rate = case.body.get(_RATE)
        if type(rate) is int and 1 <= rate < _MAX_RATE:
            case.body[_RATE] = _MAX_RATE


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure is one: these are what the contract says.

    A header that no operation knows is no error, a request may be given too little time, and any
    status of the client's fault refuses a request.
    """
    if response.status_code == 504:
        return "x-request-timeout-ms" not in {name.lower() for name in case.headers or {}}
    if isinstance(failure, AcceptedNegativeData):
        is_refused = 400 <= response.status_code < 500
        return not is_refused and _UNKNOWN_HEADER not in failure.message
    return True


def _erases_tenant(context: Any) -> bool:
    operation = context.operation
    return operation.method.upper() == "DELETE" and operation.path.endswith(_TENANT_PATHS)


def _with_known(parameters: Any) -> st.SearchStrategy[Any]:
    if not isinstance(parameters, dict):
        return st.just(parameters)
    return st.fixed_dictionaries(
        {
            name: st.sampled_from(_known[name]) if name in _known else st.just(value)
            for name, value in parameters.items()
        }
    )
