"""The queue over HTTP: asked by inserts, handed out, answered, and told to who comes late."""

from __future__ import annotations

import httpx2 as httpx

from tests.api.v1.conftest import Tenant, problem
from tests.support.calls import Photos


def test_questions_are_handed_out_and_answered(house: Tenant, photos: Photos) -> None:
    house.insert(photos.both)
    listed = house.listed("/reviews", limit=1)
    assert [each["kind"] for each in listed] == ["new_person", "new_person"]
    assert house.listed("/reviews", kind="same_person") == []
    first, second = house.ask("GET", "/reviews/next", params={"reviewer": "me"})["items"]
    assert [first["id"], second["id"]] == [each["id"] for each in listed]
    assert house.ask("GET", "/reviews/next", params={"reviewer": "you"})["items"] == []
    (person,) = first["people"]
    assert house.listed("/reviews", person_id=person["id"], limit=1) == [listed[0]]
    assert house.listed("/reviews", person_id=person["id"], put_off=True) == []
    assert person["face_count"] == 1
    assert first["why"] == "1 face is of somebody without a name"
    reply = {"answer": "label", "label": "Ada"}
    headers = {"Idempotency-Key": "once"}
    path = f"/reviews/{first['id']}"
    change = house.ask("POST", path, json=reply, headers=headers)
    assert house.ask("POST", path, json=reply, headers=headers) == change
    assert change["kind"] == "review.answered"
    assert house.ask("GET", f"/people/{person['id']}")["label"] == "Ada"
    late = house.call("POST", path, json={"answer": "ignore"})
    assert (late.status_code, problem(late)) == (412, "review_answered")
    assert (late.json()["change_id"], late.json()["answer"]) == (change["id"], "label")
    house.ask("POST", f"/history/{change['id']}/undo")
    assert house.ask("GET", f"/people/{person['id']}")["label"] is None
    assert {each["id"] for each in house.listed("/reviews")} == {first["id"], second["id"]}
    into = {"answer": "same", "person_id": second["people"][0]["id"]}
    house.ask("POST", path, json=into)
    assert [each["face_count"] for each in house.people()] == [2]


def test_what_is_no_answer_is_refused_with_a_pointer(house: Tenant, photos: Photos) -> None:
    house.insert(photos.hopper)
    (question,) = house.listed("/reviews")

    def refused(**reply: str) -> str:
        answer: httpx.Response = house.call("POST", f"/reviews/{question['id']}", json=reply)
        assert answer.status_code == 422
        return str(answer.json()["errors"][0]["pointer"])

    assert refused(answer="yes") == "/body/answer"
    assert refused(answer="label") == "/body/label"
    assert refused(answer="same") == "/body/person_id"
    own = question["people"][0]["id"]
    assert refused(answer="same", person_id=own) == "/body/person_id"
    for unknown in ("0", "007", "x", str(2**63), str(2**63 - 1)):
        missing = house.call("POST", f"/reviews/{unknown}", json={"answer": "ignore"})
        assert (missing.status_code, problem(missing)) == (404, "not_found")
