"""Tenants: one never sees, changes or matches what belongs to another."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from tests.support.calls import (
    BY_ID,
    Photos,
    assert_error,
    call,
    change,
    insert,
    is_gone,
    only_cluster,
    only_face,
    read,
    reviews,
    state_of,
    stored,
    stored_file,
    uploads,
)

ODD = [
    "Zürich 東京 🙂",
    "a/b/c",
    "../../../etc",
    "..",
    ".",
    "/",
    "\\\\host\\share",
    'it\'s "quoted"; DROP TABLE tenant; --',
    " spaces around ",
    "%2e%2e%2f",
    "{}${HOME}$(id)`id`",
    "-rf",
    "null",
    "א ב",
    "x" * 128,
    "東" * 128,
]


@pytest.fixture
def owned(client: httpx.Client, tenant: str, photos: Photos) -> dict[str, Any]:
    """What a first tenant has, by parameter name."""
    answer = insert(client, tenant, photos.astronaut)
    return {
        "image_id": answer["image_id"],
        "face_id": only_face(answer),
        "cluster_id": only_cluster(answer),
        "to_cluster_id": only_cluster(answer),
        "from_cluster_id": only_cluster(answer),
        "into_cluster_id": only_cluster(answer),
        "review_id": reviews(client, tenant)[0]["id"],
    }


@pytest.mark.parametrize(("method", "path", "names"), BY_ID)
@pytest.mark.parametrize("stranger_is", ["unknown", "known"])
def test_an_id_of_another_tenant_is_not_found_and_nothing_changes(
    client: httpx.Client,
    tenant: str,
    owned: dict[str, Any],
    photos: Photos,
    stranger_is: str,
    method: str,
    path: str,
    names: tuple[str, ...],
) -> None:
    stranger = f"{tenant}-stranger"
    if stranger_is == "known":
        insert(client, stranger, photos.nobody)
    before = state_of(client, tenant, owned["image_id"])
    given = {name: owned[name] for name in names}
    assert_error(call(client, method, path, tenant_id=stranger, **given), 404, "not_found")
    assert state_of(client, tenant, owned["image_id"]) == before


def test_a_face_cannot_join_another_tenants_cluster(
    client: httpx.Client, tenant: str, owned: dict[str, Any], photos: Photos
) -> None:
    stranger = f"{tenant}-stranger"
    own = insert(client, stranger, photos.hopper)
    before = state_of(client, tenant, owned["image_id"])
    given = {"face_id": only_face(own), "to_cluster_id": owned["cluster_id"]}
    answer = call(client, "POST", "/update-face-cluster", tenant_id=stranger, **given)
    assert_error(answer, 404, "not_found")
    assert state_of(client, tenant, owned["image_id"]) == before


def test_a_person_known_to_one_tenant_is_new_to_another(
    client: httpx.Client, tenant: str, owned: dict[str, Any], photos: Photos
) -> None:
    answer = insert(client, f"{tenant}-other", photos.astronaut)
    assert only_cluster(answer) != owned["cluster_id"]
    assert answer["faces"][0]["is_auto_matched"] is False


def test_reviews_of_another_tenant_are_not_listed(
    client: httpx.Client, tenant: str, owned: dict[str, Any], photos: Photos
) -> None:
    answer = insert(client, f"{tenant}-other", photos.hopper)
    found = reviews(client, f"{tenant}-other")
    assert [review["image_id"] for review in found] == [answer["image_id"]]


def test_deleting_a_tenant_leaves_another_as_it_is(
    client: httpx.Client,
    tenant: str,
    owned: dict[str, Any],
    photos: Photos,
    service: ServiceProcess,
) -> None:
    insert(client, f"{tenant}-other", photos.astronaut)
    before = state_of(client, tenant, owned["image_id"])
    change(client, "DELETE", "/tenant", tenant_id=f"{tenant}-other")
    assert state_of(client, tenant, owned["image_id"]) == before
    assert stored_file(service, owned["image_id"]) is not None


@pytest.mark.parametrize("name", ODD)
def test_a_tenant_of_any_name_keeps_its_files_below_the_uploads(
    client: httpx.Client, photos: Photos, service: ServiceProcess, name: str
) -> None:
    before = stored(service)
    answer = insert(client, name, photos.astronaut)
    try:
        path = stored_file(service, answer["image_id"])
        assert path is not None
        assert path.resolve().parent.parent == uploads(service).resolve()
        read(client, "/image", tenant_id=name, image_id=answer["image_id"])
    finally:
        change(client, "DELETE", "/tenant", tenant_id=name)
    assert stored(service) == before


@pytest.mark.parametrize(
    "other",
    [str.upper, lambda name: f"{name} ", lambda name: f" {name}", lambda name: f"{name}%"],
    ids=["upper case", "space behind", "space before", "percent"],
)
def test_tenants_that_look_alike_stay_apart(
    client: httpx.Client, tenant: str, owned: dict[str, Any], other: Any
) -> None:
    assert is_gone(client, "/image", tenant_id=other(tenant), image_id=owned["image_id"])


def test_of_two_spellings_of_one_letter_one_is_no_name(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    composed, decomposed = f"{tenant}-\u00fc", f"{tenant}-u\u0308"
    image = insert(client, composed, photos.nobody)["image_id"]
    answer = call(client, "GET", "/image", tenant_id=decomposed, image_id=image)
    assert_error(answer, 422, "invalid_parameter")
