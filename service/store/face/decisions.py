"""Decisions: what people said about faces, which the machine obeys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from service.domain.acting import ACTING_KEY
from service.domain.decisions import Decision, DecisionKind, DecisionPosition
from service.domain.errors import DecisionConflictError, NotFoundError
from service.domain.types import ClusterId, DecisionId, FaceId, TenantId
from service.store.database.statements import SQL
from service.store.face.history import HistoryWriter
from service.store.face.lookups import known_uuid

_LAST_UUID = UUID(int=2**128 - 1)
_LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a decision: faces that it is about, or the best ones of a person."""

    faces: Sequence[UUID] = ()
    person: UUID | None = None


class DecisionReader:
    """Reads of the decisions of one tenant."""

    def __init__(self, connection: asyncpg.Connection, tenant_id: TenantId) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    async def page(self, behind: DecisionPosition | None, limit: int) -> list[Decision]:
        """A page of the decisions that hold, newest first."""
        rows = await self._connection.fetch(
            SQL["decisions"],
            self._tenant_id,
            behind.decided_at if behind else _LAST_TIME,
            behind.decision_id if behind else _LAST_UUID,
            limit,
        )
        return [
            Decision(
                DecisionId(str(row["decision_id"])),
                DecisionKind(row["kind"]),
                row["decided_at"],
                row["key_id"],
                tuple(FaceId(str(each)) for each in row["faces"]),
                tuple(FaceId(str(each)) for each in row["others"]),
                tuple(ClusterId(str(each)) for each in row["people"]),
            )
            for row in rows
        ]

    async def kept_apart(self, people: Collection[ClusterId]) -> set[tuple[ClusterId, ClusterId]]:
        """The pairs among these people that a decision keeps apart, each in both orders."""
        rows = await self._connection.fetch(
            SQL["kept_apart"], self._tenant_id, [UUID(each) for each in people]
        )
        return {(ClusterId(str(row["one"])), ClusterId(str(row["other"]))) for row in rows}


class DecisionWriter(DecisionReader):
    """Makes and retracts decisions, inside a transaction that holds the tenant's lock.

    Args:
        history: remembers what is made and retracted, for the change that it is part of.
    """

    def __init__(
        self, connection: asyncpg.Connection, tenant_id: TenantId, history: HistoryWriter
    ) -> None:
        super().__init__(connection, tenant_id)
        self._history = history

    async def decide(self, kind: DecisionKind, one: Side, other: Side) -> None:
        """Record a decision, unless one of its sides is empty."""
        made = await self._connection.fetchval(
            SQL["add_decision"],
            self._tenant_id,
            kind,
            ACTING_KEY.get(),
            list(one.faces),
            one.person,
            list(other.faces),
            other.person,
        )
        if made is not None:
            self._history.remember_decisions([made], were_active=False)

    async def tell_apart(self, faces: Collection[UUID], target: UUID) -> None:
        """Record that faces which go to another person are none of those that they leave behind."""
        rows = await self._connection.fetch(
            SQL["add_differences"], self._tenant_id, ACTING_KEY.get(), list(faces), target
        )
        self._history.remember_decisions((row["decision_id"] for row in rows), were_active=False)

    async def let_leave(
        self, faces: Collection[UUID], target: UUID, by_change: int, *, override: bool
    ) -> None:
        """Let faces go to another person, away from decisions in which they stood for theirs.

        Args:
            override: what was decided about these faces themselves does not count any more.

        Raises:
            DecisionConflictError: a decision speaks against it.
        """
        against: set[UUID] = set()
        for name in ("decisions_against_joining", "decisions_against_leaving"):
            rows = await self._connection.fetch(SQL[name], self._tenant_id, list(faces), target)
            against |= {row["decision_id"] for row in rows}
        if against and not override:
            raise _conflict(against)
        await self._connection.execute(
            SQL["faces_leave_decisions"], self._tenant_id, list(faces), by_change, list(against)
        )

    async def let_merge(self, source: UUID, target: UUID, *, override: bool) -> None:
        """Let two people become one.

        Args:
            override: decisions that keep them apart do not count any more.

        Raises:
            DecisionConflictError: a decision keeps them apart.
        """
        rows = await self._connection.fetch(
            SQL["decisions_between"], self._tenant_id, source, target
        )
        against = {row["decision_id"] for row in rows}
        if against and not override:
            raise _conflict(against)
        await self._switch_off(against)

    async def retract(self, decision_id: DecisionId) -> None:
        """Let a decision count no more; no face is moved.

        Raises:
            NotFoundError: the tenant has no such decision.
        """
        if not await self._switch_off({known_uuid(decision_id, "decision")}):
            raise NotFoundError("decision")

    async def _switch_off(self, decisions: Collection[UUID]) -> bool:
        rows = await self._connection.fetch(
            SQL["activate_decisions"], self._tenant_id, list(decisions), False
        )
        self._history.remember_decisions((row["decision_id"] for row in rows), were_active=True)
        return bool(rows)


def _conflict(decisions: Collection[UUID]) -> DecisionConflictError:
    return DecisionConflictError(tuple(sorted(str(each) for each in decisions)))
