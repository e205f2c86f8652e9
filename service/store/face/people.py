"""People of one tenant: their facts, pages of them, and of their faces and images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from service.domain.errors import ExternalIdTakenError, MergedPersonError, NotFoundError
from service.domain.people import (
    FacePosition,
    ImageFacts,
    ImageFilter,
    ImagePosition,
    ListedFace,
    PeopleFilter,
    PeopleOrder,
    PeoplePosition,
    Person,
    label_key,
)
from service.domain.types import ClusterId, FaceId, ImageId, TenantId
from service.store.database.statements import SQL
from service.store.face.lookups import found, known_uuid
from service.store.face.quality import stored_quality

_LAST_UUID = UUID(int=2**128 - 1)
_FIRST_UUID = UUID(int=0)
_MAX_INT32 = 2**31 - 1
_MAX_INT64 = 2**63 - 1
_LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_FIRST_TIME = datetime(1, 1, 2, tzinfo=UTC)
# Behind every text that begins with a prefix, in the order of code points.
_LAST_CHARACTER = "\U0010ffff"


class PeopleReader:
    """Reads of people, faces and images of one tenant, on one connection."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def person(self, person_id: ClusterId) -> Person:
        """One person.

        Raises:
            MergedPersonError: the person was merged into another one.
            NotFoundError: the tenant has no such person.
        """
        key = known_uuid(person_id, "person")
        row = await self._connection.fetchrow(SQL["person"], self._tenant_id, key)
        if row is None:
            merged = await self._connection.fetchval(SQL["merged_into"], self._tenant_id, key)
            if merged is not None:
                raise MergedPersonError(str(merged))
            raise NotFoundError("person")
        return _person(row)

    async def person_by_external_id(self, external_id: str) -> Person | None:
        """The person with this id of the caller; None if there is none."""
        row = await self._connection.fetchrow(
            SQL["person_by_external_id"], self._tenant_id, external_id
        )
        return None if row is None else _person(row)

    async def people(
        self, order: PeopleOrder, which: PeopleFilter, behind: PeoplePosition | None, limit: int
    ) -> list[Person]:
        """A page of people; with the order by label, those that have one."""
        hidden = _both(which.hidden)
        if order is PeopleOrder.LABEL:
            prefix = label_key(which.prefix) if which.prefix else ""
            rows = await self._connection.fetch(
                SQL["people_by_label"],
                self._tenant_id,
                hidden,
                prefix,
                limit,
                behind.value if behind else "",
                behind.person_id if behind else _FIRST_UUID,
                prefix + _LAST_CHARACTER if prefix else None,
            )
        else:
            first: int | datetime = _MAX_INT32 if order is PeopleOrder.FACES else _LAST_TIME
            rows = await self._connection.fetch(
                SQL[f"people_by_{order}"],
                self._tenant_id,
                hidden,
                _both(which.labelled),
                limit,
                behind.value if behind else first,
                behind.person_id if behind else _LAST_UUID,
            )
        return [_person(row) for row in rows]

    async def face(self, face_id: FaceId) -> ListedFace:
        """One face.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        row = await self._connection.fetchrow(
            SQL["listed_face"], self._tenant_id, known_uuid(face_id, "face")
        )
        return _face(found(row, "face"))

    async def faces_of_person(
        self, person_id: ClusterId, behind: FacePosition | None, limit: int
    ) -> list[ListedFace]:
        """A page of the faces of a person, newest first; the person must exist."""
        rows = await self._connection.fetch(
            SQL["faces_of_person"],
            self._tenant_id,
            UUID(person_id),
            behind.seq if behind else _MAX_INT64,
            limit,
        )
        return [_face(row) for row in rows]

    async def faces_of_image(
        self, image_id: ImageId, behind: FacePosition | None, limit: int
    ) -> list[ListedFace]:
        """A page of the faces of an image, largest first.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        await self.image(image_id)
        rows = await self._connection.fetch(
            SQL["listed_faces_of_image"],
            self._tenant_id,
            UUID(image_id),
            behind.seq if behind else -1,
            limit,
        )
        return [_face(row) for row in rows]

    async def image(self, image_id: ImageId) -> ImageFacts:
        """One image.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        (image,) = await self._images([known_uuid(image_id, "image")]) or (None,)
        if image is None:
            raise NotFoundError("image")
        return image

    async def images(
        self, which: ImageFilter, behind: ImagePosition | None, limit: int
    ) -> list[ImageFacts]:
        """A page of images, newest first."""
        bounds = [
            self._tenant_id,
            limit,
            behind.time if behind else _LAST_TIME,
            behind.image_id if behind else _LAST_UUID,
            which.after or _FIRST_TIME,
            which.before or _LAST_TIME,
        ]
        if which.sha256 is None:
            statement = SQL["images_by_taking" if which.by_taken else "images_by_creation"]
            rows = await self._connection.fetch(statement, *bounds)
        else:
            rows = await self._connection.fetch(SQL["images_by_sha256"], *bounds, which.sha256)
        return [_image(row) for row in rows]

    async def images_of_person(
        self, person_id: ClusterId, behind: FacePosition | None, limit: int
    ) -> tuple[list[ImageFacts], FacePosition | None]:
        """A page of the images that show a person, newest first; the person must exist.

        Returns:
            The images, and the position behind the last one; None if there are no more.
        """
        seq = behind.seq if behind else _MAX_INT64
        rows = await self._connection.fetch(
            SQL["newest_images_of_person"], self._tenant_id, UUID(person_id), seq, limit
        )
        images = {image.image_id: image for image in await self._images(_ids(rows))}
        if not rows:
            return [], None
        position = FacePosition(min(row["seq"] for row in rows))
        in_order = [images[ImageId(str(row["image_id"]))] for row in rows]
        more = await self.faces_of_person(person_id, position, 1)
        return in_order, position if more else None

    async def images_of_ids(self, image_ids: Sequence[ImageId]) -> list[ImageFacts]:
        """The images with these ids, in their order; those that do not exist are left out."""
        found = await self._images(UUID(image_id) for image_id in image_ids)
        images = {image.image_id: image for image in found}
        return [images[each] for each in image_ids if each in images]

    async def _images(self, ids: Iterable[UUID]) -> list[ImageFacts]:
        rows = await self._connection.fetch(SQL["image_facts"], self._tenant_id, list(ids))
        return [_image(row) for row in rows]


class PeopleWriter(PeopleReader):
    """Changes people, inside a transaction that holds the tenant's lock."""

    async def insert(self, person: Person) -> None:
        """Add a person without faces.

        Raises:
            ExternalIdTakenError: another person has the external id.
        """
        try:
            await self._connection.execute(
                SQL["insert_person"], self._tenant_id, UUID(person.person_id), *_facts(person)
            )
        except asyncpg.UniqueViolationError:
            raise ExternalIdTakenError from None

    async def change(self, person: Person) -> None:
        """Store the facts of a person, under the next version.

        Raises:
            ExternalIdTakenError: another person has the external id.
        """
        try:
            await self._connection.execute(
                SQL["change_person"], self._tenant_id, UUID(person.person_id), *_facts(person)
            )
        except asyncpg.UniqueViolationError:
            raise ExternalIdTakenError from None

    async def choose_cover(self, person_id: ClusterId, face_id: FaceId | None) -> None:
        """Let a face be the cover; the best one where it is None.

        Raises:
            NotFoundError: the person has no such face.
        """
        if face_id is None:
            await self._connection.execute(SQL["find_cover"], self._tenant_id, UUID(person_id))
            return
        key = known_uuid(face_id, "face")
        row = await self._connection.fetchrow(
            SQL["choose_cover"], self._tenant_id, UUID(person_id), key
        )
        found(row, "face")

    async def close_who(self, person_id: ClusterId) -> None:
        """Close the question who a person is."""
        await self._connection.execute(SQL["close_who"], self._tenant_id, UUID(person_id))

    async def touch(self, people: Sequence[ClusterId]) -> None:
        """Give people another version, and find their newest photos: somebody moved their faces."""
        ids = [UUID(each) for each in people]
        await self._connection.execute(SQL["touch_people"], self._tenant_id, ids)


def _both(value: bool | None) -> list[bool]:
    return [False, True] if value is None else [value]


def _ids(rows: Iterable[asyncpg.Record]) -> list[UUID]:
    return [row["image_id"] for row in rows]


def _facts(person: Person) -> tuple[Any, ...]:
    return (
        person.label,
        None if person.label is None else label_key(person.label),
        person.external_id,
        orjson.dumps(person.metadata).decode(),
        person.hidden,
    )


def _person(row: asyncpg.Record) -> Person:
    cover = row["cover_face_id"]
    return Person(
        ClusterId(str(row["cluster_id"])),
        row["label"],
        row["label_key"],
        row["external_id"],
        orjson.loads(row["metadata"]),
        row["hidden"],
        row["version"],
        row["faces"],
        row["images"],
        row["created_at"],
        row["last_face_at"],
        None if cover is None else FaceId(str(cover)),
        row["cover_is_chosen"],
    )


def _face(row: asyncpg.Record) -> ListedFace:
    points = row["landmarks"]
    return ListedFace(
        FaceId(str(row["face_id"])),
        ClusterId(str(row["cluster_id"])),
        ImageId(str(row["image_id"])),
        tuple(row["box"]),
        tuple(zip(points[::2], points[1::2], strict=True)),
        row["confidence"],
        row["is_auto_matched"],
        row["distance"],
        stored_quality(row["quality"], row["quality_facts"]),
        row["is_matchable"],
        row["seq"],
    )


def _image(row: asyncpg.Record) -> ImageFacts:
    located = row["latitude"] is not None
    return ImageFacts(
        ImageId(str(row["image_id"])),
        row["format"],
        row["width"],
        row["height"],
        row["size_bytes"],
        row["sha256"],
        row["phash"],
        row["turned"],
        row["created_at"],
        row["taken_at"],
        row["orientation"],
        (row["latitude"], row["longitude"]) if located else None,
        row["faces"],
        row["blob_key"] is not None,
    )
