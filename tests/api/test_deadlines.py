"""Deadlines, priorities and clients that hang up."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import ExitStack, suppress

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from tests.support.calls import (
    Photos,
    assert_error,
    decode,
    encode,
    metric,
    reviews,
    send,
    started_request,
    uploads,
    wait_until,
)

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def heavy(photos: Photos) -> bytes:
    """A photo that takes longer than handing it in."""
    return encode(decode(photos.crowd).resize((2400, 2640)))


def rest(client: httpx.Client) -> None:
    """Wait until nothing is going on."""
    for name in ("requests_in_flight", "bytes_in_flight", "backlog_seconds", "photos_in_work"):
        wait_until(lambda name=name: metric(client, f"facette_{name}") == 0)


def test_what_cannot_be_done_in_time_is_504_and_costs_no_inference(
    client: httpx.Client, heavy: bytes
) -> None:
    assert client.post("/v1/detect", content=heavy, headers=JPEG).status_code == 200
    rest(client)
    before = metric(client, "facette_batch_cost_count", stage="onet")
    answer = client.post("/v1/detect", content=heavy, headers={**JPEG, "X-Request-Timeout-Ms": "5"})
    assert_error(answer, 504, "deadline_exceeded")
    rest(client)
    assert metric(client, "facette_batch_cost_count", stage="onet") == before


def test_a_request_past_its_deadline_stores_nothing(
    client: httpx.Client, tenant: str, heavy: bytes
) -> None:
    answer = client.post(
        "/insert-image",
        data={"tenant_id": tenant},
        files={"image": heavy},
        headers={"X-Request-Timeout-Ms": "30"},
    )
    assert_error(answer, 504, "deadline_exceeded")
    rest(client)
    answer = client.request("DELETE", "/tenant", params={"tenant_id": tenant})
    assert_error(answer, 404, "not_found")


def test_enough_time_changes_nothing(client: httpx.Client, photos: Photos) -> None:
    headers = {**JPEG, "X-Request-Timeout-Ms": "60000", "X-Priority": "bulk"}
    answer = client.post("/v1/detect", content=photos.both, headers=headers)
    assert len(answer.json()["faces"]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Request-Timeout-Ms", "0"),
        ("X-Request-Timeout-Ms", "-5"),
        ("X-Request-Timeout-Ms", "1.5"),
        ("X-Request-Timeout-Ms", "600001"),
        ("X-Request-Timeout-Ms", "9" * 40),
        ("X-Request-Timeout-Ms", "soon"),
        ("X-Priority", "urgent"),
    ],
)
def test_headers_that_make_no_sense_are_refused(
    client: httpx.Client, photos: Photos, name: str, value: str
) -> None:
    answer = client.post("/v1/detect", content=photos.nobody, headers={**JPEG, name: value})
    assert_error(answer, 422, "invalid_parameter")
    assert name in answer.json()["detail"]


def test_a_client_that_hangs_up_leaves_nothing_behind(
    client: httpx.Client, service: ServiceProcess, heavy: bytes
) -> None:
    rest(client)
    gone = metric(client, "facette_clients_gone_total")
    looked_at = metric(client, "facette_batch_cost_count", stage="onet")
    head = {**JPEG, "Content-Length": str(len(heavy))}
    with ExitStack() as until_they_hang_up:
        connections = [
            until_they_hang_up.enter_context(started_request(service, "POST", "/v1/detect", head))
            for _ in range(12)
        ]
        for connection in connections:
            connection.sendall(heavy[:-1])
        wait_until(lambda: metric(client, "facette_requests_in_flight") == 12)
        # None can be answered before all have hung up: the last bytes come right before that.
        for connection in connections:
            connection.sendall(heavy[-1:])
    rest(client)
    assert metric(client, "facette_clients_gone_total") > gone
    assert metric(client, "facette_batch_cost_count", stage="onet") < looked_at + 12
    unanswered = metric(client, "facette_http_requests_total", route="/v1/detect", status="499")
    assert unanswered >= metric(client, "facette_clients_gone_total") - gone > 0
    for stage in ("decode", "pnet", "rnet", "onet", "crop", "embedder"):
        assert metric(client, "facette_batch_waiting", stage=stage) == 0


def test_an_insert_whose_client_hangs_up_is_stored_whole_or_not_at_all(
    service: ServiceProcess, client: httpx.Client, photos: Photos, tenant: str
) -> None:
    assert send(client, tenant, photos.nobody).status_code == 200

    async def hang_up(after_s: float) -> None:
        async with service.async_client() as caller:
            with suppress(TimeoutError):
                async with asyncio.timeout(after_s):
                    await caller.post(
                        "/insert-image", data={"tenant_id": tenant}, files={"image": photos.hopper}
                    )

    async def all_of_them() -> None:
        await asyncio.gather(*(hang_up(0.005 * number) for number in range(1, 25)))

    asyncio.run(all_of_them())
    rest(client)
    clusters = {review["cluster_id"] for review in reviews(client, tenant)}
    faces = sum(
        client.get("/cluster", params={"tenant_id": tenant, "cluster_id": cluster}).json()[
            "number_of_images"
        ]
        for cluster in clusters
    )
    folder = uploads(service) / hashlib.sha256(tenant.encode()).hexdigest()[:32]
    # One of the files is the photo of nobody, which is in no cluster.
    assert len(list(folder.iterdir())) == faces + 1
