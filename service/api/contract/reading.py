"""The contract as a page to read: made of the document, without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from service.api.contract.style import page, prose
from service.api.error_table import WHEN, entries

_Json = Mapping[str, Any]


def reading_page(document: _Json) -> str:
    """The page as HTML: operations by tag, errors, schemas; each has an anchor."""
    return page("Facette: the contract", "\n".join(_parts(document)))


def _parts(document: _Json) -> Iterator[str]:
    tags = [tag["name"] for tag in document["tags"]]
    yield f"<h1>Facette {escape(document['info']['version'])}</h1>"
    for paragraph in document["info"]["description"].split("\n\n"):
        yield f"<p>{prose(paragraph)}</p>"
    anchors = "".join(f'<a href="#tag-{escape(tag)}">{escape(tag)}</a>' for tag in tags)
    yield (
        f'<nav>{anchors}<a href="#errors">errors</a><a href="#schemas">schemas</a>'
        '<a href="/openapi.json">openapi.json</a></nav>'
    )
    for tag in document["tags"]:
        yield f'<h2 id="tag-{escape(tag["name"])}">{escape(tag["name"].capitalize())}</h2>'
        if "description" in tag:
            yield f"<p>{prose(tag['description'])}</p>"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _operation(document, path, method, operation)
    yield from _errors()
    yield from _schemas(document)


def _operation(document: _Json, path: str, method: str, operation: _Json) -> Iterator[str]:
    name = escape(operation["operationId"])
    yield f'<details id="{name}"><summary><span class="method">{method.upper()}</span>'
    yield f"<code>{escape(path)}</code> {prose(operation['summary'])}</summary>"
    yield f"<p>{prose(operation['description'])} <a href='#{name}'>#{name}</a></p>"
    parameters = [_resolved(document, each) for each in operation.get("parameters", ())]
    if parameters:
        rows = [
            [
                f"<code>{escape(each['name'])}</code>",
                each["in"] + (", required" if each["required"] else ""),
                _type(each["schema"]),
                prose(each.get("description", "")),
            ]
            for each in parameters
        ]
        yield "<h3>Parameters</h3>" + _table(["name", "in", "type", "meaning"], rows)
    if body := operation.get("requestBody"):
        yield "<h3>Body</h3>" + _table(["media type", "content"], _content(body["content"]))
    yield "<h3>Answers</h3>"
    yield _table(["status", "content", "meaning"], list(_answers(document, operation)))
    yield "</details>"


def _answers(document: _Json, operation: _Json) -> Iterator[list[str]]:
    for status, reference in operation["responses"].items():
        answer = _resolved(document, reference)
        content = "<br>".join(
            f"<code>{escape(media)}</code> {shown}".rstrip()
            for media, shown in _content(answer.get("content", {}), plain=True)
        )
        first, _, rest = answer["description"].partition("\n")
        codes = [line.partition("`")[2].partition("`")[0] for line in rest.split("\n") if line]
        links = [f'<a href="#error-{status}-{code}">{code}</a>' for code in codes]
        yield [status, content, prose(first) + (": " + ", ".join(links) if links else "")]


def _errors() -> Iterator[str]:
    yield '<h2 id="errors">Errors</h2>'
    rows = "".join(
        f'<tr id="error-{entry.status}-{entry.code}"><td>{entry.status}</td>'
        f"<td><code>{entry.code}</code></td><td>{prose(entry.when)}</td></tr>"
        for entry in entries(WHEN)
    )
    yield f'<div class="wide"><table><tr><th>status<th>code<th>when</tr>{rows}</table></div>'


def _schemas(document: _Json) -> Iterator[str]:
    yield '<h2 id="schemas">Schemas</h2>'
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<details id="schema-{escape(name)}"><summary>{escape(name)}</summary>'
        if "description" in schema:
            yield f"<p>{prose(schema['description'])}</p>"
        required = schema.get("required", ())
        rows = [
            [
                f"<code>{escape(field)}</code>",
                _type(each),
                prose(each.get("description", "")) + (" (required)" if field in required else ""),
            ]
            for field, each in schema.get("properties", {}).items()
        ]
        yield _table(["field", "type", "meaning"], rows) if rows else f"<p>{_type(schema)}</p>"
        yield "</details>"


def _content(content: _Json, *, plain: bool = False) -> list[list[str]]:
    return [
        [media if plain else f"<code>{escape(media)}</code>", _type(each.get("schema", {}))]
        for media, each in content.items()
    ]


def _type(schema: _Json) -> str:
    """A schema in a few words; a reference as a link."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if options := schema.get("anyOf"):
        return " or ".join(map(_type, options))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    kind = schema.get("type", "")
    if kind == "array":
        return "list of " + _type(schema["items"])
    if kind == "object" and "properties" in schema:
        required = schema.get("required", ())
        fields = (
            f"<code>{escape(name)}</code>" + (" (required)" if name in required else "")
            for name in schema["properties"]
        )
        return "fields " + ", ".join(fields)
    limits = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("minLength", "at least"),
            ("maxLength", "at most"),
        )
        if key in schema
    ]
    if "default" in schema:
        limits.append(f"default {json.dumps(schema['default'])}")
    words = [schema.get("format") or kind or "bytes", *limits]
    return escape(", ".join(words))


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _resolved(document: _Json, value: _Json) -> _Json:
    """What a reference leads to, or the value itself."""
    if "$ref" not in value:
        return value
    found: Any = document
    for step in value["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)
