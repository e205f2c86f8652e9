"""Reads requests to operations: the ids of the path, the query, JSON bodies, and headers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import orjson
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response

from service.api.forms import MAX_PLAIN_BODY_BYTES, MalformedBodyError
from service.api.intake import Intake
from service.api.render import Json
from service.api.v1.models import Request
from service.api.v1.operation import V1Call
from service.domain.errors import NotFoundError, RequestError
from service.domain.names import NAME_RULE, is_name
from service.domain.people import KeptAnswer
from service.usecases.once import Once

T = TypeVar("T")

IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
IF_MATCH_HEADER: Final = "If-Match"
_ETAG: Final = re.compile(r'"(\d{1,18})"')
# A whole or decimal number, or a truth value, as JSON spells them; of few digits.
_LITERAL: Final = re.compile(r"true|false|-?(0|[1-9]\d{0,18})(\.\d{1,18})?", re.ASCII)
_NUMBER: Final = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)
_MAX_INT64: Final = 2**63 - 1
_HALF_CODE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
# A problem repeats at most this many characters of a name.
_SHOWN: Final = 64
_MAX_PROBLEMS: Final = 20
# Far more than the longest lists of ids and the largest metadata have. Each value of a body costs
# time on the event loop, an object the most: this many take a few milliseconds.
_MAX_VALUES: Final = 16_384


def parse_query(model: type[Request], values: Mapping[str, str]) -> Request:
    """The query string as a model.

    Each number and truth value has one spelling, that of JSON: a gateway that reads the query must
    not read another value.

    Raises:
        RequestError: it does not fit the model.
    """
    spelled: dict[str, Any] = dict(values)
    try:
        return _strict(model, orjson.dumps(spelled))
    except ValidationError as error:
        for name in {str(each["loc"][0]) for each in error.errors() if each["loc"]}:
            if _LITERAL.fullmatch(values.get(name, "")):
                spelled[name] = orjson.loads(values[name])
    return _validated(model, orjson.dumps(spelled), "/query")


async def read_json(
    model: type[Request], intake: Intake, headers: Headers
) -> tuple[Request, bytes]:
    """The JSON body as a model, and its bytes.

    Raises:
        MalformedBodyError: it is no JSON object in UTF-8.
        RequestError: it does not fit the model.
        BodyTooLargeError: it is too long for one without a photo.
    """
    kinds = headers.getlist("content-type")
    kind = kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""
    intake.limit(MAX_PLAIN_BODY_BYTES, of="of a body without a photo.")
    async with intake.open():
        data = b"".join([piece async for piece in intake.pieces()])
    if data and kind != "application/json" and not kind.endswith("+json"):
        raise MalformedBodyError("The body must be JSON, with 'Content-Type: application/json'.")
    return parse_json(model, data), data


def parse_json(model: type[Request], data: bytes) -> Request:
    """A JSON body as a model.

    Raises:
        MalformedBodyError: it is no JSON object in UTF-8, or an object in it has a name twice, of
            which a gateway may have read the other value.
        RequestError: it does not fit the model, or has far too many values.
    """
    data = data or b"{}"
    if sum(map(data.count, (b"{", b"[", b","))) > _MAX_VALUES:
        raise RequestError((("/body", "has more values than any request takes"),))
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise MalformedBodyError("The body must be a JSON object in UTF-8.") from None
    if not isinstance(value, dict):
        raise MalformedBodyError("The body must be a JSON object.")
    try:
        json.loads(data.decode(), object_pairs_hook=_check_names)
    except RecursionError:
        raise MalformedBodyError("The body is nested too deeply.") from None
    return _validated(model, data, "/body")


def check_ids(ids: Mapping[str, str], raw_path: bytes) -> None:
    """Check the ids of a path.

    Args:
        raw_path: the path as it was sent.

    Raises:
        RequestError: one of them can be no id, or clients and proxies would change it in a path;
            or the path is not UTF-8: the server has replaced such bytes, which makes two ids equal.
    """
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        raise RequestError((("/path", "must be percent-encoded UTF-8"),)) from None
    if _HALF_CODE.search(raw_path):
        raise RequestError((("/path", "must have two hexadecimal digits behind each %"),))
    for name, value in ids.items():
        if not is_name(value):
            raise RequestError(((f"/path/{name}", f"must have {NAME_RULE}"),))
        if value in (".", ".."):
            raise RequestError(((f"/path/{name}", "must not be '.' or '..'"),))


def number_in_path(call: V1Call, name: str, kind: str) -> int:
    """A number that is an id of the path.

    Raises:
        NotFoundError: it is no number as the API writes it, so there is no such `kind`.
    """
    given = call.ids[name]
    if not _NUMBER.fullmatch(given) or int(given) > _MAX_INT64:
        raise NotFoundError(kind)
    return int(given)


def expected_version(call: V1Call) -> int | None:
    """The version in If-Match; None without the header, and for `*`.

    Raises:
        RequestError: the header is no ETag.
    """
    given = call.headers.get(IF_MATCH_HEADER)
    if given is None or given.strip() == "*":
        return None
    match = _ETAG.fullmatch(given.strip())
    if match is None:
        raise RequestError(((f"/header/{IF_MATCH_HEADER}", 'must be one ETag, such as "3", or *'),))
    return int(match[1])


def idempotency_key(call: V1Call) -> str | None:
    """The Idempotency-Key of a request; None without the header.

    Raises:
        RequestError: the header is no key.
    """
    given = call.headers.get(IDEMPOTENCY_HEADER)
    if given is not None and not _KEY.fullmatch(given):
        raise RequestError(
            ((f"/header/{IDEMPOTENCY_HEADER}", "must have 1 to 128 printable ASCII characters"),)
        )
    return given


def once_of(
    call: V1Call, render: Callable[[T], Response], *parts: str, suffix: str = ""
) -> Once[T] | None:
    """What the Idempotency-Key of a request says; None without the header.

    Args:
        render: the answer to the result of the request.
        parts: what the request asks for, beside its path and its JSON body.
        suffix: tells the parts of one request from each other; it begins with a character that no
            key has.

    Raises:
        RequestError: the header is no key.
    """
    given = idempotency_key(call)
    if given is None:
        return None
    asked = orjson.dumps([sorted(call.ids.items()), call.path, list(parts)])
    fingerprint = hashlib.sha256(asked + call.raw_body).digest()

    def rendered(result: T) -> tuple[int, bytes]:
        answer = render(result)
        return answer.status_code, bytes(answer.body)

    return Once(given + suffix, fingerprint, rendered)


def answer(result: T | KeptAnswer, render: Callable[[T], Response]) -> Response:
    """The answer to a request that may have been done before."""
    if not isinstance(result, KeptAnswer):
        return render(result)
    return Response(
        result.body,
        result.status,
        headers={"Idempotency-Replayed": "true"},
        media_type=Json.media_type,
    )


def _check_names(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that has a name twice."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            shown = name[:_SHOWN].encode(errors="replace").decode()
            raise MalformedBodyError(f"The name {shown!r} stands twice in one JSON object.")
        seen.add(name)


def _strict(model: type[Request], data: bytes) -> Request:
    """A JSON object as a model: no value is taken for one of another type."""
    return model.model_validate_json(data, strict=True)


def _validated(model: type[Request], data: bytes, where: str) -> Request:
    try:
        return _strict(model, data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestError(
            tuple((_pointer(where, each["loc"]), each["msg"]) for each in found[:_MAX_PROBLEMS])
        ) from None


def _pointer(where: str, place: tuple[int | str, ...]) -> str:
    steps = (str(step)[:_SHOWN].replace("~", "~0").replace("/", "~1") for step in place)
    return "/".join((where, *steps))
