"""The reviews of the legacy API are the questions who somebody is, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.domain.errors import NotFoundError
from service.domain.types import ReviewId
from service.store.blob.folder import FolderBlobStore
from tests.support.databases import Databases
from tests.support.decided_house import TENANT, House, people_of_three


async def test_questions_of_other_kinds_are_neither_listed_nor_read_nor_deleted(
    databases: Databases, uploads: Path
) -> None:
    house = House(await databases.filled(people_of_three, uploads), FolderBlobStore(uploads))
    ids = await house.ids()
    first, second, *_ = ids
    async with house.database.maintenance() as owner:
        rows = await owner.fetch(
            "INSERT INTO review (tenant_id, kind, cluster_id, face_id, other_cluster_id) VALUES"
            " ($1, 'same_person', $2, NULL, $3), ($1, 'weak_match', $2, $4, $3),"
            " ($1, 'odd_face', $2, $4, NULL) RETURNING review_id",
            *(TENANT, first, second, ids[first][0]),
        )
    pending = await house.curate.reviews(TENANT, 0, 100)
    assert [each.cluster_id for each in pending] == list(ids)
    for row in rows:
        for act in (house.curate.review, house.curate.delete_review):
            with pytest.raises(NotFoundError):
                await act(TENANT, ReviewId(row["review_id"]))
    deleted = await house.curate.delete_review(TENANT, pending[0].review_id)
    assert deleted.reviews == 1
    async with house.database.maintenance() as owner:
        kinds = await owner.fetch("SELECT kind FROM review ORDER BY review_id")
    assert [row["kind"] for row in kinds] == [
        *["new_person"] * 3,
        "same_person",
        "weak_match",
        "odd_face",
    ]
