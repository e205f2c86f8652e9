"""The schemas of the contract, made of the models of requests and answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from service.api.v1.models import Request

Schema = dict[str, Any]

SCHEMAS: Final = "#/components/schemas/"
# Fields of a form, and of a JSON object that may hold a photo, are text or whole numbers.
_AS_TEXT: Final = ("number", "boolean")


class _Untitled(GenerateJsonSchema):
    """Without the titles that only repeat the names of fields."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False


class Schemas:
    """The schemas of some models, each of which is defined once.

    Args:
        models: every model that the contract refers to.
    """

    def __init__(self, models: Iterable[type[BaseModel]]) -> None:
        inputs = [(model, _mode(model)) for model in dict.fromkeys(models)]
        self._references, found = models_json_schema(
            inputs, ref_template=SCHEMAS + "{model}", schema_generator=_Untitled
        )
        self.definitions: dict[str, Schema] = found.get("$defs", {})
        for definition in self.definitions.values():
            definition.pop("title", None)

    def reference(self, model: type[BaseModel]) -> Schema:
        """A reference to the schema of a model."""
        return dict(self._references[(model, _mode(model))])

    def fields(self, model: type[Request]) -> dict[str, tuple[Schema, bool]]:
        """The schema of each field of a model of parameters, and whether it is required.

        A parameter that is left out is null; as text it cannot be.
        """
        found = self.definitions[self.reference(model)["$ref"].rpartition("/")[2]]
        required = found.get("required", ())
        return {
            name: (_without_null(schema), name in required)
            for name, schema in found.get("properties", {}).items()
        }


def as_text(schema: Schema) -> Schema:
    """The schema of a parameter where it can only be text or a whole number."""
    if schema.get("type") in _AS_TEXT or "anyOf" in schema:
        kept = {key: schema[key] for key in ("description",) if key in schema}
        return {"type": "string", **kept}
    return schema


def _mode(model: type[BaseModel]) -> JsonSchemaMode:
    return "validation" if issubclass(model, Request) else "serialization"


def _without_null(schema: Mapping[str, Any]) -> Schema:
    kept = dict(schema)
    if kept.get("default", ...) is None:
        del kept["default"]
    options = [each for each in kept.get("anyOf", ()) if each != {"type": "null"}]
    if len(options) == 1:
        del kept["anyOf"]
        kept = {**options[0], **kept}
    elif options:
        kept["anyOf"] = options
    return kept
