"""Parameters of operations have one spelling, and nothing is taken for a value of another type."""

from __future__ import annotations

import pytest

from tests.api.v1.conftest import Tenant, problem


@pytest.fixture
def made(house: Tenant) -> Tenant:
    """A tenant that exists, and has nobody."""
    answer = house.client.post("/v1/tenants", json={"id": house.name})
    assert answer.status_code == 201, answer.text
    return house


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *(
            ("/people", "limit", value)
            for value in ("05", "5.0", "+5", " 5", "1_0", "0x5", "\u0665", "")
        ),
        *(("/people", "labelled", value) for value in ("1", "True", "yes", "on", "t", "null")),
        *(("/people", "hidden", value) for value in ("0", "Any", "no")),
        *(
            ("/images", "before", value)
            for value in (
                *("0.5", "1772368200", "2026-03-01", "2026-03-01T12:30:00", "2026-03-01 12:30:00Z"),
                *("2026-02-30T12:30:00Z", "0001-01-01T00:00:00+10:00", "2026-03-01T12:30Z"),
            )
        ),
        ("/people", "prefix", "a\0b"),
        ("/people", "external_id", "a\0b"),
        ("/people", "cursor", "a\0b"),
    ],
)
def test_a_parameter_of_the_query_in_another_spelling_is_refused(
    made: Tenant, path: str, name: str, value: str
) -> None:
    answer = made.call("GET", path, params={name: value})
    assert answer.status_code == 422, answer.text
    assert problem(answer) in ("invalid_parameter", "invalid_cursor")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "5", "labelled": "true"},
        {"prefix": "5", "order": "label"},
        {"hidden": "any"},
        {"external_id": "true"},
    ],
)
def test_a_text_that_looks_like_a_number_stays_a_text_where_one_is_wanted(
    made: Tenant, query: dict[str, str]
) -> None:
    assert made.ask("GET", "/people", params=query) == {"items": [], "next": None}


@pytest.mark.parametrize("time", ["2026-03-01T12:30:00Z", "2026-03-01t12:30:00.5+01:00"])
def test_times_of_rfc_3339_are_taken(made: Tenant, time: str) -> None:
    assert made.ask("GET", "/images", params={"after": time, "before": time})["items"] == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"hidden": "true"}, "/body/hidden"),
        ({"hidden": 1}, "/body/hidden"),
        ({"label": 5}, "/body/label"),
        ({"face_ids": {"0": "a"}}, "/body/face_ids"),
        ({"metadata": {"a": 2**70}}, "/body/metadata"),
        ({"metadata": {"a": "\0"}}, "/body/metadata"),
        ({"metadata": {"\0": "a"}}, "/body/metadata"),
    ],
)
def test_a_value_of_another_type_in_a_body_is_refused(
    made: Tenant, body: dict[str, object], pointer: str
) -> None:
    answer = made.call("POST", "/people", json=body)
    assert answer.status_code == 422, answer.text
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]


def test_an_escaped_backslash_in_metadata_is_no_escaped_character(made: Tenant) -> None:
    metadata = {"path": "\\u0000", "deep": ["\\\\u0000"]}
    person = made.ask("POST", "/people", 201, json={"label": "x", "metadata": metadata})
    assert person["metadata"] == metadata


@pytest.mark.parametrize("name", ["a%ffb", "%c3", "a%ed%a0%80b", "%c0%af"])
def test_a_path_that_is_not_utf_8_is_refused_and_not_repaired(house: Tenant, name: str) -> None:
    answer = house.client.get(f"/v1/tenants/{name}/people")
    assert answer.status_code == 422, answer.text
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/path"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"label": "A", "label": "A"}', "malformed_body"),
        ('{"label": "A", "l\\u0061bel": "B"}', "malformed_body"),
        ('{"label": "A", "metadata": {"team": 1, "team": 2}}', "malformed_body"),
        ('{"label": "A", "metadata": {"all": [{"\\ud800": 1, "\\ud800": 2}]}}', "malformed_body"),
        (
            '{"label": "A", "metadata": {"all": [' + "{}," * 300_000 + '0]}, "metadata": {}}',
            "invalid_parameter",
        ),
    ],
    ids=["same", "escaped", "nested", "no text", "many values"],
)
def test_a_name_that_stands_twice_in_an_object_is_refused(
    made: Tenant, body: str, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = made.call("POST", "/people", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert problem(answer) == code
    assert made.people() == []
