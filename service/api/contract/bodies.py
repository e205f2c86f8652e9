"""The bodies of requests in the contract, in each form in which they are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from service.api.contract.schemas import Schema, Schemas, as_text
from service.api.flat import FlatOperation
from service.api.image_bytes import IMAGE
from service.api.render import Json
from service.api.v1.operation import BodyKind, Operation

_MULTIPART: Final = "multipart/form-data"
_FORM: Final = "application/x-www-form-urlencoded"
_BYTES: Final = ("image/*", "application/octet-stream")

_FILES: Final[Mapping[str, Mapping[str, Any]]] = {
    _MULTIPART: {
        "schema": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"description": "a file"},
        }
    }
}
"""A form of files under any names, which an operation takes that reads its body itself."""

Fields = Mapping[str, tuple[Schema, bool]]


def body_of(operation: Operation, schemas: Schemas) -> dict[str, Any] | None:
    """The body of an operation of the product API; None where it takes none."""
    if operation.body is BodyKind.NONE:
        return None
    if operation.body is BodyKind.STREAM:
        return {"required": True, "content": dict(operation.media or _FILES)}
    content: dict[str, Any] = {}
    if operation.body is not BodyKind.JSON:
        fields = schemas.fields(operation.query) if operation.query is not None else {}
        content = _photo(fields, is_closed=True)
    required = True
    if operation.takes is not None:
        content[Json.media_type] = {"schema": schemas.reference(operation.takes)}
        required = any(field.is_required() for field in operation.takes.model_fields.values())
    return {"required": required, "content": content}


def body_of_flat(operation: FlatOperation, schemas: Schemas) -> dict[str, Any] | None:
    """The body of a flat operation; None for those whose parameters are best in the query."""
    if operation.method != "POST":
        return None
    fields = schemas.fields(operation.takes)
    if operation.photo:
        return {"required": True, "content": _photo(fields)}
    form = {"schema": _form(fields, {})}
    return {"required": True, "content": dict.fromkeys((_MULTIPART, _FORM, Json.media_type), form)}


def _photo(fields: Fields, *, is_closed: bool = False) -> dict[str, Any]:
    file = {"description": "the file, or its bytes as base64"}
    text = {
        "type": "string",
        "minLength": 1,
        "contentEncoding": "base64",
        "description": "the file in base64, or a data: URL",
    }
    part = {"contentType": "image/*, application/octet-stream"}
    return {
        **{media_type: {} for media_type in _BYTES},
        _MULTIPART: {
            "schema": _form(fields, {IMAGE: file}, is_closed=is_closed),
            "encoding": {IMAGE: part},
        },
        Json.media_type: {"schema": _form(fields, {IMAGE: text}, is_closed=is_closed)},
        _FORM: {"schema": _form(fields, {IMAGE: text}, is_closed=is_closed)},
    }


def _form(fields: Fields, image: dict[str, Schema], *, is_closed: bool = False) -> Schema:
    required = [*image, *(name for name, (_, is_required) in fields.items() if is_required)]
    schema: Schema = {
        "type": "object",
        "properties": {**image, **{name: as_text(each) for name, (each, _) in fields.items()}},
    }
    if required:
        schema["required"] = required
    if is_closed:
        schema["additionalProperties"] = False
    return schema
