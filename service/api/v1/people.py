"""People: lists, facts, merging, splitting; and the faces of people."""

from __future__ import annotations

from datetime import datetime
from typing import cast
from uuid import UUID

from starlette.responses import Response

from service.api.render import Json
from service.api.services import ApiServices
from service.api.v1.cursors import CursorError, decode_cursor, encode_cursor
from service.api.v1.models import (
    Confirm,
    FaceMove,
    Merge,
    NewPerson,
    Page,
    PeoplePage,
    PersonChange,
    PersonFields,
    Split,
)
from service.api.v1.operation import V1Call
from service.api.v1.rendering import face_json, image_json, person_json, receipt_json
from service.api.v1.requests import answer, expected_version, once_of
from service.domain.errors import RequestError
from service.domain.people import (
    UNCHANGED,
    FacePosition,
    PeopleFilter,
    PeopleOrder,
    PeoplePosition,
    Person,
    PersonEdit,
)
from service.domain.types import ClusterId, FaceId
from service.usecases.people import NewHome

_NEW_PERSON = "new"
# What the database can count for a person.
_MAX_FACES = 2**31 - 1
_KIND_OF_VALUE: dict[PeopleOrder, type[int] | type[str] | type[datetime]] = {
    PeopleOrder.FACES: int,
    PeopleOrder.LABEL: str,
    PeopleOrder.RECENCY: datetime,
}


async def list_people(api: ApiServices, call: V1Call) -> Response:
    """GET /people: a page of people."""
    query = call.queried(PeoplePage)
    if query.external_id is not None:
        found = await api.people.person_by_external_id(call.tenant_id, query.external_id)
        return Json({"items": [person_json(person) for person in found], "next": None})
    order = PeopleOrder(query.order or ("label" if query.prefix else "faces"))
    if query.prefix and order is not PeopleOrder.LABEL:
        raise RequestError((("/query/prefix", "needs the order by label"),))
    if query.labelled is False and order is PeopleOrder.LABEL:
        raise RequestError((("/query/labelled", "people without a label have no such order"),))
    hidden = None if query.hidden == "any" else query.hidden
    which = PeopleFilter(query.labelled, hidden, query.prefix)
    of_list = f"people {call.tenant_id} {order} {which}"
    behind = None
    if query.cursor is not None:
        value, person_id = decode_cursor(query.cursor, of_list, [_KIND_OF_VALUE[order], UUID])
        if order is PeopleOrder.FACES and not 0 <= cast(int, value) <= _MAX_FACES:
            raise CursorError
        behind = PeoplePosition(cast("int | str | datetime", value), cast(UUID, person_id))
    found = await api.people.page(call.tenant_id, order, which, behind, query.limit + 1)
    page = found[: query.limit]
    following = None
    if len(found) > len(page):
        following = encode_cursor(of_list, _value_of(page[-1], order), page[-1].person_id)
    return Json({"items": [person_json(person) for person in page], "next": following})


async def create_person(api: ApiServices, call: V1Call) -> Response:
    """POST /people: make a person."""
    body = call.sent(NewPerson)
    faces = [FaceId(each) for each in body.face_ids]
    once = once_of(call, _created)
    made = await api.people.create(
        call.tenant_id, _edit_of(body), faces, once, override=body.override
    )
    if isinstance(made, Person):
        call.record(api, "person.create", person_id=made.person_id)
    return answer(made, _created)


async def get_person(api: ApiServices, call: V1Call) -> Response:
    """GET /people/{person_id}: one person."""
    return _person(await api.people.person(call.tenant_id, _person_id(call)))


async def change_person(api: ApiServices, call: V1Call) -> Response:
    """PATCH /people/{person_id}: change what is said about a person."""
    edit = _edit_of(call.sent(PersonChange))
    person_id = _person_id(call)
    person = await api.people.edit(call.tenant_id, person_id, edit, expected_version(call))
    call.record(api, "person.change", person_id=person_id)
    return _person(person)


async def delete_person(api: ApiServices, call: V1Call) -> Response:
    """DELETE /people/{person_id}: erase a person, with faces and images of nobody else."""
    person_id, expected = _person_id(call), expected_version(call)
    receipt = await api.curate.delete_person(call.tenant_id, person_id, expected)
    call.record(api, "person.delete", person_id=person_id)
    return Json(receipt_json(receipt))


async def merge_person(api: ApiServices, call: V1Call) -> Response:
    """POST /people/{person_id}/merge: move all faces of a person to another one."""
    body, person_id = call.sent(Merge), _person_id(call)
    into = ClusterId(body.into)
    expected, once = expected_version(call), once_of(call, _person)
    kept = await api.people.merge(
        call.tenant_id, person_id, into, expected, once, override=body.override
    )
    if isinstance(kept, Person):
        call.record(api, "person.merge", person_id=person_id, into_person_id=into)
    return answer(kept, _person)


async def split_person(api: ApiServices, call: V1Call) -> Response:
    """POST /people/{person_id}/split: make a new person of some of the faces."""
    body, person_id = call.sent(Split), _person_id(call)
    faces = [FaceId(each) for each in body.face_ids]
    made = await api.people.split(
        call.tenant_id,
        person_id,
        faces,
        _edit_of(body),
        expected_version(call),
        once_of(call, _created),
        override=body.override,
    )
    if isinstance(made, Person):
        call.record(api, "person.split", person_id=person_id, new_person_id=made.person_id)
    return answer(made, _created)


async def confirm_person(api: ApiServices, call: V1Call) -> Response:
    """POST /people/{person_id}/confirm: faces of a person are the person's, says a person."""
    person_id = _person_id(call)
    faces = [FaceId(each) for each in call.sent(Confirm).face_ids]
    confirmed = await api.people.confirm(
        call.tenant_id, person_id, faces, expected_version(call), once_of(call, _person)
    )
    if isinstance(confirmed, Person):
        call.record(api, "person.confirm", person_id=person_id)
    return answer(confirmed, _person)


async def list_faces_of_person(api: ApiServices, call: V1Call) -> Response:
    """GET /people/{person_id}/faces: a page of faces, newest first."""
    query, person_id = call.queried(Page), _person_id(call)
    of_list = f"faces {call.tenant_id} {person_id}"
    found = await api.people.faces(
        call.tenant_id, person_id, face_position(query, of_list), query.limit + 1
    )
    page = found[: query.limit]
    following = encode_cursor(of_list, page[-1].seq) if len(found) > len(page) else None
    return Json({"items": [face_json(face) for face in page], "next": following})


async def list_images_of_person(api: ApiServices, call: V1Call) -> Response:
    """GET /people/{person_id}/images: a page of the images that show a person, newest first."""
    query, person_id = call.queried(Page), _person_id(call)
    of_list = f"images {call.tenant_id} {person_id}"
    images, behind = await api.people.images_of(
        call.tenant_id, person_id, face_position(query, of_list), query.limit
    )
    following = None if behind is None else encode_cursor(of_list, behind.seq)
    return Json({"items": [image_json(image) for image in images], "next": following})


async def get_face(api: ApiServices, call: V1Call) -> Response:
    """GET /faces/{face_id}: one face."""
    face = await api.people.face(call.tenant_id, FaceId(call.ids["face_id"]))
    return Json(face_json(face))


async def move_face(api: ApiServices, call: V1Call) -> Response:
    """PATCH /faces/{face_id}: move a face to another person."""
    body, face_id = call.sent(FaceMove), FaceId(call.ids["face_id"])
    target: ClusterId | NewHome = NewHome.UNKNOWN
    if body.person_id is not None:
        is_new = body.person_id == _NEW_PERSON
        target = NewHome.PERSON if is_new else ClusterId(body.person_id)
    moved = await api.people.move_face(call.tenant_id, face_id, target, override=body.override)
    call.record(api, "face.move", face_id=face_id, person_id=moved.person_id)
    return Json(face_json(moved))


async def delete_face(api: ApiServices, call: V1Call) -> Response:
    """DELETE /faces/{face_id}: delete a face; its image stays."""
    face_id = FaceId(call.ids["face_id"])
    receipt = await api.curate.delete_face(call.tenant_id, face_id)
    call.record(api, "face.delete", face_id=face_id)
    return Json(receipt_json(receipt))


def face_position(query: Page, of_list: str) -> FacePosition | None:
    """The position in a list of faces that a page begins behind.

    Raises:
        CursorError: the cursor is none of this list.
    """
    if query.cursor is None:
        return None
    (seq,) = decode_cursor(query.cursor, of_list, [int])
    return FacePosition(cast(int, seq))


def _person_id(call: V1Call) -> ClusterId:
    return ClusterId(call.ids["person_id"])


def _value_of(person: Person, order: PeopleOrder) -> object:
    if order is PeopleOrder.FACES:
        return person.faces
    return person.label_key if order is PeopleOrder.LABEL else person.last_face_at


def _edit_of(body: PersonFields) -> PersonEdit:
    """The fields that a body names; the others stay as they are."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    for name in ("face_ids", "override"):
        given.pop(name, None)
    if given.get("metadata", UNCHANGED) is None:
        given["metadata"] = {}
    if "cover_face_id" in given and given["cover_face_id"] is not None:
        given["cover_face_id"] = FaceId(given["cover_face_id"])
    return PersonEdit(**given)


def _person(person: Person) -> Response:
    return Json(person_json(person), headers={"ETag": f'"{person.version}"'})


def _created(person: Person) -> Response:
    return Json(person_json(person), 201, headers={"ETag": f'"{person.version}"'})
