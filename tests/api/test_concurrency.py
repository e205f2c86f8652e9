"""Many requests at once: one person stays one cluster, and nothing is lost or left over."""

from __future__ import annotations

import asyncio
import random

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from tests.support.calls import (
    Photos,
    change,
    insert,
    only_cluster,
    only_face,
    read,
    reviews,
    stored,
    stored_file,
)


async def test_a_new_person_uploaded_many_times_at_once_is_one_cluster(
    service: ServiceProcess, client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answers = await insert_all(service, tenant, [photos.astronaut] * 16)
    assert [answer.status_code for answer in answers] == [200] * 16
    faces = [face for answer in answers for face in answer.json()["faces"]]
    (cluster,) = {face["cluster_id"] for face in faces}
    assert sum(not face["is_auto_matched"] for face in faces) == 1
    size = read(client, "/cluster", tenant_id=tenant, cluster_id=cluster)
    assert size == {"number_of_faces": 16, "number_of_images": 16}
    assert [review["cluster_id"] for review in reviews(client, tenant)] == [cluster]


async def test_different_photos_at_once_make_one_cluster_for_each_person(
    service: ServiceProcess, tenant: str, photos: Photos
) -> None:
    sent = [photos.astronaut, photos.hopper, photos.both, photos.nobody] * 3
    random.shuffle(sent)
    answers = await insert_all(service, tenant, sent)
    clusters = [set(answer.json()["face_ids"].values()) for answer in answers]
    assert len(set.union(*clusters)) == 2
    for photo, found in zip(sent, clusters, strict=True):
        assert len(found) == {photos.both: 2, photos.nobody: 0}.get(photo, 1)


async def test_tenants_served_at_once_stay_apart(
    service: ServiceProcess, tenant: str, photos: Photos
) -> None:
    tenants = [f"{tenant}-{number}" for number in range(6)]
    batches = await asyncio.gather(
        *(insert_all(service, name, [photos.astronaut] * 2) for name in tenants)
    )
    clusters = [
        {c for answer in answers for c in answer.json()["face_ids"].values()} for answers in batches
    ]
    assert [len(found) for found in clusters] == [1] * 6
    assert len(set.union(*clusters)) == 6


async def test_deletes_between_inserts_leave_rows_and_files_in_step(
    service: ServiceProcess, client: httpx.Client, tenant: str, photos: Photos
) -> None:
    before = stored(service)
    async with service.async_client() as sender:

        async def insert_and_maybe_delete(number: int) -> tuple[list[int], str, bool]:
            answer = await sender.post(
                "/insert-image", data={"tenant_id": tenant}, files={"image": photos.nobody}
            )
            image, goes = answer.json().get("image_id"), number % 3 > 0
            given = {"tenant_id": tenant, "image_id": image}
            deleted = await sender.delete("/image", params=given) if goes else answer
            return [answer.status_code, deleted.status_code], image, goes

        done = await asyncio.gather(*(insert_and_maybe_delete(n) for n in range(48)))
    assert {status for statuses, _, _ in done for status in statuses} == {200}
    assert all((stored_file(service, image) is None) == goes for _, image, goes in done)
    change(client, "DELETE", "/tenant", tenant_id=tenant)
    assert stored(service) == before


async def test_a_tenant_deleted_amid_inserts_leaves_nothing_half(
    service: ServiceProcess, client: httpx.Client, tenant: str, photos: Photos
) -> None:
    before = stored(service)
    insert(client, tenant, photos.astronaut)
    async with service.async_client() as sender:

        async def delete() -> list[int]:
            statuses = []
            for _ in range(8):
                await asyncio.sleep(0.03)
                answer = await sender.delete("/tenant", params={"tenant_id": tenant})
                statuses.append(answer.status_code)
            return statuses

        deletes, inserts = await asyncio.gather(
            delete(), insert_all(service, tenant, [photos.astronaut, photos.nobody] * 8)
        )
    assert set(deletes) <= {200, 404}
    assert {answer.status_code for answer in inserts} == {200}
    insert(client, tenant, photos.nobody)
    change(client, "DELETE", "/tenant", tenant_id=tenant)
    assert stored(service) == before


async def test_moves_and_deletes_at_once_never_fail(
    service: ServiceProcess, client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.crowd)
    faces, clusters = list(answer["face_ids"]), list(answer["face_ids"].values())
    async with service.async_client() as sender:

        def change_one(number: int, face: str) -> object:
            given = {"tenant_id": tenant, "face_id": face}
            match number % 4:
                case 0:
                    return sender.delete("/face", params=given)
                case 1:
                    target = {"to_cluster_id": clusters[(number + 5) % 12]}
                    return sender.post("/update-face-cluster", params=given | target)
                case 2:
                    target = {"to_cluster_id": "new"}
                    return sender.post("/update-face-cluster", params=given | target)
                case _:
                    given = {"tenant_id": tenant, "cluster_id": clusters[number]}
                    return sender.delete("/cluster", params=given)

        answers = await asyncio.gather(*(change_one(n, f) for n, f in enumerate(faces)))
    assert {each.status_code for each in answers} <= {200, 404}
    image = read(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    for cluster in image["cluster_ids"]:
        assert read(client, "/cluster", tenant_id=tenant, cluster_id=cluster)["number_of_faces"]
    assert {each["cluster_id"] for each in reviews(client, tenant)} <= set(image["cluster_ids"])


@pytest.mark.parametrize("kind", ["image", "face", "cluster", "tenant"])
async def test_of_many_deletes_of_one_thing_one_succeeds(
    service: ServiceProcess, client: httpx.Client, tenant: str, photos: Photos, kind: str
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    given = {
        "tenant_id": tenant,
        "image_id": answer["image_id"],
        "face_id": only_face(answer),
        "cluster_id": only_cluster(answer),
    }
    async with service.async_client() as sender:
        answers = await asyncio.gather(*(sender.delete(f"/{kind}", params=given) for _ in range(6)))
    assert sorted(each.status_code for each in answers) == [200] + [404] * 5


async def insert_all(
    service: ServiceProcess, tenant: str, sent: list[bytes]
) -> list[httpx.Response]:
    async with service.async_client() as sender:
        return await asyncio.gather(
            *(
                sender.post("/insert-image", data={"tenant_id": tenant}, files={"image": photo})
                for photo in sent
            )
        )
