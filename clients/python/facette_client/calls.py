"""Requests and how their answers are read, for both clients: nothing here sends anything."""

from __future__ import annotations

import array
import base64
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import uuid4

from facette_client.answers import (
    Change,
    Comparison,
    Decision,
    DetectedFace,
    Face,
    FaceSearch,
    Image,
    Inserted,
    IssuedKey,
    Key,
    Match,
    NearCopy,
    Page,
    Person,
    PhotoSearch,
    Receipt,
    Review,
    TenantFacts,
    decode,
    decode_page,
)
from facette_client.errors import BatchEndedError, FacetteError, error_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

Photo: TypeAlias = bytes | str | os.PathLike[str]
"""The bytes of a photo, or the path of its file."""

P = TypeVar("P", bound=Photo)

Vector: TypeAlias = "NDArray[np.float32] | tuple[float, ...]"
"""An embedding: an array, float32 [dimension], where NumPy is installed."""

OnDuplicate: TypeAlias = Literal["insert", "return", "reject"]
"""What an insert does where the tenant has a file of the same bytes."""

Scope: TypeAlias = Literal["read", "write", "admin"]

PAGE_SIZE: Final = 500


class Unchanged(Enum):
    """In the place of a value that stays as it is; None removes it."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.content)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request. A POST that stores has an idempotency key, so that its repetition stores nothing.

    photos: are read when the request is sent: one is the body, unless `is_form`; more are the files
    of a form. is_repeatable: whether it may be sent again where an earlier attempt may have been
    done.
    """

    method: str
    path: str
    read: Callable[[Answer], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    photos: tuple[Photo, ...] = ()
    is_form: bool = False
    is_repeatable: bool = True


@dataclass(frozen=True, slots=True)
class EmbeddedFace(DetectedFace):
    """A face of a photo, with its embedding: a unit vector."""

    embedding: Vector


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The faces of a photo; only embeddings of the same `space` can be compared."""

    space: str
    faces: tuple[EmbeddedFace, ...]


@dataclass(frozen=True, slots=True)
class Ingested(Generic[P]):
    """What became of a photo: an answer, or the error that ended its last attempt."""

    photo: P
    answer: Inserted | None
    error: FacetteError | OSError | None


def load(photo: Photo) -> bytes:
    """The bytes of a photo.

    Raises:
        OSError: the file cannot be read.
    """
    return photo if isinstance(photo, bytes) else Path(photo).read_bytes()


class ServiceCalls:
    """Requests that concern no tenant, or make one."""

    def embed(self, photo: Photo) -> Call[Embeddings]:
        query = {"embedding_format": "base64"}
        return Call("POST", "/v1/embed", _embeddings, query, photos=(photo,))

    def compare(self, first: Photo, second: Photo) -> Call[Comparison]:
        return Call("POST", "/v1/compare", _one(Comparison), photos=(first, second))

    def tenants(self, cursor: str | None) -> Call[Page[TenantFacts]]:
        return Call("GET", "/v1/tenants", _page(TenantFacts), _page_query(cursor))

    def create_tenant(self, tenant_id: str, limits: Mapping[str, int | None]) -> Call[TenantFacts]:
        return _storing("POST", "/v1/tenants", _one(TenantFacts), {"id": tenant_id, **limits})

    def keys(self, cursor: str | None, tenant_id: str | None) -> Call[Page[Key]]:
        return Call("GET", "/v1/keys", _page(Key), _page_query(cursor, tenant_id=tenant_id))

    def create_key(
        self,
        name: str,
        scopes: Sequence[Scope],
        tenant_id: str | None,
        expires_at: datetime | None,
    ) -> Call[IssuedKey]:
        body = {
            "name": name,
            "scopes": list(scopes),
            "tenant_id": tenant_id,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        return _storing("POST", "/v1/keys", _one(IssuedKey), body)

    def rotate_key(self, key_id: str, keep_former_s: int) -> Call[IssuedKey]:
        path = f"/v1/keys/{_segment(key_id)}/rotate"
        return _storing("POST", path, _one(IssuedKey), {"keep_former_s": keep_former_s})

    def revoke_key(self, key_id: str) -> Call[Key]:
        return Call("DELETE", f"/v1/keys/{_segment(key_id)}", _one(Key))


class TenantCalls:
    """Requests to one tenant."""

    def __init__(self, tenant_id: str) -> None:
        self.path = f"/v1/tenants/{_segment(tenant_id)}"

    def facts(self) -> Call[TenantFacts]:
        return Call("GET", self.path, _one(TenantFacts))

    def change_limits(self, limits: Mapping[str, int | Unchanged | None]) -> Call[TenantFacts]:
        return Call("PATCH", self.path, _one(TenantFacts), body=_changed(limits))

    def erase(self) -> Call[Receipt]:
        return Call("DELETE", self.path, _one(Receipt))

    def insert(
        self,
        photo: Photo,
        on_duplicate: OnDuplicate,
        idempotency_key: str | None,
        *,
        bulk: bool = False,
    ) -> Call[Inserted]:
        return Call(
            "POST",
            f"{self.path}/images",
            _one(Inserted),
            {"on_duplicate": on_duplicate},
            _insert_headers(idempotency_key, bulk),
            photos=(photo,),
        )

    def insert_batch(
        self,
        photos: Sequence[P],
        on_duplicate: OnDuplicate,
        idempotency_key: str | None,
        *,
        bulk: bool = False,
    ) -> Call[tuple[Ingested[P], ...]]:
        return Call(
            "POST",
            f"{self.path}/images/batch",
            lambda answer: _results(photos, answer),
            {"on_duplicate": on_duplicate},
            _insert_headers(idempotency_key, bulk),
            photos=tuple(photos),
            is_form=True,
        )

    def images(
        self,
        cursor: str | None,
        order: str,
        after: datetime | None,
        before: datetime | None,
        sha256: Iterable[str] | None,
    ) -> Call[Page[Image]]:
        digests = None if sha256 is None else ",".join(sha256)
        query = _page_query(cursor, order=order, after=after, before=before, sha256=digests)
        return Call("GET", f"{self.path}/images", _page(Image), query)

    def image(self, image_id: str) -> Call[Image]:
        return Call("GET", self._image(image_id), _one(Image))

    def delete_image(self, image_id: str) -> Call[Receipt]:
        return Call("DELETE", self._image(image_id), _one(Receipt))

    def file(self, image_id: str) -> Call[bytes]:
        return Call("GET", f"{self._image(image_id)}/file", _content)

    def thumbnail(self, image_id: str, size: int) -> Call[bytes]:
        return Call("GET", f"{self._image(image_id)}/thumbnail", _content, {"size": str(size)})

    def faces_of_image(self, cursor: str | None, image_id: str) -> Call[Page[Face]]:
        path = f"{self._image(image_id)}/faces"
        return Call("GET", path, _page(Face), _page_query(cursor))

    def near_copies(self, image_id: str, max_distance: int | None) -> Call[tuple[NearCopy, ...]]:
        query = _query(max_distance=max_distance, limit=PAGE_SIZE)
        return Call("GET", f"{self._image(image_id)}/duplicates", _items(NearCopy), query)

    def face(self, face_id: str) -> Call[Face]:
        return Call("GET", self._face(face_id), _one(Face))

    def move_face(self, face_id: str, person_id: str | None, override: bool) -> Call[Face]:
        body = {"person_id": person_id, "override": override}
        # By each repetition, "new" and None would be somebody else.
        is_somebody = person_id not in ("new", None)
        path = self._face(face_id)
        return Call("PATCH", path, _one(Face), body=body, is_repeatable=is_somebody)

    def delete_face(self, face_id: str) -> Call[Receipt]:
        return Call("DELETE", self._face(face_id), _one(Receipt))

    def crop(self, face_id: str, size: int, margin: float) -> Call[bytes]:
        query = {"size": str(size), "margin": str(margin)}
        return Call("GET", f"{self._face(face_id)}/crop", _content, query)

    def people(
        self,
        cursor: str | None,
        order: str | None,
        labelled: bool | None,
        hidden: bool | None,
        prefix: str | None,
        external_id: str | None,
    ) -> Call[Page[Person]]:
        query = _page_query(
            cursor,
            order=order,
            labelled=labelled,
            hidden="any" if hidden is None else hidden,
            prefix=prefix,
            external_id=external_id,
        )
        return Call("GET", f"{self.path}/people", _page(Person), query)

    def person(self, person_id: str) -> Call[Person]:
        return Call("GET", self._person(person_id), _one(Person))

    def create_person(
        self, said: Mapping[str, object], face_ids: Iterable[str], override: bool
    ) -> Call[Person]:
        body = {**_changed(said), "face_ids": list(face_ids), "override": override}
        return _storing("POST", f"{self.path}/people", _one(Person), body)

    def change_person(
        self, person_id: str, said: Mapping[str, object], if_version: int | None
    ) -> Call[Person]:
        headers = _if_match(if_version)
        path = self._person(person_id)
        return Call("PATCH", path, _one(Person), headers=headers, body=_changed(said))

    def delete_person(self, person_id: str, if_version: int | None) -> Call[Receipt]:
        headers = _if_match(if_version)
        return Call("DELETE", self._person(person_id), _one(Receipt), headers=headers)

    def merge(self, person_id: str, into: str, override: bool) -> Call[Person]:
        body = {"into": into, "override": override}
        return _storing("POST", f"{self._person(person_id)}/merge", _one(Person), body)

    def split(
        self,
        person_id: str,
        face_ids: Iterable[str],
        said: Mapping[str, object],
        override: bool,
    ) -> Call[Person]:
        body = {**_changed(said), "face_ids": list(face_ids), "override": override}
        return _storing("POST", f"{self._person(person_id)}/split", _one(Person), body)

    def confirm(self, person_id: str, face_ids: Iterable[str]) -> Call[Person]:
        body = {"face_ids": list(face_ids)}
        return _storing("POST", f"{self._person(person_id)}/confirm", _one(Person), body)

    def decisions(self, cursor: str | None) -> Call[Page[Decision]]:
        return Call("GET", f"{self.path}/decisions", _page(Decision), _page_query(cursor))

    def retract_decision(self, decision_id: str) -> Call[Change]:
        return Call("DELETE", f"{self.path}/decisions/{_segment(decision_id)}", _one(Change))

    def history(
        self, cursor: str | None, kind: str | None, person_id: str | None
    ) -> Call[Page[Change]]:
        query = _page_query(cursor, kind=kind, person_id=person_id)
        return Call("GET", f"{self.path}/history", _page(Change), query)

    def undo(self, change_id: str) -> Call[Change]:
        path = f"{self.path}/history/{_segment(change_id)}/undo"
        return _storing("POST", path, _one(Change), None)

    def reviews(
        self, cursor: str | None, kind: str | None, put_off: bool, person_id: str | None
    ) -> Call[Page[Review]]:
        query = _page_query(cursor, kind=kind, put_off=put_off or None, person_id=person_id)
        return Call("GET", f"{self.path}/reviews", _page(Review), query)

    def next_reviews(
        self, limit: int, lease_s: int, reviewer: str | None
    ) -> Call[tuple[Review, ...]]:
        query = {"limit": str(limit), "lease_s": str(lease_s)}
        if reviewer is not None:
            query["reviewer"] = reviewer
        return Call("GET", f"{self.path}/reviews/next", _items(Review), query)

    def answer_review(
        self,
        review_id: str,
        answer: str,
        label: str | None,
        person_id: str | None,
        override: bool,
    ) -> Call[Change]:
        body: dict[str, object] = {"answer": answer, "override": override}
        given = {"label": label, "person_id": person_id}
        body |= {name: value for name, value in given.items() if value is not None}
        path = f"{self.path}/reviews/{_segment(review_id)}"
        return _storing("POST", path, _one(Change), body)

    def faces_of_person(self, cursor: str | None, person_id: str) -> Call[Page[Face]]:
        path = f"{self._person(person_id)}/faces"
        return Call("GET", path, _page(Face), _page_query(cursor))

    def images_of_person(self, cursor: str | None, person_id: str) -> Call[Page[Image]]:
        path = f"{self._person(person_id)}/images"
        return Call("GET", path, _page(Image), _page_query(cursor))

    def similar(self, person_id: str, limit: int) -> Call[tuple[Match, ...]]:
        path = f"{self._person(person_id)}/similar"
        return Call("GET", path, _items(Match), {"limit": str(limit)})

    def search(
        self,
        photo: Photo,
        limit: int,
        max_distance: float | None,
        labelled: bool,
        among: Iterable[str] | None,
        box: tuple[float, float, float, float] | None,
    ) -> Call[PhotoSearch]:
        query = _query(
            limit=limit,
            max_distance=max_distance,
            labelled=labelled,
            among=None if among is None else ",".join(among),
            box=None if box is None else ",".join(map(str, box)),
        )
        return Call("POST", f"{self.path}/search", _one(PhotoSearch), query, photos=(photo,))

    def search_face(
        self,
        face_id: str,
        limit: int,
        max_distance: float | None,
        labelled: bool,
        among: Iterable[str] | None,
    ) -> Call[FaceSearch]:
        body = {
            "face_id": face_id,
            "limit": limit,
            "max_distance": max_distance,
            "labelled": labelled,
            "person_ids": None if among is None else list(among),
        }
        return Call("POST", f"{self.path}/search", _one(FaceSearch), body=body)

    def _image(self, image_id: str) -> str:
        return f"{self.path}/images/{_segment(image_id)}"

    def _face(self, face_id: str) -> str:
        return f"{self.path}/faces/{_segment(face_id)}"

    def _person(self, person_id: str) -> str:
        return f"{self.path}/people/{_segment(person_id)}"


def _storing(
    method: str, path: str, read: Callable[[Answer], T], body: Mapping[str, object] | None
) -> Call[T]:
    return Call(method, path, read, headers={"Idempotency-Key": uuid4().hex}, body=body)


def _insert_headers(idempotency_key: str | None, bulk: bool) -> dict[str, str]:
    headers = {}
    if idempotency_key != "":
        headers["Idempotency-Key"] = idempotency_key or uuid4().hex
    if bulk:
        headers["X-Priority"] = "bulk"
    return headers


def _results(photos: Sequence[P], answer: Answer) -> tuple[Ingested[P], ...]:
    """What became of the photos of a batch."""
    body, request_id = answer.json(), answer.headers.get("x-request-id", "")
    items = {each["index"]: each for each in body["items"]}
    found: list[Ingested[P]] = []
    for index, photo in enumerate(photos):
        item = items.get(index)
        if item is None:
            problem = body["problem"]
            ended = error_of(problem["status"], problem, request_id, kind=BatchEndedError)
            found.append(Ingested(photo, None, ended))
        elif item["image"] is None:
            error = error_of(item["status"], item["problem"], request_id)
            found.append(Ingested(photo, None, error))
        else:
            found.append(Ingested(photo, decode(Inserted, item["image"]), None))
    return tuple(found)


def _segment(value: str) -> str:
    """An id as a part of a path."""
    return quote(value, safe="")


def _changed(said: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in said.items() if value is not UNCHANGED}


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _page_query(cursor: str | None, **more: object) -> dict[str, str]:
    return _query(limit=PAGE_SIZE, cursor=cursor, **more)


def _query(**given: object) -> dict[str, str]:
    return {name: _text(value) for name, value in given.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _one(kind: type[T]) -> Callable[[Answer], T]:
    return lambda answer: decode(kind, answer.json())


def _page(kind: type[T]) -> Callable[[Answer], Page[T]]:
    return lambda answer: decode_page(kind, answer.json())


def _items(kind: type[T]) -> Callable[[Answer], tuple[T, ...]]:
    return lambda answer: decode_page(kind, answer.json()).items


def _content(answer: Answer) -> bytes:
    return answer.content


def _embeddings(answer: Answer) -> Embeddings:
    body = answer.json()
    faces = []
    for each in body["faces"]:
        face = decode(DetectedFace, each)
        vector = _vector(base64.b64decode(each["embedding"]))
        faces.append(EmbeddedFace(face.box, face.landmarks, face.confidence, face.quality, vector))
    return Embeddings(body["model"]["space"], tuple(faces))


def _vector(data: bytes) -> Vector:
    """Numbers in single precision, little-endian."""
    try:
        import numpy as np
    except ImportError:
        pass
    else:
        return np.frombuffer(data, "<f4").astype(np.float32)
    numbers = array.array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)
