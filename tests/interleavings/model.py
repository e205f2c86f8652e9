"""What the service should answer and keep, as plain data and one operation at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from service.domain.types import (
    ClusterId,
    ClusterSize,
    Embedding,
    FaceId,
    ImageId,
    Receipt,
    ReviewId,
    TenantId,
)
from tests.support.analysed import DIMENSION

PERSONS = 3
# An optimal Golomb ruler: no two pairs of marks are equally far apart, so "the nearest cluster" is
# hardly ever a tie. Shots of one person lie on an arc, as far apart as their marks.
MARKS = (
    *(0, 3, 15, 41, 66, 95, 97, 106, 142, 152, 220, 221, 225, 242),
    *(295, 330, 338, 354, 382, 388, 402, 415, 486, 504, 523, 546, 553),
)
_RADIANS_PER_MARK = 0.0017
# The rule of the service under test, written out once more.
LARGEST, REACH, EVIDENCE = 0.5, 0.14, 0.2
STANDING_FOR_A_CLUSTER = 8


@dataclass(frozen=True, slots=True)
class Shot:
    """One view of one made-up person."""

    person: int
    mark: int

    @property
    def embedding(self) -> Embedding:
        """Within 0.42 of every shot of the person, and 1.0 from everybody else's."""
        vector = np.zeros(DIMENSION, np.float32)
        angle = self.mark * _RADIANS_PER_MARK
        vector[2 * self.person], vector[2 * self.person + 1] = np.cos(angle), np.sin(angle)
        return vector


def thousandths(distance: float | None) -> int | None:
    """A distance as it can be compared with one that was stored in single precision."""
    return None if distance is None else round(distance * 1000)


def distance_to(shots: Sequence[Shot], shot: Shot, placed: Sequence[Shot] = ()) -> float | None:
    """How far a shot is from a cluster of others; None where it is too far to join it.

    placed: those of the others that the machine did not match. Where there are several, a person
    put faces together, and the nearest of them counts where their sum is too far.
    """
    vectors = [each.embedding.astype(np.float16).astype(np.float64) for each in (*shots, shot)]
    members, probe = vectors[:-1], vectors[-1]
    if min(1 - float(member @ probe) for member in members) > LARGEST + REACH:
        return None
    total = sum(members)
    shrunk = float(total @ total) + EVIDENCE * len(members)
    distance = 1 - float(total @ probe) * ((1 + EVIDENCE) / shrunk) ** 0.5
    if distance > LARGEST and len(placed) > 1:
        distance = min(distance, *(apart(each, shot) for each in placed))
    return distance if distance <= LARGEST else None


def apart(one: Shot, other: Shot) -> float:
    """The cosine distance of two shots."""
    a, b = (each.embedding.astype(np.float16).astype(np.float64) for each in (one, other))
    return 1 - float(a @ b)


@dataclass(frozen=True, slots=True)
class Face:
    """distance: to its cluster when the machine matched it, in thousandths; else None."""

    image_id: ImageId
    cluster_id: ClusterId
    shot: Shot
    distance: int | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of a tenant, as far as it can be compared: faces and reviews oldest first."""

    images: frozenset[ImageId]
    faces: tuple[tuple[FaceId, ImageId, ClusterId, int | None], ...]
    reviews: tuple[ClusterId, ...]


@dataclass(frozen=True, slots=True)
class Apart:
    """What a move said: the moved face is another person than the faces that it left behind."""

    moved: frozenset[FaceId]
    left: frozenset[FaceId]

    def without(self, faces: Collection[FaceId]) -> Apart:
        return Apart(self.moved.difference(faces), self.left.difference(faces))

    @property
    def sides(self) -> tuple[tuple[frozenset[FaceId], frozenset[FaceId]], ...]:
        return (self.moved, self.left), (self.left, self.moved)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant; a cluster exists because a face is in it. Never changed, only replaced."""

    images: frozenset[ImageId] = frozenset()
    faces: Mapping[FaceId, Face] = field(default_factory=dict)
    reviews: tuple[ClusterId, ...] = ()
    apart: tuple[Apart, ...] = ()

    @property
    def clusters(self) -> set[ClusterId]:
        return {face.cluster_id for face in self.faces.values()}

    def in_cluster(self, cluster_id: ClusterId) -> dict[FaceId, Face]:
        """The faces of a cluster, oldest first; refused where there is no such cluster."""
        found = {key: face for key, face in self.faces.items() if face.cluster_id == cluster_id}
        if not found:
            raise Refused("cluster")
        return found

    def distance_to(self, cluster_id: ClusterId, shot: Shot) -> float | None:
        """How far a shot is from a cluster; None where it is too far to join it."""
        faces = [face for face in self.faces.values() if face.cluster_id == cluster_id]
        placed = [face.shot for face in faces if face.distance is None]
        return distance_to([face.shot for face in faces], shot, placed)

    def keeps_away(self, cluster_id: ClusterId, shot: Shot, distance: float) -> bool:
        """Whether a nearer face is not that cluster's, as a person said."""
        return any(
            self.faces[face].cluster_id != cluster_id
            and apart(self.faces[face].shot, shot) < distance
            for each in self.apart
            for side, other in each.sides
            if self._any_in(cluster_id, other)
            for face in side
        )

    def after_move(self, face_id: FaceId, target: ClusterId) -> tuple[Apart, ...]:
        """What was said of faces, with what is said by moving one to another cluster."""
        said = []
        for each in self.apart:
            # It stands no more for those whom it leaves, and the last word counts.
            is_contradicted = face_id in each.left or self._any_in(target, each.left)
            said.append(each.without([face_id] if is_contradicted else []))
        left = [key for key in self.in_cluster(self.face(face_id).cluster_id) if key != face_id]
        return (*said, Apart(frozenset([face_id]), frozenset(left[:STANDING_FOR_A_CLUSTER])))

    def after_merge(self, one: ClusterId, other: ClusterId) -> tuple[Apart, ...]:
        """What was said of faces, but for what kept two clusters apart."""
        return tuple(
            each
            for each in self.apart
            if not any(
                self._any_in(one, mine) and self._any_in(other, theirs)
                for mine, theirs in each.sides
            )
        )

    def _any_in(self, cluster_id: ClusterId, faces: Collection[FaceId]) -> bool:
        return any(self.faces[each].cluster_id == cluster_id for each in faces)

    def on_image(self, image_id: ImageId) -> dict[FaceId, Face]:
        """The faces of an image, largest first; refused where there is no such image."""
        if image_id not in self.images:
            raise Refused("image")
        return {key: face for key, face in self.faces.items() if face.image_id == image_id}

    def face(self, face_id: FaceId) -> Face:
        if face_id not in self.faces:
            raise Refused("face")
        return self.faces[face_id]

    def with_faces(self, faces: Mapping[FaceId, Face]) -> Tenant:
        """With these faces and no others: reviews of clusters that are empty then are gone."""
        left = {face.cluster_id for face in faces.values()}
        reviews = tuple(cluster for cluster in self.reviews if cluster in left)
        gone = self.faces.keys() - faces.keys()
        apart = tuple(each.without(gone) for each in self.apart)
        return replace(self, faces=faces, reviews=reviews, apart=apart)

    def without(self, faces: Collection[FaceId], images: Collection[ImageId] = ()) -> Tenant:
        left = {key: face for key, face in self.faces.items() if key not in faces}
        return replace(self.with_faces(left), images=self.images - set(images))

    def receipt(self, after: Tenant) -> Receipt:
        """What went on the way to another state."""
        images = len(self.images) - len(after.images)
        return Receipt(
            images,
            len(self.faces) - len(after.faces),
            len(self.clusters) - len(after.clusters),
            len(self.reviews) - len(after.reviews),
            images,
        )

    def oldest(self, cluster_id: ClusterId) -> ImageId:
        return next(iter(self.in_cluster(cluster_id).values())).image_id

    def kept(self) -> Kept:
        faces = ((key, f.image_id, f.cluster_id, f.distance) for key, f in self.faces.items())
        return Kept(self.images, tuple(faces), self.reviews)


State = Mapping[TenantId, Tenant]
Answer = Any


@dataclass(eq=True)
class Refused(Exception):  # noqa: N818
    """The answer to what cannot be done: what was not found, or which parameter was wrong."""

    what: str


@dataclass(frozen=True, slots=True)
class Ingested:
    """The answer to an inserted photo: face, cluster, and how far that was, in thousandths."""

    image_id: ImageId
    faces: tuple[tuple[FaceId, ClusterId, int | None], ...]


class Operation(Protocol):
    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        """The tenant afterwards, and the answer; `Refused` is raised where nothing changes.

        Ids that the service chooses are taken from the answer that was seen, and None is given
        where that has none that would do.
        """
        ...


def _known(tenant: Tenant | None) -> Tenant:
    """What changes something needs a tenant, while a read finds nothing in an unknown one."""
    if tenant is None:
        raise Refused("tenant")
    return tenant


@dataclass(frozen=True, slots=True)
class Insert:
    shots: tuple[Shot, ...]

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        before = tenant or Tenant()
        if not isinstance(seen, Ingested) or len(seen.faces) != len(self.shots):
            return tenant, None
        matches = self._matches(before)
        chosen = [c for (_, c, _), m in zip(seen.faces, matches, strict=True) if m is None]
        if len(set(chosen)) < len(chosen) or before.clusters.intersection(chosen):
            return tenant, None
        faces = dict(before.faces)
        for shot, match, (face_id, cluster_id, _) in zip(
            self.shots, matches, seen.faces, strict=True
        ):
            cluster, distance = match or (cluster_id, None)
            faces[face_id] = Face(seen.image_id, cluster, shot, distance)
        reviews = (*before.reviews, *chosen)
        after = Tenant(before.images | {seen.image_id}, faces, reviews, before.apart)
        added = list(faces.items())[len(before.faces) :]
        answer = tuple((key, face.cluster_id, face.distance) for key, face in added)
        return after, Ingested(seen.image_id, answer)

    def _matches(self, tenant: Tenant) -> list[tuple[ClusterId, int] | None]:
        """Nearest pairs first, and no cluster for two faces of the photo."""
        pairs = sorted(
            (distance, nth, cluster)
            for cluster in tenant.clusters
            for nth, shot in enumerate(self.shots)
            if (distance := tenant.distance_to(cluster, shot)) is not None
            and not tenant.keeps_away(cluster, shot, distance)
        )
        matches: dict[int, tuple[ClusterId, int]] = {}
        for distance, nth, cluster in pairs:
            if nth not in matches and cluster not in {taken for taken, _ in matches.values()}:
                matches[nth] = (cluster, round(distance * 1000))
        return [matches.get(nth) for nth in range(len(self.shots))]


@dataclass(frozen=True, slots=True)
class DeleteFace:
    face_id: FaceId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        before = _known(tenant)
        before.face(self.face_id)
        after = before.without([self.face_id])
        return after, before.receipt(after)


@dataclass(frozen=True, slots=True)
class DeleteImage:
    image_id: ImageId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        before = _known(tenant)
        after = before.without(before.on_image(self.image_id), [self.image_id])
        return after, before.receipt(after)


@dataclass(frozen=True, slots=True)
class DeleteCluster:
    cluster_id: ClusterId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        before = _known(tenant)
        faces = before.in_cluster(self.cluster_id)
        others = {f.image_id for key, f in before.faces.items() if key not in faces}
        after = before.without(faces, {face.image_id for face in faces.values()} - others)
        return after, before.receipt(after)


@dataclass(frozen=True, slots=True)
class DeleteTenant:
    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        return None, _known(tenant).receipt(Tenant())


@dataclass(frozen=True, slots=True)
class DeleteReview:
    """The pending review of a cluster, by the id that a client has read before."""

    review_id: ReviewId
    cluster_id: ClusterId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        before = _known(tenant)
        if self.cluster_id not in before.reviews:
            raise Refused("review")
        left = tuple(cluster for cluster in before.reviews if cluster != self.cluster_id)
        after = replace(before, reviews=left)
        return after, before.receipt(after)


@dataclass(frozen=True, slots=True)
class MoveFace:
    """cluster_id: None for a new one."""

    face_id: FaceId
    cluster_id: ClusterId | None

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        before = _known(tenant)
        face = before.face(self.face_id)
        target = self.cluster_id
        if target is None:
            if not isinstance(seen, str) or seen in before.clusters:
                return tenant, None
            target = ClusterId(seen)
        else:
            before.in_cluster(target)
        if target == face.cluster_id:
            return before, target
        moved = replace(face, cluster_id=target, distance=None)
        said = replace(before, apart=before.after_move(self.face_id, target))
        return said.with_faces({**before.faces, self.face_id: moved}), target


@dataclass(frozen=True, slots=True)
class MergeClusters:
    from_cluster: ClusterId
    into_cluster: ClusterId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        before = _known(tenant)
        moving = before.in_cluster(self.from_cluster)
        before.in_cluster(self.into_cluster)
        if self.from_cluster == self.into_cluster:
            raise Refused("into_cluster_id")
        moved = {
            key: replace(face, cluster_id=self.into_cluster, distance=None)
            for key, face in moving.items()
        }
        said = replace(before, apart=before.after_merge(self.from_cluster, self.into_cluster))
        after = said.with_faces({**before.faces, **moved})
        return after, _size(after.in_cluster(self.into_cluster).values())


@dataclass(frozen=True, slots=True)
class ReadFace:
    face_id: FaceId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        return tenant, _told(self.face_id, (tenant or Tenant()).face(self.face_id))


@dataclass(frozen=True, slots=True)
class ReadFaces:
    image_id: ImageId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        faces = (tenant or Tenant()).on_image(self.image_id)
        return tenant, tuple(_told(key, face) for key, face in faces.items())


@dataclass(frozen=True, slots=True)
class ReadImage:
    image_id: ImageId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        faces = (tenant or Tenant()).on_image(self.image_id)
        clusters = dict.fromkeys(face.cluster_id for face in faces.values())
        return tenant, (tuple(faces), tuple(clusters))


@dataclass(frozen=True, slots=True)
class ReadCluster:
    cluster_id: ClusterId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        return tenant, _size((tenant or Tenant()).in_cluster(self.cluster_id).values())


@dataclass(frozen=True, slots=True)
class ReadReview:
    """As in `DeleteReview`."""

    review_id: ReviewId
    cluster_id: ClusterId

    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        if tenant is None or self.cluster_id not in tenant.reviews:
            raise Refused("review")
        return tenant, (self.cluster_id, tenant.oldest(self.cluster_id))


@dataclass(frozen=True, slots=True)
class ReadReviews:
    def __call__(self, tenant: Tenant | None, seen: Answer) -> tuple[Tenant | None, Answer]:
        known = tenant or Tenant()
        return tenant, tuple((cluster, known.oldest(cluster)) for cluster in known.reviews)


def _told(face_id: FaceId, face: Face) -> tuple[FaceId, ClusterId, ImageId, bool]:
    return face_id, face.cluster_id, face.image_id, face.distance is not None


def _size(faces: Collection[Face]) -> ClusterSize:
    return ClusterSize(len(faces), len({face.image_id for face in faces}))
