"""The client for asyncio: `AsyncClient` and `AsyncTenant` are as `Client` and `Tenant`."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx2

from facette_client.answers import (
    Change,
    Comparison,
    Decision,
    Event,
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
)
from facette_client.calls import (
    UNCHANGED,
    Call,
    Embeddings,
    Ingested,
    OnDuplicate,
    P,
    Photo,
    Scope,
    ServiceCalls,
    TenantCalls,
    Unchanged,
    load,
)
from facette_client.errors import FacetteError
from facette_client.retries import Retries
from facette_client.transport import (
    Attempts,
    EventParser,
    answer_of,
    arguments_of,
    events_call,
    settings_of,
)

T = TypeVar("T")


class AsyncClient:
    """A connection to a service; close it, or use it as a context manager.

    Every method raises the errors of `facette_client.errors`.

    Args:
        url: of the service; by default FACETTE_URL, or the port 8000 of this machine.
        key: an access key, or the token; by default FACETTE_KEY.
        timeout_s: for each attempt, between two pieces of the answer.
        retries: when a request is repeated.
        transport: of httpx2, for instance with a certificate of your own.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: Retries | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(**settings_of(url, key, timeout_s), transport=transport)
        self._retries = retries or Retries()
        self._calls = ServiceCalls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, call: Call[T]) -> T:
        """Send a request, again where that may help, and read its answer."""
        photos = [
            each if isinstance(each, bytes) else await asyncio.to_thread(load, each)
            for each in call.photos
        ]
        arguments = arguments_of(call, photos)
        attempts = Attempts(self._retries)
        while True:
            try:
                response = await self._http.request(call.method, call.path, **arguments)
            except httpx2.TransportError as error:
                wait_s = attempts.after_failure(call, error)
            else:
                if response.is_success:
                    return call.read(answer_of(response))
                retry_after = response.headers.get("retry-after")
                further = attempts.after_answer(call, response.status_code, retry_after)
                if further is None:
                    raise attempts.error(call, response)
                wait_s = further
            await asyncio.sleep(wait_s)

    async def pages(self, call: Callable[[str | None], Call[Page[T]]]) -> AsyncIterator[T]:
        """The items of all pages, which are read as they are asked for."""
        cursor: str | None = None
        while True:
            page = await self.run(call(cursor))
            for item in page.items:
                yield item
            if (cursor := page.next) is None:
                return

    async def events(self, path: str, after: int | None) -> AsyncIterator[Event]:
        """The events of a path, through any number of connections."""
        parser = EventParser(after)
        attempts = Attempts(self._retries)
        while True:
            parser.begin()
            call = events_call(path, parser)
            try:
                streaming = self._http.stream(call.method, call.path, headers=dict(call.headers))
                async with streaming as said:
                    if not said.is_success:
                        await said.aread()
                        retry_after = said.headers.get("retry-after")
                        wait_s = attempts.after_answer(call, said.status_code, retry_after)
                        if wait_s is None:
                            raise attempts.error(call, said)
                    else:
                        try:
                            async for line in said.aiter_lines():
                                if (event := parser.feed(line)) is not None:
                                    yield event
                        finally:  # also where it breaks: what lasted until now is no attempt
                            attempts = Attempts(self._retries)
                        wait_s = self._retries.first_wait_s  # the service ended the stream
            except httpx2.TransportError as error:
                wait_s = attempts.after_failure(call, error)
            await asyncio.sleep(wait_s)

    def tenant(self, tenant_id: str) -> AsyncTenant:
        """A tenant's photos and people; nothing is sent."""
        return AsyncTenant(self, tenant_id)

    async def embed(self, photo: Photo) -> Embeddings:
        """The embeddings of a photo's faces; nothing is stored."""
        return await self.run(self._calls.embed(photo))

    async def compare(self, first: Photo, second: Photo) -> Comparison:
        """Compare the faces of two photos; nothing is stored."""
        return await self.run(self._calls.compare(first, second))

    def tenants(self) -> AsyncIterator[TenantFacts]:
        """The tenants that the key reaches."""
        return self.pages(self._calls.tenants)

    async def create_tenant(
        self,
        tenant_id: str,
        *,
        max_images: int | None = None,
        max_faces: int | None = None,
        requests_per_minute: int | None = None,
    ) -> TenantFacts:
        """Make a tenant, with limits that are None where there is none."""
        limits = {
            "max_images": max_images,
            "max_faces": max_faces,
            "requests_per_minute": requests_per_minute,
        }
        return await self.run(self._calls.create_tenant(tenant_id, limits))

    def keys(self, tenant_id: str | None = None) -> AsyncIterator[Key]:
        """Keys of all tenants, or of one, newest first."""
        return self.pages(lambda cursor: self._calls.keys(cursor, tenant_id))

    async def create_key(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        tenant_id: str | None = None,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Make a key, for one tenant or for all; its text is given this once."""
        return await self.run(self._calls.create_key(name, scopes, tenant_id, expires_at))

    async def rotate_key(self, key_id: str, *, keep_former_s: int = 0) -> IssuedKey:
        """Give a key a new secret; the former one stays valid for so many seconds."""
        return await self.run(self._calls.rotate_key(key_id, keep_former_s))

    async def revoke_key(self, key_id: str) -> Key:
        """Revoke a key for good."""
        return await self.run(self._calls.revoke_key(key_id))


class AsyncTenant:
    """The photos and people of one tenant."""

    def __init__(self, client: AsyncClient, tenant_id: str) -> None:
        self._client = client
        self._calls = TenantCalls(tenant_id)

    async def facts(self) -> TenantFacts:
        """Counts and limits."""
        return await self._client.run(self._calls.facts())

    async def change_limits(
        self,
        *,
        max_images: int | Unchanged | None = UNCHANGED,
        max_faces: int | Unchanged | None = UNCHANGED,
        requests_per_minute: int | Unchanged | None = UNCHANGED,
    ) -> TenantFacts:
        """Change limits; None removes one."""
        limits = {
            "max_images": max_images,
            "max_faces": max_faces,
            "requests_per_minute": requests_per_minute,
        }
        return await self._client.run(self._calls.change_limits(limits))

    async def erase(self) -> Receipt:
        """Erase all data of the tenant, and the tenant."""
        return await self._client.run(self._calls.erase())

    async def insert(
        self,
        photo: Photo,
        *,
        on_duplicate: OnDuplicate = "insert",
        idempotency_key: str | None = None,
        bulk: bool = False,
    ) -> Inserted:
        """Store a photo: its faces are found, and each joins a person or opens one.

        Args:
            on_duplicate: what to do where the tenant has a file of the same bytes.
            idempotency_key: of the insert; a new one by default. For a day, the same photo with
                the same key is stored once. "" for none, which is cheaper and as safe where
                `on_duplicate` is "return".
            bulk: let requests that are not of this kind go first.
        """
        call = self._calls.insert(photo, on_duplicate, idempotency_key, bulk=bulk)
        return await self._client.run(call)

    async def insert_batch(
        self,
        photos: Sequence[P],
        *,
        on_duplicate: OnDuplicate = "insert",
        idempotency_key: str | None = None,
        bulk: bool = False,
    ) -> tuple[Ingested[P], ...]:
        """Store photos by one request: each has a result, in their order, and fails alone.

        Their bytes are in memory together. A photo for which the service has no room is a result
        with BusyError; one that the batch did not come to is one with BatchEndedError.

        Args:
            photos: 1 to 1,000 of them.
            on_duplicate: as for `insert`.
            idempotency_key: of the batch; as for `insert`.
            bulk: as for `insert`.

        Raises:
            OSError: a file cannot be read; nothing was sent.
        """
        call = self._calls.insert_batch(photos, on_duplicate, idempotency_key, bulk=bulk)
        return await self._client.run(call)

    async def ingest(
        self,
        photos: Iterable[P] | AsyncIterable[P],
        *,
        concurrency: int = 4,
        on_duplicate: OnDuplicate = "return",
    ) -> AsyncIterator[Ingested[P]]:
        """Store many photos, a few at a time; the results come as they are ready.

        Photos are taken from the iterable when there is room for them, and read from their files
        one by one. A photo that fails is a result with an error, and the others go on. With
        "return" the same bytes are stored once, also where it is begun again.
        """

        async def insert(photo: P) -> Ingested[P]:
            try:
                call = self._calls.insert(photo, on_duplicate, None)
                answer = await self._client.run(call)
                return Ingested(photo, answer, None)
            except (FacetteError, OSError) as error:
                return Ingested(photo, None, error)

        under_way: set[asyncio.Task[Ingested[P]]] = set()
        try:
            async for photo in _each(photos):
                under_way.add(asyncio.create_task(insert(photo)))
                if len(under_way) >= concurrency:
                    done, under_way = await asyncio.wait(
                        under_way, return_when=asyncio.FIRST_COMPLETED
                    )
                    for each in done:
                        yield each.result()
            for ready in asyncio.as_completed(under_way):
                yield await ready
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def images(
        self,
        *,
        order: Literal["created", "taken"] = "created",
        after: datetime | None = None,
        before: datetime | None = None,
        sha256: Collection[str] | None = None,
    ) -> AsyncIterator[Image]:
        """Images, newest first.

        Args:
            sha256: only images of files with these hashes, in hexadecimal; at most 200.
        """
        return self._client.pages(
            lambda cursor: self._calls.images(cursor, order, after, before, sha256)
        )

    async def image(self, image_id: str) -> Image:
        """Facts of an image."""
        return await self._client.run(self._calls.image(image_id))

    async def delete_image(self, image_id: str) -> Receipt:
        """Delete an image, its faces and its file."""
        return await self._client.run(self._calls.delete_image(image_id))

    async def file(self, image_id: str) -> bytes:
        """The file of an image as it was sent."""
        return await self._client.run(self._calls.file(image_id))

    async def thumbnail(self, image_id: str, size: int = 256) -> bytes:
        """A small upright JPEG of an image; `size` is the pixels of its longest side."""
        return await self._client.run(self._calls.thumbnail(image_id, size))

    def faces_of_image(self, image_id: str) -> AsyncIterator[Face]:
        """The faces of an image, largest first."""
        return self._client.pages(lambda cursor: self._calls.faces_of_image(cursor, image_id))

    async def near_copies(
        self, image_id: str, max_distance: int | None = None
    ) -> tuple[NearCopy, ...]:
        """Near copies of an image by its perceptual hash, nearest first."""
        return await self._client.run(self._calls.near_copies(image_id, max_distance))

    async def face(self, face_id: str) -> Face:
        """A face."""
        return await self._client.run(self._calls.face(face_id))

    async def move_face(
        self, face_id: str, person_id: str | None, *, override: bool = False
    ) -> Face:
        """Move a face to a person, to "new", or by None away from its person.

        Where it is the person's already, it is confirmed there. A move to "new" or None that may
        have been done is not sent again: it would be to somebody else.

        Args:
            override: be the last word where a decision speaks against it; else
                DecisionConflictError is raised.
        """
        return await self._client.run(self._calls.move_face(face_id, person_id, override))

    async def delete_face(self, face_id: str) -> Receipt:
        """Delete a face; its image stays."""
        return await self._client.run(self._calls.delete_face(face_id))

    async def crop(self, face_id: str, size: int = 256, margin: float = 1.5) -> bytes:
        """A face, cut out of its image as JPEG, with sides `margin` times those of its box."""
        return await self._client.run(self._calls.crop(face_id, size, margin))

    def people(
        self,
        *,
        order: Literal["faces", "label", "recency"] | None = None,
        labelled: bool | None = None,
        hidden: bool | None = False,
        prefix: str | None = None,
        external_id: str | None = None,
    ) -> AsyncIterator[Person]:
        """People, largest first; with a prefix of their labels, or `order`, otherwise.

        Args:
            labelled: only people with, or without, a label.
            hidden: only people who are, or are not, hidden; None for both.
        """
        return self._client.pages(
            lambda cursor: self._calls.people(cursor, order, labelled, hidden, prefix, external_id)
        )

    async def person(self, person_id: str) -> Person:
        """A person."""
        return await self._client.run(self._calls.person(person_id))

    async def create_person(
        self,
        face_ids: Iterable[str] = (),
        *,
        label: str | None = None,
        external_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        override: bool = False,
    ) -> Person:
        """Make a person, of faces that are taken from their people, or of none.

        Args:
            override: as for `move_face`.
        """
        said = {"label": label, "external_id": external_id, "metadata": metadata}
        return await self._client.run(self._calls.create_person(said, face_ids, override))

    async def change_person(
        self,
        person_id: str,
        *,
        label: str | Unchanged | None = UNCHANGED,
        external_id: str | Unchanged | None = UNCHANGED,
        metadata: dict[str, Any] | Unchanged | None = UNCHANGED,
        hidden: bool | Unchanged = UNCHANGED,
        cover_face_id: str | Unchanged | None = UNCHANGED,
        if_version: int | None = None,
    ) -> Person:
        """Change what is said about a person; None removes it.

        Args:
            if_version: refuse the change with EditedError where the person has another version;
                the error has a note where that may be by this change, whose answer was lost.
        """
        said = {
            "label": label,
            "external_id": external_id,
            "metadata": metadata,
            "hidden": hidden,
            "cover_face_id": cover_face_id,
        }
        return await self._client.run(self._calls.change_person(person_id, said, if_version))

    async def delete_person(self, person_id: str, *, if_version: int | None = None) -> Receipt:
        """Erase a person, with all faces, and the images that show nobody else."""
        return await self._client.run(self._calls.delete_person(person_id, if_version))

    async def merge(self, person_id: str, into: str, *, override: bool = False) -> Person:
        """Merge a person into another one, which keeps its id.

        Args:
            override: as for `move_face`.
        """
        return await self._client.run(self._calls.merge(person_id, into, override))

    async def split(
        self,
        person_id: str,
        face_ids: Iterable[str],
        *,
        label: str | None = None,
        external_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        override: bool = False,
    ) -> Person:
        """Make a new person of some of a person's faces.

        Args:
            override: as for `move_face`.
        """
        said = {"label": label, "external_id": external_id, "metadata": metadata}
        return await self._client.run(self._calls.split(person_id, face_ids, said, override))

    async def confirm(self, person_id: str, face_ids: Iterable[str] = ()) -> Person:
        """Say that faces of a person belong there, or all of them where none is named."""
        return await self._client.run(self._calls.confirm(person_id, face_ids))

    def decisions(self) -> AsyncIterator[Decision]:
        """What people decided about faces, newest first."""
        return self._client.pages(self._calls.decisions)

    async def retract_decision(self, decision_id: str) -> Change:
        """Let a decision count no more; no face is moved."""
        return await self._client.run(self._calls.retract_decision(decision_id))

    def history(
        self, *, kind: str | None = None, person_id: str | None = None
    ) -> AsyncIterator[Change]:
        """What happened, newest first.

        Args:
            kind: only changes of this kind, such as "person.merged".
            person_id: only changes of this person.
        """
        return self._client.pages(lambda cursor: self._calls.history(cursor, kind, person_id))

    async def undo(self, change_id: str) -> Change:
        """Take a change back, by a change that is returned; undoing that one does it again.

        UndoError is raised where it cannot be taken back.
        """
        return await self._client.run(self._calls.undo(change_id))

    def reviews(
        self, *, kind: str | None = None, put_off: bool = False, person_id: str | None = None
    ) -> AsyncIterator[Review]:
        """The open questions that only a person can answer, those of most worth first.

        Args:
            kind: "new_person", "same_person", "weak_match" or "odd_face".
            put_off: those that somebody was not sure about, in the place of the others.
            person_id: only those about this person.
        """
        return self._client.pages(
            lambda cursor: self._calls.reviews(cursor, kind, put_off, person_id)
        )

    async def next_reviews(
        self, *, limit: int = 100, lease_s: int = 600, reviewer: str | None = None
    ) -> tuple[Review, ...]:
        """The questions of most worth, which nobody else is given for a while.

        Args:
            limit: largest number of questions, up to 100.
            lease_s: seconds for which no other reviewer is given them.
            reviewer: who is given them, and is given them again while they are open; without it
                the key is the reviewer.
        """
        return await self._client.run(self._calls.next_reviews(limit, lease_s, reviewer))

    async def answer_review(
        self,
        review_id: str,
        answer: str,
        *,
        label: str | None = None,
        person_id: str | None = None,
        override: bool = False,
    ) -> Change:
        """Answer a question; the change is returned, which `undo` takes back with the answer.

        AnsweredError is raised where somebody else answered it meanwhile, or another change did.

        Args:
            answer: of a new_person "label", "same" or "ignore"; of a same_person "same",
                "different" or "not_sure"; of a weak_match "yes", "no" or "other"; of an odd_face
                "yes" or "no".
            label: the name, with "label".
            person_id: who it is, with "same" of a new_person and with "other".
            override: as for `move_face`.
        """
        return await self._client.run(
            self._calls.answer_review(review_id, answer, label, person_id, override)
        )

    def faces_of_person(self, person_id: str) -> AsyncIterator[Face]:
        """The faces of a person, newest first."""
        return self._client.pages(lambda cursor: self._calls.faces_of_person(cursor, person_id))

    def images_of_person(self, person_id: str) -> AsyncIterator[Image]:
        """The images that show a person, newest first."""
        return self._client.pages(lambda cursor: self._calls.images_of_person(cursor, person_id))

    async def similar(self, person_id: str, *, limit: int = 10) -> tuple[Match, ...]:
        """The people who look most like a person."""
        return await self._client.run(self._calls.similar(person_id, limit))

    async def search(
        self,
        photo: Photo,
        *,
        limit: int = 10,
        max_distance: float | None = None,
        labelled: bool = False,
        among: Iterable[str] | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> PhotoSearch:
        """The people nearest to the faces of a photo; nothing is stored.

        Args:
            labelled: only people with a label.
            among: only these people, by their ids.
            box: search only the face that it shows: x1, y1, x2, y2 in pixels of the upright photo.
        """
        return await self._client.run(
            self._calls.search(photo, limit, max_distance, labelled, among, box)
        )

    async def search_face(
        self,
        face_id: str,
        *,
        limit: int = 10,
        max_distance: float | None = None,
        labelled: bool = False,
        among: Iterable[str] | None = None,
    ) -> FaceSearch:
        """The people nearest to a stored face."""
        return await self._client.run(
            self._calls.search_face(face_id, limit, max_distance, labelled, among)
        )

    def events(self, after: int | None = None) -> AsyncIterator[Event]:
        """What happens in the tenant, from now on or after an event, without end.

        A connection that breaks is made again, and no event is left out.
        """
        return self._client.events(self._calls.path, after)


async def _each(photos: Iterable[P] | AsyncIterable[P]) -> AsyncIterator[P]:
    if isinstance(photos, AsyncIterable):
        async for photo in photos:
            yield photo
    else:
        for photo in photos:
            yield photo
