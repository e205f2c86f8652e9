"""Many photos at once through the running service: people stay whole, and stay apart."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2 as httpx
from PIL import Image

from bench.accuracy.parity import load_reference
from bench.common.server import ServiceProcess
from tests.support.calls import encode


async def _insert_all(
    service: ServiceProcess, tenant: str, photos: Iterable[tuple[str, bytes]], clients: int
) -> dict[str, httpx.Response]:
    answers: dict[str, httpx.Response] = {}
    waiting = iter(photos)

    async def caller(client: httpx.AsyncClient) -> None:
        for name, data in waiting:
            answers[name] = await client.post(
                "/insert-image", data={"tenant_id": tenant}, files={"image": (name, data)}
            )

    async with service.async_client() as client, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(caller(client))
    return answers


def _cluster_of_largest_face(answer: dict[str, Any]) -> str:
    def area(face: dict[str, Any]) -> float:
        box = face["box"]
        return (box["x2"] - box["x1"]) * (box["y2"] - box["y1"])

    return max(answer["faces"], key=area)["cluster_id"]


async def test_labelled_people_share_a_cluster_and_strangers_never_do(
    service: ServiceProcess, tenant: str, faces_dir: Path
) -> None:
    names = load_reference(faces_dir)
    photos = ((name, (faces_dir / name).read_bytes()) for name in names)
    answers = await _insert_all(service, tenant, photos, clients=16)
    assert Counter(answer.status_code for answer in answers.values()) == {200: 69}
    clusters = {name: _cluster_of_largest_face(answer.json()) for name, answer in answers.items()}
    with (faces_dir / "pairs.csv").open(encoding="utf-8", newline="") as stream:
        pairs = list(csv.DictReader(stream))
    together = Counter(
        pair["Decision"] for pair in pairs if clusters[pair["file_x"]] == clusters[pair["file_y"]]
    )
    assert together["No"] == 0
    assert together["Yes"] >= 36


async def test_photos_of_a_new_person_at_once_make_one_cluster(
    service: ServiceProcess, tenant: str, portraits: list[Path]
) -> None:
    with Image.open(portraits[1]) as file:
        data = encode(file.convert("RGB").resize((213, 250)))
    answers = await _insert_all(
        service,
        tenant,
        ((f"{number}.jpg", data) for number in range(64)),
        clients=32,  # so many are taken on two cores, however slow the machine is
    )
    assert Counter(answer.status_code for answer in answers.values()) == {200: 64}
    clusters = Counter(
        cluster for answer in answers.values() for cluster in answer.json()["face_ids"].values()
    )
    assert list(clusters.values()) == [64]
    with service.client() as client:
        (cluster,) = clusters
        size = client.get("/cluster", params={"tenant_id": tenant, "cluster_id": cluster}).json()
        reviews = client.get("/review-pending-list", params={"tenant_id": tenant}).json()
    assert size == {"number_of_faces": 64, "number_of_images": 64}
    assert [review["cluster_id"] for review in reviews] == [cluster]
