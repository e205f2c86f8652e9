"""What a change did to faces, people, decisions and questions, and how it is taken back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from service.domain.decisions import PastChange
from service.domain.errors import ChangeInUseError, ExternalIdTakenError
from service.domain.types import TenantId
from service.store.database.statements import SQL

# What a person is, as far as people say it; `created_at` stays what it was.
_FACTS = ("label", "label_key", "external_id", "metadata", "hidden", "cover_face_id")
_REVIEW = (
    *("kind", "cluster_id", "face_id", "other_cluster_id", "created_at", "distance"),
    *("other_distance", "similarity", "faces", "chance", "put_off"),
)
# What changes of a question that stays open count: its evidence may be measured anew at any time.
_ASKED = ("kind", "cluster_id", "face_id", "other_cluster_id", "put_off")

State = dict[str, Any] | None
"""Of a person: its facts; `merged_into` where it was merged away; None where there is none."""


@dataclass(slots=True)
class _Items:
    """Things as they were before a change.

    merged: those of the people that were merged into another one before. decisions: whether each
    was active.
    """

    faces: dict[UUID, asyncpg.Record] = field(default_factory=dict)
    clusters: dict[UUID, str | None] = field(default_factory=dict)
    merged: set[UUID] = field(default_factory=set)
    decisions: dict[UUID, bool] = field(default_factory=dict)
    reviews: dict[int, asyncpg.Record] = field(default_factory=dict)


class HistoryWriter:
    """Records the state before a change, and writes what differs after it.

    What a change will touch is remembered before it is touched.
    """

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._before = _Items()

    async def remember_faces(self, face_ids: Collection[UUID]) -> None:
        """Remember faces, and the questions about them."""
        rows = await self._connection.fetch(SQL["faces_before"], self._tenant_id, list(face_ids))
        await self._remember(rows)

    async def remember_faces_of(self, cluster_id: UUID) -> None:
        """Remember all faces of a cluster, and the questions about them."""
        await self._remember(
            await self._connection.fetch(
                SQL["faces_of_cluster_before"], self._tenant_id, cluster_id
            )
        )

    async def _remember(self, faces: Iterable[asyncpg.Record]) -> None:
        new = {row["face_id"]: row for row in faces if row["face_id"] not in self._before.faces}
        self._before.faces.update(new)
        for row in await self._open_reviews((), list(new), ()):
            self._before.reviews.setdefault(row["review_id"], row)

    async def remember_clusters(self, cluster_ids: Iterable[UUID]) -> None:
        """Remember people, those merged into them, and the questions about them.

        Those that the change makes are remembered as well, before they are there.
        """
        new = set(cluster_ids) - self._before.clusters.keys()
        if not new:
            return
        merged = await self._connection.fetch(
            SQL["clusters_merged_into"], self._tenant_id, list(new)
        )
        further = {row["cluster_id"] for row in merged} - self._before.clusters.keys() - new
        self._before.merged |= further
        self._before.clusters.update(await self._states(new | further))
        for row in await self._open_reviews(new, (), ()):
            self._before.reviews.setdefault(row["review_id"], row)

    def remember_decisions(self, decision_ids: Iterable[UUID], *, were_active: bool) -> None:
        """Remember decisions that the change makes, retracts or restores."""
        for decision_id in decision_ids:
            self._before.decisions.setdefault(decision_id, were_active)

    @property
    def has_items(self) -> bool:
        """Whether anything was remembered since the last change was written."""
        before = self._before
        return bool(before.faces or before.clusters or before.decisions or before.reviews)

    def forget(self) -> None:
        """Forget what was remembered, since the change needs no inverse."""
        self._before = _Items()

    async def write(self, change: int) -> None:
        """Write what differs from what was remembered, as the inverse of a change; begin anew.

        The people that the change is about are written in any case: it is found by them.
        """
        before, self._before = self._before, _Items()
        await self._write_faces(change, before.faces)
        after = await self._states(before.clusters)
        changed = [
            each
            for each, state in before.clusters.items()
            if each not in before.merged or after[each] != state
        ]
        await self._connection.execute(
            SQL["note_clusters"],
            self._tenant_id,
            change,
            changed,
            [before.clusters[each] for each in changed],
            [after[each] for each in changed],
        )
        await self._connection.execute(
            SQL["note_decisions"],
            self._tenant_id,
            change,
            list(before.decisions),
            list(before.decisions.values()),
        )
        open_now = {
            row["review_id"]: row
            for row in await self._open_reviews(before.clusters, before.faces, before.reviews)
        }
        closed = [
            row
            for each, row in before.reviews.items()
            if each not in open_now or any(row[name] != open_now[each][name] for name in _ASKED)
        ]
        opened = [row for each, row in open_now.items() if each not in before.reviews]
        for rows, was_open in ((closed, True), (opened, False)):
            await self._connection.executemany(
                SQL["note_review"],
                [
                    (
                        self._tenant_id,
                        change,
                        row["review_id"],
                        was_open,
                        *(row[each] for each in _REVIEW),
                    )
                    for row in rows
                ],
            )

    async def _write_faces(self, change: int, faces: Mapping[UUID, asyncpg.Record]) -> None:
        await self._connection.execute(
            SQL["note_faces"],
            self._tenant_id,
            change,
            list(faces),
            [row["cluster_id"] for row in faces.values()],
            [row["is_auto_matched"] for row in faces.values()],
            [row["distance"] for row in faces.values()],
        )

    async def _states(self, cluster_ids: Collection[UUID]) -> dict[UUID, str | None]:
        rows = await self._connection.fetch(
            SQL["cluster_states"], self._tenant_id, list(cluster_ids)
        )
        return {row["cluster_id"]: row["state"] for row in rows}

    async def _open_reviews(
        self, clusters: Collection[UUID], faces: Collection[UUID], reviews: Collection[int]
    ) -> list[asyncpg.Record]:
        if not (clusters or faces or reviews):
            return []
        rows: list[asyncpg.Record] = await self._connection.fetch(
            SQL["open_reviews_of"], self._tenant_id, list(clusters), list(faces), list(reviews)
        )
        return rows


class Inverse:
    """The inverse of a change, as it was recorded: checked against what is there, then applied."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        change: PastChange,
        faces: list[asyncpg.Record],
        clusters: list[asyncpg.Record],
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._change = change.number
        self._faces = faces
        self._before: dict[UUID, State] = {
            row["cluster_id"]: _state(row["before"]) for row in clusters
        }
        self._after: dict[UUID, State] = {
            row["cluster_id"]: _state(row["after"]) for row in clusters
        }
        # Or the undoing of a merge.
        self._is_merge = any(
            (_exists(before) and _merge(self._after[each]) is not None)
            or (_merge(before) is not None and _exists(self._after[each]))
            for each, before in self._before.items()
        )

    @classmethod
    async def of(
        cls, connection: asyncpg.Connection, tenant_id: TenantId, change: PastChange
    ) -> Inverse:
        """The inverse of a change."""
        faces = await connection.fetch(SQL["changed_faces"], tenant_id, change.number)
        clusters = await connection.fetch(SQL["changed_clusters"], tenant_id, change.number)
        return cls(connection, tenant_id, change, faces, clusters)

    async def apply(self, history: HistoryWriter, by_change: int) -> None:
        """Put everything back to where it was.

        Args:
            history: remembers what this does, so that it can be taken back as well.
            by_change: the number of the change that this is; or, where it redoes one, of that one.

        Raises:
            ChangeInUseError: something was changed again since; the message says what.
            ExternalIdTakenError: another person got an external id that would come back.
        """
        self._check_faces()
        involved = self._before.keys() | {row["before_cluster_id"] for row in self._faces}
        involved |= {row["after_cluster_id"] for row in self._faces}
        moved = [row["face_id"] for row in self._faces]
        await history.remember_clusters(involved)
        await history.remember_faces(moved)
        now = await self._now(involved)
        self._check_people(now)
        homes = {row["before_cluster_id"] for row in self._faces}
        if any(not _exists(now[home]) and not _exists(self._before.get(home)) for home in homes):
            raise ChangeInUseError("a person whose faces would come back is gone")
        await self._restore_facts(now)
        await self._restore_people(now)
        await self._put_faces_back(by_change)
        await self._remove_people(now)
        await self._restore_covers(now)
        await self._restore_decisions(history)
        await self._check_decisions()
        await self._restore_reviews()
        await self._connection.execute(SQL["close_settled"], self._tenant_id, list(involved))
        await self._connection.execute(SQL["touch_people"], self._tenant_id, list(involved))

    def _check_faces(self) -> None:
        for row in self._faces:
            after = (row["after_cluster_id"], row["after_is_auto_matched"], row["after_distance"])
            if after != (row["cluster_id"], row["is_auto_matched"], row["distance"]):
                raise ChangeInUseError("a face that it moved was moved again")

    async def _now(self, cluster_ids: Collection[UUID]) -> dict[UUID, State]:
        rows = await self._connection.fetch(
            SQL["cluster_states"], self._tenant_id, list(cluster_ids)
        )
        return {row["cluster_id"]: _state(row["state"]) for row in rows}

    def _check_people(self, now: Mapping[UUID, State]) -> None:
        for each, after in self._after.items():
            if (_exists(after), _merge(after)) != (_exists(now[each]), _merge(now[each])):
                raise ChangeInUseError("a person that it changed was merged, split or erased since")
            for name in self._changed_facts(each):
                if (now[each] or {}).get(name) != (after or {}).get(name):
                    raise ChangeInUseError(f"the {name} of a person was changed again")

    def _changed_facts(self, cluster_id: UUID) -> list[str]:
        """The facts that the change gave to a person that was there before it and after it."""
        before, after = self._before[cluster_id], self._after[cluster_id]
        if before is None or after is None or not (_exists(before) and _exists(after)):
            return []
        return [name for name in _FACTS if name != "label_key" and before[name] != after[name]]

    async def _restore_facts(self, now: Mapping[UUID, State]) -> None:
        """Facts of people that stay; in this order an external id is free before it is given."""
        changes = []
        for each in self._before:
            names = [name for name in self._changed_facts(each) if name != "cover_face_id"]
            state, before = now[each], self._before[each]
            if not names or state is None or before is None:
                continue
            restored = {**state, **{name: before[name] for name in names}}
            restored["label_key"] = before["label_key"] if "label" in names else state["label_key"]
            changes.append((each, restored))
        for each, state in now.items():  # those who will go
            goes = each in self._before and not _exists(self._before[each])
            if goes and state is not None and _exists(state):
                changes.append((each, {**state, "external_id": None}))
        changes.sort(key=lambda item: item[1]["external_id"] is not None)
        for each, facts in changes:
            await self._guarded("change_person", each, *_facts(facts))

    async def _restore_people(self, now: Mapping[UUID, State]) -> None:
        """People that went, and then where others were merged into them."""
        for each, before in self._before.items():
            if before is not None and _exists(before) and not _exists(now[each]):
                await self._connection.execute(SQL["forget_merge"], self._tenant_id, each)
                created_at = datetime.fromisoformat(before["created_at"])
                await self._guarded("restore_cluster", each, *_facts(before), created_at)
        for each, before in self._before.items():
            into = _merge(before)
            if into is not None and not _exists(now[each]) and _merge(now[each]) != into:
                await self._connection.execute(
                    SQL["restore_merge"], self._tenant_id, each, UUID(into)
                )

    async def _put_faces_back(self, by_change: int) -> None:
        """Faces go to where they were, and to and from decisions as those who move do."""
        await self._connection.execute(
            SQL["put_faces_back"],
            self._tenant_id,
            [row["face_id"] for row in self._faces],
            [row["before_cluster_id"] for row in self._faces],
            [row["before_is_auto_matched"] for row in self._faces],
            [row["before_distance"] for row in self._faces],
        )
        moved = [
            row["face_id"]
            for row in self._faces
            if row["before_cluster_id"] != row["after_cluster_id"]
        ]
        if not self._is_merge:  # all faces of a person move, and go on to stand for it
            await self._connection.execute(
                SQL["faces_leave_decisions"], self._tenant_id, moved, by_change, []
            )
        await self._connection.execute(
            SQL["faces_return_to_decisions"], self._tenant_id, moved, self._change, by_change
        )

    async def _remove_people(self, now: Mapping[UUID, State]) -> None:
        """People that the change made, with nothing but what it gave them: they go again."""
        for each, before in self._before.items():
            if not _exists(now[each]) or _exists(before):
                continue
            left = await self._connection.fetchval(SQL["has_faces"], self._tenant_id, each)
            if left:
                raise ChangeInUseError("a person that it made has got more faces since")
            if now[each] != self._after[each]:
                raise ChangeInUseError("a person that it made was changed since")
            await self._connection.execute(SQL["delete_cluster"], self._tenant_id, each)
            if (into := _merge(before)) is not None:
                await self._connection.execute(
                    SQL["restore_merge"], self._tenant_id, each, UUID(into)
                )

    async def _restore_covers(self, now: Mapping[UUID, State]) -> None:
        for each, before in self._before.items():
            if before is None or not _exists(before):
                continue
            if _exists(now[each]) and "cover_face_id" not in self._changed_facts(each):
                continue
            cover = before["cover_face_id"]
            if cover is None:
                await self._connection.execute(SQL["find_cover"], self._tenant_id, each)
            else:
                await self._connection.execute(
                    SQL["choose_cover"], self._tenant_id, each, UUID(cover)
                )

    async def _restore_decisions(self, history: HistoryWriter) -> None:
        rows = await self._connection.fetch(SQL["changed_decisions"], self._tenant_id, self._change)
        for active in (True, False):
            wanted = [row["decision_id"] for row in rows if row["was_active"] is active]
            changed = await self._connection.fetch(
                SQL["activate_decisions"], self._tenant_id, wanted, active
            )
            history.remember_decisions(
                (row["decision_id"] for row in changed), were_active=not active
            )

    async def _check_decisions(self) -> None:
        rows = await self._connection.fetch(SQL["changed_decisions"], self._tenant_id, self._change)
        contradicted = await self._connection.fetchval(
            SQL["contradicted_decision"],
            self._tenant_id,
            [row["face_id"] for row in self._faces],
            [row["decision_id"] for row in rows],
        )
        if contradicted is not None:
            raise ChangeInUseError("what was decided about its faces since would not hold")

    async def _restore_reviews(self) -> None:
        rows = await self._connection.fetch(SQL["changed_reviews"], self._tenant_id, self._change)
        opened = [row["review_id"] for row in rows if not row["was_open"]]
        await self._connection.execute(SQL["delete_reviews"], self._tenant_id, opened)
        closed = [row for row in rows if row["was_open"]]
        await self._connection.executemany(
            SQL["ask_as_before"],
            [
                (self._tenant_id, row["review_id"], *(row[each] for each in _ASKED[1:]))
                for row in closed
            ],
        )
        await self._connection.executemany(
            SQL["restore_review"],
            [
                (self._tenant_id, row["review_id"], *(row[each] for each in _REVIEW))
                for row in closed
            ],
        )

    async def _guarded(self, statement: str, *arguments: object) -> None:
        try:
            await self._connection.execute(SQL[statement], self._tenant_id, *arguments)
        except asyncpg.UniqueViolationError:
            raise ExternalIdTakenError from None


def _state(text: str | None) -> State:
    return None if text is None else orjson.loads(text)


def _exists(state: State) -> bool:
    return state is not None and "merged_into" not in state


def _merge(state: State) -> str | None:
    return None if state is None else state.get("merged_into")


def _facts(state: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        state["label"],
        state["label_key"],
        state["external_id"],
        orjson.dumps(state["metadata"]).decode(),
        state["hidden"],
    )
