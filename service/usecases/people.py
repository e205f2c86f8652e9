"""People of a tenant: looked at, named, merged, split, and what shows them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar
from uuid import uuid4

from service.domain.errors import ParameterError, PreconditionError
from service.domain.people import (
    UNCHANGED,
    FacePosition,
    ImageFacts,
    ImageFilter,
    ImagePosition,
    KeptAnswer,
    ListedFace,
    PeopleFilter,
    PeopleOrder,
    PeoplePosition,
    Person,
    PersonEdit,
)
from service.domain.types import ClusterId, FaceId, ImageId, TenantId
from service.usecases.once import Once
from service.usecases.ports import FaceStore, TenantReads, TenantWrites

T = TypeVar("T")


class NewHome(Enum):
    """A person that is made for a face: of whom that is all that is said, or who is asked for."""

    PERSON = "new"
    UNKNOWN = "unknown"


class People:
    """The people of tenants.

    Every method raises NotFoundError for an id that the tenant does not have, MergedPersonError for
    a person that was merged into another one, and StoreUnavailableError when the database does not
    answer. A method with `once` returns the kept answer where the request was done before.

    An `expected` version is the one that the caller saw; PreconditionError is raised where somebody
    changed the person since.
    """

    def __init__(self, store: FaceStore) -> None:
        self._store = store

    async def page(
        self,
        tenant_id: TenantId,
        order: PeopleOrder,
        which: PeopleFilter,
        behind: PeoplePosition | None,
        limit: int,
    ) -> list[Person]:
        """A page of people."""
        async with self._store.reading(tenant_id) as tenant:
            await tenant.facts()
            return await tenant.people.people(order, which, behind, limit)

    async def person(self, tenant_id: TenantId, person_id: ClusterId) -> Person:
        """One person."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.people.person(person_id)

    async def person_by_external_id(self, tenant_id: TenantId, external_id: str) -> list[Person]:
        """The person with this id of the caller, or nobody."""
        async with self._store.reading(tenant_id) as tenant:
            await tenant.facts()
            person = await tenant.people.person_by_external_id(external_id)
            return [] if person is None else [person]

    async def faces(
        self, tenant_id: TenantId, person_id: ClusterId, behind: FacePosition | None, limit: int
    ) -> list[ListedFace]:
        """A page of the faces of a person, newest first."""
        async with self._store.reading(tenant_id) as tenant:
            await tenant.people.person(person_id)
            return await tenant.people.faces_of_person(person_id, behind, limit)

    async def images_of(
        self, tenant_id: TenantId, person_id: ClusterId, behind: FacePosition | None, limit: int
    ) -> tuple[list[ImageFacts], FacePosition | None]:
        """A page of the images that show a person, newest first, and the position behind it."""
        async with self._store.reading(tenant_id) as tenant:
            await tenant.people.person(person_id)
            return await tenant.people.images_of_person(person_id, behind, limit)

    async def face(self, tenant_id: TenantId, face_id: FaceId) -> ListedFace:
        """One face."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.people.face(face_id)

    async def image(self, tenant_id: TenantId, image_id: ImageId) -> ImageFacts:
        """One image."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.people.image(image_id)

    async def images(
        self, tenant_id: TenantId, which: ImageFilter, behind: ImagePosition | None, limit: int
    ) -> list[ImageFacts]:
        """A page of images, newest first."""
        async with self._store.reading(tenant_id) as tenant:
            await tenant.facts()
            return await tenant.people.images(which, behind, limit)

    async def faces_of_image(
        self, tenant_id: TenantId, image_id: ImageId, behind: FacePosition | None, limit: int
    ) -> list[ListedFace]:
        """A page of the faces of an image, largest first."""
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.people.faces_of_image(image_id, behind, limit)

    async def near_copies(
        self, tenant_id: TenantId, image_id: ImageId, max_distance: int, limit: int
    ) -> list[tuple[ImageFacts, int]]:
        """Images whose perceptual hashes differ in few bits, nearest first, and in how many."""
        async with self._store.reading(tenant_id) as tenant:
            copies = await tenant.near_duplicates(image_id, max_distance, limit)
            images = await tenant.people.images_of_ids([each.image_id for each in copies])
        distances = {each.image_id: each.distance for each in copies}
        return [(image, distances[image.image_id]) for image in images]

    async def create(
        self,
        tenant_id: TenantId,
        edit: PersonEdit,
        faces: Sequence[FaceId],
        once: Once[Person] | None = None,
        *,
        override: bool = False,
    ) -> Person | KeptAnswer:
        """Make a person, of faces that are taken from their people, or of none.

        Raises:
            DecisionConflictError: a decision speaks against it, and it is not to be overridden.
            ParameterError: nothing would tell the person from others.
            ExternalIdTakenError: another person has the external id.
        """

        async def act(tenant: TenantWrites) -> Person:
            person = _edited(_nobody(), edit)
            if not faces and not _is_named(person):
                raise _without_anything()
            await tenant.remember_person(person.person_id)
            await tenant.people.insert(person)
            await tenant.take_faces(faces, person.person_id, override=override)
            await tenant.note("person.created", person_id=person.person_id, face_ids=faces)
            return await tenant.people.person(person.person_id)

        return await self._write(tenant_id, act, once)

    async def edit(
        self, tenant_id: TenantId, person_id: ClusterId, edit: PersonEdit, expected: int | None
    ) -> Person:
        """Change the facts of a person.

        Raises:
            ParameterError: nothing would tell the person from others.
            ExternalIdTakenError: another person has the external id.
        """
        async with self._store.writing(tenant_id) as tenant:
            before = await _expected(tenant, person_id, expected)
            person = _edited(before, edit)
            if not person.faces and not _is_named(person):
                raise _without_anything()
            await tenant.remember_person(person_id)
            await tenant.people.change(person)
            if person.label is not None or person.hidden:
                await tenant.people.close_who(person_id)
            if edit.cover_face_id is not UNCHANGED:
                await tenant.people.choose_cover(person_id, edit.cover_face_id)
            await tenant.note("person.changed", person_id=person_id)
            return await tenant.people.person(person_id)

    async def merge(
        self,
        tenant_id: TenantId,
        person_id: ClusterId,
        into: ClusterId,
        expected: int | None,
        once: Once[Person] | None = None,
        *,
        override: bool = False,
    ) -> Person | KeptAnswer:
        """Move all faces of a person to another one, which gets the facts that it lacks.

        Raises:
            DecisionConflictError: a decision keeps them apart, and it is not to be overridden.
        """

        async def act(tenant: TenantWrites) -> Person:
            await _expected(tenant, person_id, expected)
            await tenant.people.person(into)
            if person_id == into:
                raise ParameterError("into", "A person cannot be merged into itself.")
            await tenant.merge_clusters(person_id, into, override=override)
            return await tenant.people.person(into)

        return await self._write(tenant_id, act, once)

    async def split(
        self,
        tenant_id: TenantId,
        person_id: ClusterId,
        faces: Sequence[FaceId],
        edit: PersonEdit,
        expected: int | None,
        once: Once[Person] | None = None,
        *,
        override: bool = False,
    ) -> Person | KeptAnswer:
        """Move faces of a person to a new one, which is returned.

        Raises:
            DecisionConflictError: a decision speaks against it, and it is not to be overridden.
            ParameterError: the person would be left without faces.
            ExternalIdTakenError: another person has the external id.
        """

        async def act(tenant: TenantWrites) -> Person:
            person = await _expected(tenant, person_id, expected)
            if len(set(faces)) >= person.faces:
                raise ParameterError("face_ids", "At least one face must stay with the person.")
            new = _edited(_nobody(), edit)
            await tenant.remember_person(new.person_id)
            await tenant.people.insert(new)
            await tenant.take_faces(faces, new.person_id, out_of=person_id, override=override)
            if new.label is None:
                await tenant.ask_who(new.person_id)
            await tenant.note(
                "person.split",
                person_id=person_id,
                new_person_id=new.person_id,
                face_ids=list(faces),
            )
            return await tenant.people.person(new.person_id)

        return await self._write(tenant_id, act, once)

    async def move_face(
        self,
        tenant_id: TenantId,
        face_id: FaceId,
        target: ClusterId | NewHome,
        *,
        override: bool = False,
    ) -> ListedFace:
        """Move a face to a person, or to a new one; returns the moved face.

        A face that is the person's already is confirmed there.

        Raises:
            DecisionConflictError: a decision speaks against it, and it is not to be overridden.
        """
        async with self._store.writing(tenant_id) as tenant:
            await tenant.people.face(face_id)
            if isinstance(target, NewHome):
                person_id = ClusterId(str(uuid4()))
                await tenant.insert_cluster(person_id)
                if target is NewHome.UNKNOWN:
                    await tenant.ask_who(person_id)
            else:
                person_id = target
                await tenant.people.person(person_id)
            await tenant.move_face(face_id, person_id, override=override)
            return await tenant.people.face(face_id)

    async def confirm(
        self,
        tenant_id: TenantId,
        person_id: ClusterId,
        faces: Sequence[FaceId],
        expected: int | None,
        once: Once[Person] | None = None,
    ) -> Person | KeptAnswer:
        """Let faces of a person, or all where none is named, be the person's by a person's word."""

        async def act(tenant: TenantWrites) -> Person:
            await _expected(tenant, person_id, expected)
            await tenant.confirm(person_id, faces)
            return await tenant.people.person(person_id)

        return await self._write(tenant_id, act, once)

    async def _write(
        self,
        tenant_id: TenantId,
        act: Callable[[TenantWrites], Awaitable[T]],
        once: Once[T] | None,
    ) -> T | KeptAnswer:
        async with self._store.writing(tenant_id) as tenant:
            if once is not None and (kept := await once.recall(tenant)) is not None:
                return kept
            result = await act(tenant)
            if once is not None:
                await once.keep(tenant, result)
            return result


async def _expected(tenant: TenantReads, person_id: ClusterId, expected: int | None) -> Person:
    """The person, in the version that the caller saw.

    Raises:
        PreconditionError: it has another version.
    """
    person = await tenant.people.person(person_id)
    if expected is not None and expected != person.version:
        raise PreconditionError
    return person


def _nobody() -> Person:
    """A new person of whom nothing is said."""
    now = datetime.now(UTC)
    person_id = ClusterId(str(uuid4()))
    return Person(person_id, None, None, None, {}, False, 1, 0, 0, now, now, None, False)


def _is_named(person: Person) -> bool:
    return person.label is not None or person.external_id is not None


def _without_anything() -> ParameterError:
    return ParameterError("label", "A person without faces needs a label or an external id.")


def _edited(person: Person, edit: PersonEdit) -> Person:
    changed = {
        name: value
        for name in ("label", "external_id", "metadata", "hidden")
        if (value := getattr(edit, name)) is not UNCHANGED
    }
    return replace(person, **changed)
