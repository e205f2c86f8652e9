"""The contract: valid, complete, and made of what the router is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.api import cors
from service.api import errors as api_errors
from service.api.contract.document import build
from service.api.contract.pages import PAGES, document
from service.api.error_table import WHEN
from service.api.flat import FLAT_OPERATIONS
from service.api.operations import PROBES
from service.api.routes import build_routes
from service.api.v1.operations import OPERATIONS

CONTRACT = document()
NAMED = {each.name: each for each in (*OPERATIONS, *FLAT_OPERATIONS, *PROBES, *PAGES)}


def described() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    for path, methods in CONTRACT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to, or the value itself."""
    found: Any = CONTRACT
    for step in value["$ref"].removeprefix("#/").split("/") if "$ref" in value else ():
        found = found[step]
    return found if "$ref" in value else value


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_the_contract_is_valid_by_its_specification() -> None:
    problems = list(OpenAPIV31SpecValidator(json.loads(json.dumps(CONTRACT))).iter_errors())
    assert problems == []


def test_the_contract_has_exactly_the_routes_that_are_served() -> None:
    served = {
        (method, route.path)
        for route in build_routes(lambda: None)  # type: ignore[arg-type, return-value]
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(method, path) for method, path, _ in described()} == served


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in described()]
    assert len(names) == len(set(names)) == len(NAMED)
    assert [name for name in names if not re.fullmatch(r"[a-z][A-Za-z]+", name)] == []


def test_nothing_is_defined_that_nothing_refers_to() -> None:
    used = {reference.removeprefix("#/components/") for reference in references(CONTRACT)}
    defined = {
        f"{kind}/{name}"
        for kind, components in CONTRACT["components"].items()
        for name in components
        if kind != "securitySchemes"
    }
    assert defined == used


@pytest.mark.parametrize("name", sorted(NAMED))
def test_each_operation_says_which_scope_it_needs(name: str) -> None:
    (operation,) = (each for _, _, each in described() if each["operationId"] == name)
    scope = getattr(NAMED[name], "scope", None)
    if scope is None:
        assert operation["security"] == []
        assert "Needs no token" in operation["description"]
    else:
        assert operation["security"] == [{s: [scope]} for s in ("bearer", "apiKey", "token")]
        assert f"`{scope}`" in operation["description"]


@pytest.mark.parametrize("name", sorted({each.name for each in OPERATIONS}))
def test_each_error_that_an_operation_names_is_among_its_answers(name: str) -> None:
    (operation,) = (each for _, _, each in described() if each["operationId"] == name)
    for kind in WHEN:
        if issubclass(kind, tuple(NAMED[name].errors)):  # type: ignore[union-attr]
            answer = resolved(operation["responses"][str(api_errors.status_of_kind(kind))])
            schema = answer["content"][api_errors.PROBLEM_TYPE]["schema"]
            assert kind.code in schema["properties"]["code"]["enum"]
            assert f"- `{kind.code}`: " in answer["description"]


def test_errors_have_the_form_of_their_route() -> None:
    for _, path, operation in described():
        answer = resolved(operation["responses"]["500"])
        expected = api_errors.PROBLEM_TYPE if path.startswith("/v1/") else "application/json"
        assert list(answer["content"]) == [expected]


def test_every_answer_has_the_id_of_the_request() -> None:
    for _, _, operation in described():
        for answer in operation["responses"].values():
            assert "X-Request-Id" in resolved(answer)["headers"]


def test_links_lead_from_what_is_made_to_what_can_be_done_with_it() -> None:
    by_name = {operation["operationId"]: operation for _, _, operation in described()}

    def links(name: str, status: str) -> dict[str, Any]:
        return by_name[name]["responses"][status]["links"]

    inserted = links("insertImage", "201")
    assert {"getImage", "listFacesOfImage", "getFace", "getPerson"} <= set(inserted)
    assert inserted["getImage"]["parameters"] == {
        "path.tenant_id": "$request.path.tenant_id",
        "path.image_id": "$response.body#/image_id",
    }
    made = links("createPerson", "201")
    assert {"getPerson", "changePerson", "mergePerson", "splitPerson", "deletePerson"} <= set(made)
    assert links("listPeople", "200")["listPeople"]["parameters"] == {
        "path.tenant_id": "$request.path.tenant_id",
        "query.cursor": "$response.body#/next",
    }
    assert links("createTenant", "201")["insertImage"]["parameters"] == {
        "path.tenant_id": "$response.body#/id"
    }


def test_every_link_gives_all_parameters_of_the_path_that_it_leads_to() -> None:
    paths = {operation["operationId"]: path for _, path, operation in described()}
    for _, _, operation in described():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                wanted = set(re.findall(r"\{(\w+)\}", paths[link["operationId"]]))
                given = {name.removeprefix("path.") for name in link["parameters"]}
                assert wanted <= given


def test_an_operation_that_is_added_to_the_list_is_described() -> None:
    one = next(each for each in OPERATIONS if each.name == "getImage")
    assert list(build([one], [], [])["paths"]) == [one.path]


def test_a_page_in_a_browser_may_use_every_header_of_the_contract_from_another_origin() -> None:
    components = CONTRACT["components"]
    sent = {name.lower() for name in cors._SENT}
    assert {name.lower() for name in components["parameters"]} <= sent
    assert set(components["headers"]) - {"WWW-Authenticate"} <= set(cors._EXPOSED)
    assert {method for method, _, _ in described()} <= set(cors._METHODS)
