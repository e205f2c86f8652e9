"""Writes to one tenant: images, faces, clusters, reviews."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import orjson
from pgvector import HalfVector

from service.domain.acting import ACTING_KEY
from service.domain.decisions import DecisionKind, PastChange
from service.domain.errors import (
    ChangeForGoodError,
    ChangeUndoneError,
    NotFoundError,
    ParameterError,
)
from service.domain.people import MAX_METADATA_BYTES, KeptAnswer, Person, TenantFacts, TenantRoom
from service.domain.types import (
    ClusterId,
    DecisionId,
    Erasure,
    FaceId,
    ImageId,
    ModelSpace,
    NewFace,
    NewImage,
    ReviewId,
    TenantId,
)
from service.store.blob.names import belongs_to
from service.store.database.statements import SQL
from service.store.face.decisions import DecisionWriter, Side
from service.store.face.history import HistoryWriter, Inverse
from service.store.face.lookups import found, known_uuid
from service.store.face.people import PeopleWriter
from service.store.face.quality import render_quality_facts
from service.store.face.reads import TenantReader

_logger = logging.getLogger(__name__)

REJOINED = "person.rejoined"
"""The kind of the change by which the machine joins two people."""


@dataclass(frozen=True, slots=True)
class LockedTenant:
    """What locking a tenant returned.

    changes: the number of the change that this transaction is. room: before it. is_watched: whether
    somebody waits for changes.
    """

    changes: int
    room: TenantRoom
    is_watched: bool

    @classmethod
    def of(cls, row: asyncpg.Record) -> LockedTenant:
        """The state in a row of `lock_tenant` or `lock_known_tenant`."""
        return cls(
            row["changes"],
            TenantRoom(row["images"], row["faces"], row["max_images"], row["max_faces"]),
            row["is_watched"],
        )


@dataclass(frozen=True, slots=True)
class _Traces:
    """Of what is erased: decisions that name it, their changes, and the number of removed ones."""

    decisions: list[UUID]
    changes_of_decisions: list[int]
    changes: int


class TenantWriter(TenantReader):
    """Writes to one tenant, inside a transaction that holds the tenant's lock.

    people: changes people for the API of the product. is_deleted: whether this transaction deletes
    the tenant itself.
    """

    people: PeopleWriter

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        locked: LockedTenant,
        on_insert: Callable[[TenantId, int], None],
    ) -> None:
        super().__init__(connection, tenant_id)
        self.people = PeopleWriter(connection, tenant_id)
        self._history = HistoryWriter(connection, tenant_id)
        self._decisions = DecisionWriter(connection, tenant_id, self._history)
        self._locked = locked
        self._on_insert = on_insert
        self.is_deleted = False
        self._is_noted = False

    async def note(
        self,
        kind: str,
        *,
        undoes: int | None = None,
        by_machine: bool = False,
        **subject: object,
    ) -> int:
        """Record a change that this transaction makes, with its inverse where it has one.

        Args:
            kind: such as "person.merged".
            undoes: the change that this one takes back.
            by_machine: nobody asked for it.
            subject: ids of what the change is about.

        Returns:
            The number of the change.
        """
        number = await self._number()
        self._is_noted = True
        await self._connection.execute(
            SQL["note_change"],
            self._tenant_id,
            number,
            kind,
            ACTING_KEY.get(),
            orjson.dumps(subject).decode(),
            by_machine,
            self._history.has_items,
            undoes,
        )
        if self._history.has_items:
            await self._history.write(number)
        await self._notify()
        return number

    async def _number(self) -> int:
        """The number of the change that is noted next; each change of a transaction has another."""
        if self._is_noted:
            row = await self._connection.fetchrow(SQL["lock_known_tenant"], self._tenant_id)
            self._locked = LockedTenant.of(found(row, "tenant"))
            self._is_noted = False
        return self._locked.changes

    async def keep_answer(self, key: str, answer: KeptAnswer) -> None:
        """Keep the answer for requests with the same Idempotency-Key."""
        await self._connection.execute(
            SQL["keep_answer"],
            self._tenant_id,
            key,
            answer.fingerprint,
            answer.status,
            answer.body,
        )

    async def change_limits(self, facts: TenantFacts) -> None:
        """Store the limits of the tenant."""
        await self._connection.execute(
            SQL["change_limits"],
            self._tenant_id,
            facts.max_images,
            facts.max_faces,
            facts.requests_per_minute,
        )

    async def _notify(self) -> None:
        if self._locked.is_watched:
            await self._connection.execute(SQL["notify_of_change"], self._tenant_id)

    async def has_image(self, image_id: ImageId) -> bool:
        """Whether the image is stored."""
        row = await self._connection.fetchrow(SQL["image"], self._tenant_id, UUID(image_id))
        return row is not None

    async def insert_cluster(self, cluster_id: ClusterId) -> None:
        """Add an empty cluster, without a review."""
        await self.remember_person(cluster_id)
        await self._connection.execute(SQL["insert_cluster"], self._tenant_id, UUID(cluster_id))

    async def insert_photo(
        self,
        image: NewImage,
        opened: Sequence[ClusterId],
        faces: Sequence[NewFace],
        space: ModelSpace,
    ) -> None:
        """Store an image and its faces, in their order, with one statement.

        Args:
            opened: new clusters for these faces; each gets a pending review.

        Raises:
            LimitReachedError: a limit of the tenant would be exceeded.
        """
        self._locked.room.check(len(faces))
        photo = image.photo
        detections = [new.face.detection for new in faces]
        boxes = [detection.box for detection in detections]
        await self._connection.execute(
            SQL["insert_photo"],
            self._tenant_id,
            UUID(image.image_id),
            image.blob_key,
            photo.format,
            photo.width,
            photo.height,
            image.size_bytes,
            image.sha256,
            photo.phash,
            photo.turned,
            [UUID(each) for each in opened],
            [side for box in boxes for side in (box.x1, box.y1, box.x2, box.y2)],
            [number for each in detections for point in each.landmarks for number in point],
            [side for new in faces for side in astuple(new.area)],
            [UUID(new.face_id) for new in faces],
            [UUID(new.cluster_id) for new in faces],
            [detection.confidence for detection in detections],
            [new.is_auto_matched for new in faces],
            [new.distance for new in faces],
            [new.face.quality.score for new in faces],
            [render_quality_facts(new.face.quality) for new in faces],
            [new.is_matchable for new in faces],
            space,
            [HalfVector(np.asarray(new.face.embedding)) for new in faces],
            self._locked.changes,
            ACTING_KEY.get(),
            photo.facts.taken_at,
            photo.facts.orientation,
            *(photo.facts.location or (None, None)),
            *_questions(faces),
        )
        self._is_noted = True
        await self._notify()
        if faces:
            self._on_insert(self._tenant_id, len(faces))

    async def remember_person(self, person_id: ClusterId) -> None:
        """Remember a person as it was before the change that is noted next; it may be a new one."""
        await self._history.remember_clusters([UUID(person_id)])

    async def move_face(
        self, face_id: FaceId, cluster_id: ClusterId, *, override: bool = False
    ) -> None:
        """Move a face to an existing cluster, or say that it belongs there, as a change of its own.

        Raises:
            DecisionConflictError, NotFoundError: as `take_faces`.
        """
        before = await self.face(face_id)
        await self.take_faces([face_id], cluster_id, override=override)
        if before.cluster_id == cluster_id:
            await self.note("face.confirmed", face_id=face_id, person_id=cluster_id)
        else:
            await self.note(
                "face.moved",
                face_id=face_id,
                from_person_id=before.cluster_id,
                person_id=cluster_id,
            )

    async def take_faces(
        self,
        face_ids: Sequence[FaceId],
        cluster_id: ClusterId,
        *,
        out_of: ClusterId | None = None,
        override: bool = False,
    ) -> None:
        """Move faces to an existing cluster, because a person says that they belong there.

        So they are one with the faces that are there, and with each other, and are not the people
        they were taken from. Questions about them are answered. Former clusters that become empty
        are deleted. All are moved at once: clusters are counted anew for each statement.

        Args:
            out_of: the cluster that all of them must be in.
            override: decisions about these faces that speak against it do not count any more.

        Raises:
            NotFoundError: the tenant has no such cluster, or lacks one of the faces, or it is not
                in `out_of`. Nothing else may be done in the transaction.
            DecisionConflictError: a decision speaks against it.
        """
        target = known_uuid(cluster_id, "cluster")
        row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, target)
        found(row, "cluster")
        ids = {known_uuid(face_id, "face") for face_id in face_ids}
        rows = await self._connection.fetch(SQL["clusters_of_faces"], self._tenant_id, list(ids))
        if out_of is not None:
            rows = [row for row in rows if row["cluster_id"] == UUID(out_of)]
        if len(rows) < len(ids):
            raise NotFoundError("face")
        if not ids:
            return
        moved = [row["face_id"] for row in rows if row["cluster_id"] != target]
        former = {row["cluster_id"] for row in rows} - {target}
        await self._history.remember_faces(ids)
        await self._history.remember_clusters([*former, target])
        await self._decisions.let_leave(moved, target, await self._number(), override=override)
        await self._decide_place(list(ids), target)
        await self._decisions.tell_apart(moved, target)
        await self._connection.execute(SQL["take_faces"], self._tenant_id, list(ids), target)
        await self._connection.execute(SQL["close_reviews_of_faces"], self._tenant_id, list(ids))
        await self._drop_empty(former)
        await self._close_settled(*former, target)
        await self.people.touch([ClusterId(str(each)) for each in (*former, target)])

    async def _decide_place(self, faces: list[UUID], target: UUID) -> None:
        """Faces belong to a person; where nobody is there yet, they belong together."""
        first, rest = Side(faces[:1]), Side(faces[1:])
        others = await self._connection.fetchval(
            SQL["has_other_faces"], self._tenant_id, target, faces
        )
        one, other = (Side(faces), Side(person=target)) if others else (first, rest)
        await self._decisions.decide(DecisionKind.SAME, one, other)

    async def confirm(self, person_id: ClusterId, face_ids: Sequence[FaceId]) -> None:
        """Faces of a person belong there, says a person: all of them where none is named.

        Raises:
            NotFoundError: one of the faces is not the person's.
        """
        key = known_uuid(person_id, "person")
        if face_ids:
            faces = list({known_uuid(face_id, "face") for face_id in face_ids})
            rows = await self._connection.fetch(SQL["clusters_of_faces"], self._tenant_id, faces)
            if len(rows) < len(faces) or any(row["cluster_id"] != key for row in rows):
                raise NotFoundError("face")
        else:
            rows = await self._connection.fetch(
                SQL["faces_of_cluster_before"], self._tenant_id, key
            )
            faces = [row["face_id"] for row in rows]
        await self._history.remember_faces(faces)
        await self._history.remember_clusters([key])
        await self._decide_place(faces, key)
        await self._connection.execute(SQL["take_faces"], self._tenant_id, faces, key)
        await self._connection.execute(SQL["close_reviews_of_faces"], self._tenant_id, faces)
        await self.people.touch([person_id])
        await self.note("person.confirmed", person_id=person_id, faces=len(faces))

    async def ask_who(self, person_id: ClusterId) -> None:
        """Open the question who a person is."""
        await self._connection.execute(SQL["ask_who"], self._tenant_id, UUID(person_id))

    async def merge_clusters(
        self, from_cluster: ClusterId, into_cluster: ClusterId, *, override: bool = False
    ) -> None:
        """Move all faces of one cluster to another, and delete the first, as a change of its own.

        Raises:
            NotFoundError, ParameterError, DecisionConflictError: as `join`.
        """
        await self.join(from_cluster, into_cluster, override=override)
        await self.note("person.merged", person_id=into_cluster, merged_person_id=from_cluster)

    async def join(
        self, from_cluster: ClusterId, into_cluster: ClusterId, *, override: bool = False
    ) -> None:
        """Move all faces of one cluster to another, and delete the first, as a person says.

        Args:
            override: decisions that keep them apart do not count any more.

        Raises:
            NotFoundError: the tenant lacks one of the clusters.
            ParameterError: both are the same cluster.
            DecisionConflictError: a decision keeps them apart.
        """
        source = known_uuid(from_cluster, "cluster")
        target = known_uuid(into_cluster, "cluster")
        for cluster in (source, target):
            row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, cluster)
            found(row, "cluster")
        if source == target:  # compared as ids: their spellings may differ
            raise ParameterError("into_cluster_id", "A cluster cannot be merged with itself.")
        await self._history.remember_clusters([source, target])
        await self._history.remember_faces_of(source)
        await self._decisions.let_merge(source, target, override=override)
        await self._decisions.decide(DecisionKind.SAME, Side(person=source), Side(person=target))
        await self._pour(source, target, by_machine=False)

    async def rejoin(self, from_cluster: ClusterId, into_cluster: ClusterId) -> bool:
        """Let the machine join two clusters, unless people said anything that speaks against it.

        Returns:
            Whether it did.
        """
        source, target = UUID(from_cluster), UUID(into_cluster)
        if not await self._connection.fetchval(
            SQL["may_be_rejoined"], self._tenant_id, source, target
        ):
            return False
        await self._history.remember_clusters([source, target])
        await self._history.remember_faces_of(source)
        await self._pour(source, target, by_machine=True)
        await self.note(
            REJOINED, by_machine=True, person_id=into_cluster, merged_person_id=from_cluster
        )
        return True

    async def _pour(self, source: UUID, target: UUID, *, by_machine: bool) -> None:
        """Let one cluster become a part of another one, with its facts and questions."""
        gone = await self.people.person(ClusterId(str(source)))
        kept = await self.people.person(ClusterId(str(target)))
        await self._connection.execute(
            SQL["move_all_faces"], self._tenant_id, source, target, by_machine
        )
        await self._connection.execute(SQL["note_merge"], self._tenant_id, source, target)
        await self._connection.execute(SQL["move_reviews"], self._tenant_id, source, target)
        await self._connection.execute(SQL["delete_cluster"], self._tenant_id, source)
        await self.people.change(_merged(gone, kept))
        await self._close_settled(target)
        await self.people.touch([kept.person_id])

    async def tell_apart(self, one: ClusterId, other: ClusterId) -> None:
        """Two people are not the same one, says a person."""
        sides = UUID(one), UUID(other)
        await self._history.remember_clusters(sides)
        await self._decisions.decide(
            DecisionKind.DIFFERENT, Side(person=sides[0]), Side(person=sides[1])
        )
        await self._close_settled(sides[0])

    async def say(
        self, person_id: ClusterId, *, label: str | None = None, hidden: bool = False
    ) -> None:
        """Give a person a label, or hide the person; what is not given stays."""
        await self.remember_person(person_id)
        person = await self.people.person(person_id)
        await self.people.change(
            replace(person, label=label or person.label, hidden=hidden or person.hidden)
        )

    async def put_off(self, review_id: ReviewId) -> None:
        """Do not hand a question out until its evidence changes."""
        await self._connection.execute(SQL["put_off_question"], self._tenant_id, review_id)

    async def _close_settled(self, *clusters: UUID) -> None:
        """Close the questions about clusters that follow from what people said."""
        await self._connection.execute(SQL["close_settled"], self._tenant_id, list(clusters))

    async def retract_decision(self, decision_id: DecisionId) -> int:
        """Let a decision count no more, as a change, whose number it returns; no face is moved.

        Raises:
            NotFoundError: the tenant has no such decision.
        """
        await self._decisions.retract(decision_id)
        return await self.note("decision.retracted", decision_id=decision_id)

    async def undo(self, number: int) -> int:
        """Take a change back, as a change of its own; returns its number.

        Raises:
            NotFoundError: the history has no such change.
            ChangeForGoodError: changes of its kind cannot be undone.
            ChangeUndoneError: it was undone before.
            ChangeInUseError, ExternalIdTakenError: later changes build on it.
        """
        change = await self.past_change(number)
        if change.undone_by is not None:
            raise ChangeUndoneError(str(change.undone_by))
        if not change.is_undoable:
            raise ChangeForGoodError(change.kind)
        inverse = await Inverse.of(self._connection, self._tenant_id, change)
        if change.undoes is None:
            await inverse.apply(self._history, await self._number())
            if change.kind == REJOINED:  # a person's word that the machine was wrong
                await self.tell_apart(
                    ClusterId(change.subject["merged_person_id"]),
                    ClusterId(change.subject["person_id"]),
                )
            by = await self._note_undoing("change.undone", change)
        else:  # the change that it had taken back holds again, and can be undone again
            await inverse.apply(self._history, change.undoes)
            self._history.forget()
            by = await self._note_undoing("change.redone", change)
            await self._connection.execute(SQL["mark_undone"], self._tenant_id, change.undoes, None)
        await self._connection.execute(SQL["mark_undone"], self._tenant_id, number, by)
        return by

    async def _note_undoing(self, kind: str, change: PastChange) -> int:
        return await self.note(
            kind, undoes=change.number, change_id=str(change.number), of_kind=change.original_kind
        )

    async def delete_face(self, face_id: FaceId) -> Erasure:
        """Delete a face, and its cluster when that becomes empty.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        key = known_uuid(face_id, "face")
        trace = await self._erase_traces([key])
        row = await self._connection.fetchrow(SQL["delete_face"], self._tenant_id, key)
        emptied = await self._drop_erased([found(row, "face")["cluster_id"]])
        await self._connection.execute(SQL["notify_of_face"], self._tenant_id, key)
        erasure = await self._with_traces(replace(emptied, faces=1), trace)
        await self.note("face.deleted", face_id=face_id)
        return erasure

    async def delete_image(self, image_id: ImageId) -> Erasure:
        """Delete an image, its faces, and the clusters that become empty.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        key = known_uuid(image_id, "image")
        faces = await self._connection.fetch(SQL["faces_on_image"], self._tenant_id, key)
        await self._connection.execute(SQL["notify_of_image"], self._tenant_id, key)
        trace = await self._erase_traces([row["face_id"] for row in faces], images=[key])
        row = await self._connection.fetchrow(SQL["delete_image"], self._tenant_id, key)
        gone = found(row, "image")
        emptied = await self._drop_erased({row["cluster_id"] for row in faces})
        erasure = replace(emptied, images=1, faces=gone["faces"], blob_keys=self._blob_keys([gone]))
        erasure = await self._with_traces(erasure, trace)
        await self.note("image.deleted", image_id=image_id)
        return erasure

    async def delete_cluster(self, cluster_id: ClusterId) -> Erasure:
        """Delete a cluster, its faces, and the images without another face.

        Raises:
            NotFoundError: the tenant has no such cluster.
        """
        key = known_uuid(cluster_id, "cluster")
        row = await self._connection.fetchrow(SQL["cluster_exists"], self._tenant_id, key)
        found(row, "cluster")
        rows = await self._connection.fetchrow(SQL["rows_of_cluster"], self._tenant_id, key)
        shown = await self._connection.fetch(SQL["images_showing_only"], self._tenant_id, key)
        await self._connection.execute(SQL["notify_of_cluster"], self._tenant_id, key)
        faces = await self._connection.fetch(SQL["faces_of_cluster_before"], self._tenant_id, key)
        image_ids = [row["image_id"] for row in shown]
        trace = await self._erase_traces(
            [row["face_id"] for row in faces], images=image_ids, clusters=[key]
        )
        await self._connection.execute(SQL["delete_cluster"], self._tenant_id, key)
        images = await self._connection.fetch(SQL["delete_images"], self._tenant_id, image_ids)
        erasure = Erasure(
            images=len(images),
            clusters=1,
            blob_keys=self._blob_keys(images),
            **found(rows, "cluster"),
        )
        erasure = await self._with_traces(erasure, trace)
        await self.note("person.deleted", person_id=cluster_id)
        return erasure

    async def delete_tenant(self) -> Erasure:
        """Delete the tenant with everything that it holds."""
        rows = await self._connection.fetchrow(SQL["rows_of_tenant"], self._tenant_id)
        images = await self._connection.fetch(SQL["blob_keys"], self._tenant_id)
        await self._connection.execute(SQL["notify_of_tenant"], self._tenant_id)
        await self._connection.execute(SQL["delete_tenant"], self._tenant_id)
        await self._notify()
        self.is_deleted = True
        return Erasure(
            images=len(images), blob_keys=self._blob_keys(images), **found(rows, "tenant")
        )

    async def delete_review(self, review_id: ReviewId) -> Erasure:
        """Delete a pending review.

        Raises:
            NotFoundError: the tenant has no such review.
        """
        review = await self.review(review_id)
        await self.remember_person(review.cluster_id)
        await self._connection.execute(SQL["delete_review"], self._tenant_id, review_id)
        await self.note("review.deleted", review_id=review_id)
        return Erasure(reviews=1)

    async def _erase_traces(
        self,
        faces: Collection[UUID],
        *,
        images: Collection[UUID] = (),
        clusters: Collection[UUID] = (),
    ) -> _Traces:
        """Take what is about to be erased out of the history, before it is gone."""
        decisions = await self._connection.fetch(
            SQL["decisions_of_faces"], self._tenant_id, list(faces)
        )
        named = [row["decision_id"] for row in decisions]
        of_decisions = await self._connection.fetch(
            SQL["changes_of_decisions"], self._tenant_id, named
        )
        changes = 0
        for name, ids in (
            ("erase_history_of_clusters", clusters),
            ("erase_history_of_faces", faces),
            ("erase_history_of_images", images),
        ):
            changes += await self._connection.fetchval(SQL[name], self._tenant_id, list(ids))
        return _Traces(named, [row["change"] for row in of_decisions], changes)

    async def _with_traces(self, erasure: Erasure, traces: _Traces) -> Erasure:
        """An erasure that counts what went from decisions and history as well."""
        left = await self._connection.fetchval(
            SQL["count_decisions"], self._tenant_id, traces.decisions
        )
        changes = await self._connection.fetchval(
            SQL["erase_history_of_nothing"], self._tenant_id, traces.changes_of_decisions
        )
        return replace(
            erasure,
            decisions=len(traces.decisions) - left,
            changes=erasure.changes + traces.changes + changes,
        )

    async def _drop_erased(self, clusters: Collection[UUID]) -> Erasure:
        """Delete those of the clusters that an erasure left empty, with their history."""
        empty = await self._connection.fetch(
            SQL["unnamed_and_empty"], self._tenant_id, list(clusters)
        )
        changes = await self._connection.fetchval(
            SQL["erase_history_of_clusters"],
            self._tenant_id,
            [row["cluster_id"] for row in empty],
        )
        return replace(await self._drop_empty(clusters), changes=changes)

    async def _drop_empty(self, clusters: Iterable[UUID]) -> Erasure:
        row = await self._connection.fetchrow(
            SQL["delete_empty_clusters"], self._tenant_id, list(clusters)
        )
        return Erasure(**found(row, "cluster"))

    def _blob_keys(self, images: Iterable[asyncpg.Record]) -> tuple[str, ...]:
        """Keys of the blobs of deleted images; a key outside the tenant's folder is left out."""
        keys = [image["blob_key"] for image in images if image["blob_key"]]
        own = tuple(key for key in keys if belongs_to(key, self._tenant_id))
        if len(own) < len(keys):
            _logger.error(
                "%d deleted images named a blob of another tenant; those blobs were kept",
                len(keys) - len(own),
            )
        return own


def _questions(faces: Sequence[NewFace]) -> tuple[list[Any], ...]:
    """Columns of the questions about new faces: whether a match is right, or a miss is one."""
    asked = [(face, face.doubt) for face in faces if face.doubt is not None]
    return (
        ["weak_match" if face.is_auto_matched else "same_person" for face, _ in asked],
        [UUID(face.cluster_id) for face, _ in asked],
        [UUID(face.face_id) if face.is_auto_matched else None for face, _ in asked],
        [None if doubt.other is None else UUID(doubt.other) for _, doubt in asked],
        [doubt.distance for _, doubt in asked],
        [doubt.other_distance for _, doubt in asked],
        [doubt.similarity for _, doubt in asked],
        [doubt.settles for _, doubt in asked],
        [doubt.chance for _, doubt in asked],
    )


def _merged(gone: Person, kept: Person) -> Person:
    """The facts of a person after another one was merged into it: its own come first."""
    metadata = {**gone.metadata, **kept.metadata}
    fits = len(orjson.dumps(metadata)) <= MAX_METADATA_BYTES
    return replace(
        kept,
        label=kept.label or gone.label,
        external_id=kept.external_id or gone.external_id,
        metadata=metadata if fits else kept.metadata,
        hidden=kept.hidden and gone.hidden,
    )
