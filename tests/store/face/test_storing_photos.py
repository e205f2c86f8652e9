"""A photo is stored by one statement, and read as it was."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import numpy as np

from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import (
    ClusterId,
    FaceId,
    FaceQuality,
    ImageId,
    ModelSpace,
    NewFace,
    NewImage,
    TenantId,
)
from service.store.blob.names import image_key
from service.store.database.database import Database
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from tests.support.analysed import person, photo
from tests.support.sums import are_exact

TENANT, SPACE = TenantId("anna"), ModelSpace("made-up/1")
QUALITIES = (
    FaceQuality(1.0, 120.0, 60.25, 128.0, 50.5, -3.5, 2.125),
    FaceQuality(0.0, 16.5, 3.0625, 1.0, 0.5, 88.75, -179.9999, ("turned_away", "blurred")),
    FaceQuality(0.1234, 41.0, 9.0, 250.0, 2.0, 0.0, 0.0, ("bright", "low_contrast")),
)


async def store(
    repository: Repository, count: int, turned: int = 0
) -> tuple[ImageId, list[NewFace], list[ClusterId]]:
    """A photo of so many people, half of whom are new."""
    analyzed = replace(photo(*map(person, range(count))), turned=turned)
    image_id = ImageId(str(uuid4()))
    image = NewImage(image_id, image_key(TENANT, image_id, "jpg"), "a" * 64, analyzed, 9)
    clusters = [ClusterId(str(uuid4())) for _ in range(count)]
    faces = [
        NewFace(
            FaceId(str(uuid4())),
            clusters[nth],
            replace(face, quality=QUALITIES[nth % len(QUALITIES)]),
            face.detection.facial_area(640, 480),
            nth % 2 == 0,
            0.25 if nth % 2 == 0 else None,
            nth % 3 != 1,
        )
        for nth, face in enumerate(analyzed.faces)
    ]
    query = ClusterQuery((), SPACE, fixed_rule(0.5))
    async with repository.inserting(TENANT, query) as (tenant, _):
        for cluster in clusters[::2]:
            await tenant.insert_cluster(cluster)
        await tenant.insert_photo(image, clusters[1::2], faces, SPACE)
    return image.image_id, faces, clusters


async def test_faces_are_read_as_they_were_stored_in_their_order(database: Database) -> None:
    inserted: list[int] = []
    repository = Repository(
        database, SearchSettings(200), on_insert=lambda tenant_id, faces: inserted.append(faces)
    )
    for count in (1, 12, 0):
        image_id, faces, clusters = await store(repository, count)
        async with repository.reading(TENANT) as tenant:
            stored = await tenant.faces_of_image(image_id, 0, 100)
            assert stored == [await tenant.face(face.face_id) for face in faces]
            reviews = await tenant.reviews(0, 100)
        assert [(f.face_id, f.cluster_id, f.area, f.is_auto_matched) for f in stored] == [
            (f.face_id, f.cluster_id, f.area, f.is_auto_matched) for f in faces
        ]
        assert [(f.quality, f.is_matchable) for f in stored] == [
            (f.face.quality, f.is_matchable) for f in faces
        ]
        assert [r.cluster_id for r in reviews if r.image_id == image_id] == clusters[1::2]
    assert inserted == [1, 12]


async def test_what_is_needed_to_cut_a_face_out_again_is_stored(database: Database) -> None:
    repository = Repository(database, SearchSettings(200))
    image_id, faces, _ = await store(repository, 5, turned=270)
    async with database.maintenance() as owner:
        assert await owner.fetchval("SELECT turned FROM image") == 270
        rows = await owner.fetch("SELECT * FROM face ORDER BY seq")
        vectors = dict(
            map(tuple, await owner.fetch("SELECT face_id::text, embedding FROM face_vector"))
        )
        assert await are_exact(owner)
    for row, face in zip(rows, faces, strict=True):
        box, landmarks = face.face.detection.box, face.face.detection.landmarks
        assert row["box"] == [box.x1, box.y1, box.x2, box.y2]
        assert row["landmarks"] == [number for point in landmarks for number in point]
        assert str(row["image_id"]) == image_id
        stored = vectors[str(row["face_id"])].to_numpy()
        assert (stored == face.face.embedding.astype(np.float16)).all()


async def test_faces_that_nothing_is_matched_against_are_not_found_and_not_summed(
    database: Database,
) -> None:
    repository = Repository(database, SearchSettings(200))
    _, faces, _ = await store(repository, 3)
    for number, face in enumerate(faces):
        query = ClusterQuery((person(number),), SPACE, fixed_rule(0.5))
        async with repository.inserting(TENANT, query) as (_, candidates):
            found = [each.cluster_id for each in candidates.of_faces[0]]
        assert found == ([face.cluster_id] if face.is_matchable else [])
