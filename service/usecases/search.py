"""Search: who of a tenant's people is on a photo, or looks like a stored face. Stores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.batching import Ticket
from service.domain.errors import NoFaceInBoxError
from service.domain.matching import ClusterQuery, MatchRule, doubt_of
from service.domain.search import (
    NearPerson,
    PeopleQuery,
    PersonMatch,
    SearchedFace,
    SearchedPhoto,
    SearchedStoredFace,
    SearchOptions,
)
from service.domain.types import (
    Box,
    ClusterId,
    DetectedFace,
    EmbeddedFace,
    Embedding,
    FaceId,
    FaceQuality,
    ModelSpace,
    PhotoSource,
    StoredFace,
    TenantId,
)
from service.telemetry import StageClock
from service.usecases.ports import PeopleStore, PhotoAnalyzer


class SearchPeople:
    """Searches the people of a tenant, in transactions that only read.

    Every method raises NotFoundError("tenant") for a tenant that does not exist, ModelReplacedError
    when the database is searched by another model, and StoreUnavailableError when the database does
    not answer.

    Args:
        space: identifies the weights of the embeddings; only equal spaces are compared.
        rule: the distance of a face to a person, and its limit, as for an insert.
        min_quality: as of IngestPhoto: a face of low quality has a smaller limit.
    """

    def __init__(
        self,
        analyzer: PhotoAnalyzer,
        store: PeopleStore,
        *,
        space: ModelSpace,
        rule: MatchRule,
        min_quality: float = 0.0,
    ) -> None:
        self._analyzer = analyzer
        self._store = store
        self._space = space
        self._rule = rule
        self._min_quality = min_quality

    async def by_photo(
        self,
        tenant_id: TenantId,
        read: PhotoSource,
        clock: StageClock,
        ticket: Ticket,
        *,
        box: Box | None = None,
        options: SearchOptions,
    ) -> SearchedPhoto:
        """The people nearest to the faces of a photo, which are all searched, largest first.

        Args:
            box: search only the face that it shows, in pixels of the upright photo: of the faces
                whose centre is in the box, or that the centre of the box is in, the one with the
                largest intersection over union.

        Raises:
            InputError: the bytes are no usable photo.
            NoFaceInBoxError: there is no such face.
            WithdrawnError, DeadlineError: the ticket failed.
        """
        photo = await self._analyzer.analyze(read, clock, ticket, hashed=False)
        faces = photo.faces if box is None else (face_in_box(photo.faces, box),)
        ticket.check()
        with clock.stage("search"):
            query = self._query(
                [face.embedding for face in faces], [face.quality for face in faces], options
            )
            async with self._store.searching(tenant_id, self._space, query) as tenant:
                near = await tenant.near_people(query)
        return SearchedPhoto(
            photo.width,
            photo.height,
            tuple(
                SearchedFace(
                    DetectedFace(face.detection, face.quality),
                    limit,
                    self._matches(people, limit, options),
                )
                for face, people, limit in zip(
                    faces, near.of_faces, near.max_distances, strict=True
                )
            ),
            photo.turned,
        )

    async def by_face(
        self, tenant_id: TenantId, face_id: FaceId, *, options: SearchOptions
    ) -> SearchedStoredFace:
        """The people nearest to a stored face.

        The face is no neighbour of its own: its person is measured, and found, by its other faces
        alone. A person with no other face to compare is no answer.

        Raises:
            NotFoundError: the tenant has no such face.
            FaceNotEmbeddedError: the face has no vector of the active model.
        """
        searching = self._store.searching_by_face(tenant_id, self._space, face_id)
        async with searching as (tenant, face, embedding):
            query = self._query([embedding], [face.quality], options, without=face)
            near = await tenant.near_people(query)
        (people,), (limit,) = near.of_faces, near.max_distances
        return SearchedStoredFace(face, limit, self._matches(people, limit, options))

    async def similar(
        self, tenant_id: TenantId, person_id: ClusterId, *, options: SearchOptions
    ) -> tuple[PersonMatch, ...]:
        """The people who look most like a person, by the direction of the person's faces.

        The person must exist; one without faces of the active model looks like nobody.
        """
        async with self._store.searching(tenant_id, self._space) as tenant:
            direction = await tenant.direction_of(person_id)
            if direction is None:
                return ()
            query = replace(self._query([direction], [None], options), wanted=options.limit + 2)
            near = await tenant.near_people(query)
        (people,), (limit,) = near.of_faces, near.max_distances
        others = [each for each in people if each.cluster_id != person_id]
        return self._matches(others, limit, options)

    def _query(
        self,
        embeddings: Sequence[Embedding],
        qualities: Sequence[FaceQuality | None],
        options: SearchOptions,
        *,
        without: StoredFace | None = None,
    ) -> PeopleQuery:
        doubts = tuple(
            0.0 if quality is None else doubt_of(quality.score, self._min_quality)
            for quality in qualities
        )
        return PeopleQuery(
            ClusterQuery(tuple(embeddings), self._space, self._rule, doubts),
            options.limit + 1,  # the last one's margin needs the next
            options.only_labelled,
            options.among,
            without,
        )

    def _matches(
        self, people: Sequence[NearPerson], limit: float, options: SearchOptions
    ) -> tuple[PersonMatch, ...]:
        farthest = float("inf") if options.max_distance is None else options.max_distance
        following: list[NearPerson | None] = [*people[1:], None]
        return tuple(
            PersonMatch(
                person.cluster_id,
                person.distance,
                self._rule.limit.similarity(person.distance, limit),
                None if after is None else after.distance - person.distance,
                person.distance <= limit,
                person.nearest_face,
                person.nearest,
                person.faces,
            )
            for person, after in zip(people[: options.limit], following, strict=False)
            if person.distance <= farthest
        )


def face_in_box(faces: Sequence[EmbeddedFace], box: Box) -> EmbeddedFace:
    """The face of a photo that a box shows.

    It is the one with the largest intersection over union, of those whose centre is in the box or
    that the centre of the box is in; of equal ones the first.

    Raises:
        NoFaceInBoxError: there is none.
    """
    shown = [
        face for face in faces if _holds(box, face.detection.box) or _holds(face.detection.box, box)
    ]
    if not shown:
        raise NoFaceInBoxError(len(faces))
    return max(shown, key=lambda face: _overlap(face.detection.box, box))


def _holds(box: Box, other: Box) -> bool:
    """Whether the centre of another box is in a box."""
    x, y = (other.x1 + other.x2) / 2, (other.y1 + other.y2) / 2
    return box.x1 <= x <= box.x2 and box.y1 <= y <= box.y2


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    common = max(0.0, width) * max(0.0, height)
    both = _area(one) + _area(other) - common
    return common / both if both > 0 else 0.0


def _area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)
