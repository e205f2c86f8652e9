"""What people decided holds after an export and an import, whatever is done then."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from service.domain.errors import FacetteError
from service.store.archive.export import export_tenant
from service.store.archive.file import new_archive
from service.store.archive.imports import import_tenant
from service.store.blob.folder import FolderBlobStore
from tests.support.databases import Databases
from tests.support.decided_house import HEALTHY, TENANT, House, change_anything, people_of_three


@pytest.mark.parametrize("seed", range(4))
async def test_an_imported_tenant_refuses_and_allows_what_the_exported_one_does(
    databases: Databases, uploads: Path, path: Path, seed: int
) -> None:
    chosen = random.Random(seed)
    blobs = FolderBlobStore(uploads)
    one = House(await databases.filled(people_of_three, uploads), blobs)
    other = House(await databases.migrated(), blobs)
    for _ in range(12):
        try:
            await change_anything(one, chosen)
        except FacetteError:
            continue
    async with one.database.maintenance() as owner:
        with new_archive(path) as archive:
            done = await export_tenant(owner, archive, TENANT, None)
    assert done.counts.decisions > 0
    async with other.database.maintenance() as owner:
        await import_tenant(owner, path, blobs)
    assert await other.ids() == await one.ids()
    assert await other.kept_apart() == await one.kept_apart()
    assert await other.health() == HEALTHY
    faces = [face for each in (await one.ids()).values() for face in each]
    outcomes = []
    for _ in range(24):
        action, override = chosen.choice(["move", "merge", "split"]), chosen.random() < 0.3
        some = chosen.sample(faces, 2)
        said = [await _act(each, action, some, override=override) for each in (one, other)]
        assert said[0] == said[1], (action, some)
        assert await _together(one) == await _together(other)
        outcomes.append(said[0])
    assert "decision_conflict" in outcomes
    assert None in outcomes
    assert await other.health() == HEALTHY


async def _act(house: House, action: str, faces: list[str], *, override: bool) -> str | None:
    """Do something with the people of these faces, whose ids may differ; the code of the error."""
    people = {face: person for person, each in (await house.ids()).items() for face in each}
    first, second = faces
    try:
        if action == "move":
            await house.move(first, people[second], override=override)
        elif action == "merge":
            await house.merge(people[first], people[second], override=override)
        else:
            await house.split(people[first], [first], override=override)
    except FacetteError as error:
        return error.code
    return None


async def _together(house: House) -> list[list[str]]:
    """The faces of each person."""
    return sorted((await house.ids()).values())
