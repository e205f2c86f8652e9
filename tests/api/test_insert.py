"""POST /insert-image: photos come in, people come out."""

from __future__ import annotations

from pathlib import Path

import httpx


def test_second_photo_of_a_person_joins_the_cluster_of_the_first(
    client: httpx.Client, tenant: str, portraits: list[Path]
) -> None:
    astronaut, hopper = portraits
    first = insert(client, tenant, astronaut)
    stranger = insert(client, tenant, hopper)
    again = insert(client, tenant, astronaut)
    (cluster,) = first["face_ids"].values()
    assert list(again["face_ids"].values()) == [cluster]
    assert cluster not in stranger["face_ids"].values()
    assert [face["is_auto_matched"] for face in (first["faces"][0], again["faces"][0])] == [
        False,
        True,
    ]
    assert again["faces"][0]["distance"] < 0.01


def insert(client: httpx.Client, tenant: str, photo: Path) -> dict:
    answer = client.post(
        "/insert-image", data={"tenant_id": tenant}, files={"image": photo.read_bytes()}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()
