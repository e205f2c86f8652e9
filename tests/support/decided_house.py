"""A tenant of a few people with a few faces each, and everything that can be done to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from service.domain.people import Person, PersonEdit
from service.domain.types import ClusterId, DecisionId, FaceId, TenantId
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database
from service.store.face.health import Decided, decided
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.usecases.curate import Curate
from service.usecases.history import History
from service.usecases.people import NewHome, People
from service.usecases.reviews import Reviews

TENANT: Final = TenantId("house")
HEALTHY: Final = Decided(0, (), (), ())


class House:
    """A tenant of a few people with a few faces each, and everything that can be done to it."""

    def __init__(self, database: Database, blobs: FolderBlobStore) -> None:
        self.database = database
        repository = Repository(database, SearchSettings())
        self.people = People(repository)
        self.history = History(repository)
        self.reviews = Reviews(repository)
        self.curate = Curate(repository, blobs, on_orphans=lambda number: None)

    async def ids(self) -> dict[str, list[str]]:
        """The faces of each person, as they are now."""
        async with self.database.snapshot(TENANT) as connection:
            rows = await connection.fetch(
                "SELECT cluster_id, array_agg(face_id ORDER BY face_id) AS faces FROM face"
                " GROUP BY cluster_id ORDER BY min(face_id::text)"
            )
        return {str(row["cluster_id"]): [str(each) for each in row["faces"]] for row in rows}

    async def state(self) -> dict[str, list[str]]:
        """Everything that people see or said, as text to compare."""
        columns = {
            "cluster": "cluster_id, label, external_id, metadata, hidden, created_at, faces,"
            " images, last_face_at, cover_face_id, cover_quality IS NULL",
            "face": "face_id, cluster_id, is_auto_matched, distance",
            "review": "review_id, kind, cluster_id, face_id, other_cluster_id, put_off",
            "merged_cluster": "cluster_id, merged_into",
            "decision_face": "decision_id, face_id, side, is_claim, cluster_id, left_by IS NULL",
        }
        async with self.database.snapshot(TENANT) as connection:
            state = {
                table: [
                    str(tuple(row))
                    for row in await connection.fetch(f"SELECT {shown} FROM {table} ORDER BY 1, 2")
                ]
                for table, shown in columns.items()
                if table != "decision_face"
            }
            active = await connection.fetch(
                f"SELECT {columns['decision_face']} FROM decision_face JOIN decision"
                " USING (tenant_id, decision_id) WHERE is_active ORDER BY 1, 2"
            )
        return {**state, "decisions": [str(tuple(row)) for row in active]}

    async def newest(self) -> int:
        """The number of the newest change."""
        (change,) = await self.history.page(TENANT, None, None, None, 1)
        return change.number

    async def undo(self, number: int | None = None) -> int:
        """Take a change back, the newest one unless another one is given."""
        made = await self.history.undo(TENANT, number or await self.newest())
        assert not hasattr(made, "body")
        return made.number  # type: ignore[union-attr]

    async def move(self, face: str, target: str | NewHome, *, override: bool = False) -> str:
        """Move a face; the person that it has then."""
        home = target if isinstance(target, NewHome) else ClusterId(target)
        moved = await self.people.move_face(TENANT, FaceId(face), home, override=override)
        return moved.person_id

    async def merge(self, person: str, into: str, *, override: bool = False) -> None:
        """Merge a person into another one."""
        await self.people.merge(TENANT, ClusterId(person), ClusterId(into), None, override=override)

    async def split(self, person: str, faces: Sequence[str], *, override: bool = False) -> str:
        """Split faces off; the new person."""
        made = await self.people.split(
            TENANT,
            ClusterId(person),
            [FaceId(face) for face in faces],
            PersonEdit(),
            None,
            override=override,
        )
        assert isinstance(made, Person)
        return made.person_id

    async def label(self, person: str, label: str | None) -> None:
        """Name a person."""
        await self.people.edit(TENANT, ClusterId(person), PersonEdit(label=label), None)

    async def health(self) -> Decided:
        """What is wrong with decisions and history."""
        async with self.database.maintenance() as owner:
            return await decided(owner, None)

    async def kept_apart(self) -> set[tuple[str, str]]:
        """The pairs of people that decisions keep apart."""
        async with self.database.snapshot(TENANT) as connection:
            rows = await connection.fetch(
                "SELECT DISTINCT one.cluster_id::text, other.cluster_id::text"
                " FROM decision_face AS one JOIN decision_face AS other"
                " USING (tenant_id, decision_id) JOIN decision USING (tenant_id, decision_id)"
                " WHERE is_active AND kind = 'different' AND one.side = 0 AND other.side = 1"
                " AND one.left_by IS NULL AND other.left_by IS NULL"
            )
        return {(row[0], row[1]) for row in rows}


async def people_of_three(database: Database, uploads: object) -> None:
    """Four people on three photos, each with a question who they are."""
    async with database.maintenance() as owner, owner.transaction():
        await owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", TENANT)
        people = [UUID(int=n + 1) for n in range(4)]
        await owner.executemany(
            "INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, $2)",
            [(TENANT, person) for person in people],
        )
        await owner.executemany(
            "INSERT INTO review (tenant_id, cluster_id) VALUES ($1, $2)",
            [(TENANT, person) for person in people],
        )
        for image in range(3):
            await add_photo(owner, UUID(int=100 + image), people, 1000 + 10 * image)


async def add_photo(
    owner: asyncpg.Connection, image: UUID, people: Sequence[UUID], first_face: int
) -> None:
    """Store a photo with a face of each of these people, as the machine does."""
    await owner.execute(
        "INSERT INTO image (tenant_id, image_id, format, width, height, size_bytes, sha256, phash)"
        " VALUES ($1, $2, 'jpeg', 9, 9, 9, repeat('0', 64), repeat('0', 16))",
        TENANT,
        image,
    )
    await owner.executemany(
        "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks, area,"
        " confidence, is_auto_matched, distance, quality) VALUES ($1, $2, $3, $4, '{1,2,3,4}',"
        " '{1,1,1,1,1,1,1,1,1,1}', '{1,1,1,1}', 1, true, 0.25, 0.5)",
        [(TENANT, UUID(int=first_face + n), image, each) for n, each in enumerate(people)],
    )


async def change_anything(house: House, chosen: random.Random) -> None:
    """One change of a kind that can be undone; an error where it would contradict another one."""
    ids = await house.ids()
    people = list(ids)
    one = chosen.choice(people)
    face = chosen.choice(ids[one])
    override = chosen.random() < 0.5
    action = chosen.choice(
        ["move", "new", "not", "merge", "split", "label", "confirm", "make", "retract"]
    )
    if action == "move":
        await house.move(face, chosen.choice(people), override=override)
    elif action in ("new", "not"):
        home = NewHome.PERSON if action == "new" else NewHome.UNKNOWN
        await house.move(face, home, override=override)
    elif action == "merge" and len(people) > 1:
        await house.merge(*chosen.sample(people, 2), override=override)
    elif action == "split":
        part = chosen.sample(ids[one], chosen.randrange(1, len(ids[one]) + 1))
        await house.split(one, part, override=override)
    elif action == "label":
        await house.label(one, chosen.choice([None, "Ada", "Grace"]))
    elif action == "confirm":
        await house.people.confirm(TENANT, ClusterId(one), [], None)
    elif action == "retract":
        decisions = await house.history.decisions(TENANT, None, 100)
        oldest = decisions[-1].decision_id if decisions else DecisionId(str(uuid4()))
        await house.history.retract(TENANT, oldest)
    elif action == "make":
        faces = [face, chosen.choice(ids[chosen.choice(people)])]
        edit = PersonEdit(external_id=str(uuid4()))
        await house.people.create(
            TENANT, edit, [FaceId(each) for each in set(faces)], override=override
        )
