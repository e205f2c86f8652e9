"""Events: what happens is told in order, also to who was away, until the tenant is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.api.v1.conftest import Tenant, problem
from tests.support.calls import Photos


def _events(answer: httpx.Response) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, kind and data of each event."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "event" in fields:
            yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
        fields = {}


def _kinds(house: Tenant, after: str, count: int) -> list[tuple[str, str, dict[str, Any]]]:
    """The first events after one of them."""
    headers = {"Last-Event-ID": after}
    url = f"/v1/tenants/{house.name}/events"
    with house.client.stream("GET", url, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = _events(answer)
        return [next(events) for _ in range(count)]


def test_events_come_as_they_happen_and_can_be_read_again(house: Tenant, photos: Photos) -> None:
    house.client.post("/v1/tenants", json={"id": house.name})
    url = f"/v1/tenants/{house.name}/events"
    with house.client.stream("GET", url, timeout=30) as answer:
        events = _events(answer)
        image = house.insert(photos.hopper)
        first = next(events)
        assert first[1] == "image.inserted"
        assert first[2]["image_id"] == image["image_id"]
        assert first[2]["person_ids"] == [image["faces"][0]["person_id"]]
        person = image["faces"][0]["person_id"]
        house.ask("PATCH", f"/people/{person}", json={"label": "G"})
        second = next(events)
        assert (second[1], second[2]["person_id"]) == ("person.changed", person)
        assert "G" not in json.dumps(second[2])
        house.ask("DELETE", f"/images/{image['image_id']}")
        third = next(events)
        assert third[1] == "image.deleted"
    assert _kinds(house, first[0], 2) == [second, third]
    assert [kind for _, kind, _ in _kinds(house, "0", 3)] == [
        "tenant.created",
        "person.changed",
        "image.deleted",
    ]


def test_a_stream_that_breaks_before_its_first_event_can_be_gone_on_with(
    house: Tenant, photos: Photos
) -> None:
    house.insert(photos.nobody)
    with house.client.stream("GET", f"/v1/tenants/{house.name}/events", timeout=30) as answer:
        name, _, begins = next(answer.iter_lines()).partition(": ")
    assert name == "id"
    image = house.insert(photos.hopper)
    ((_, kind, facts),) = _kinds(house, begins, 1)
    assert (kind, facts["image_id"]) == ("image.inserted", image["image_id"])


def test_a_stream_ends_with_its_tenant(house: Tenant, photos: Photos) -> None:
    house.insert(photos.nobody)
    url = f"/v1/tenants/{house.name}/events"
    with house.client.stream("GET", url, timeout=30) as answer:
        events = _events(answer)
        house.ask("DELETE", "")
        assert next(events)[1] == "tenant.deleted"
        assert list(events) == []


def test_a_stream_of_a_tenant_that_does_not_exist(house: Tenant) -> None:
    answer = house.call("GET", "/events")
    assert (answer.status_code, problem(answer)) == (404, "not_found")


@pytest.mark.parametrize("given", ["x", "-1", "1" * 30])
def test_a_malformed_last_event_is_refused(house: Tenant, photos: Photos, given: str) -> None:
    house.insert(photos.nobody)
    answer = house.call("GET", "/events", headers={"Last-Event-ID": given})
    assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")
