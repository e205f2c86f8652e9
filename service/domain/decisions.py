"""What people decide about faces, and the history of what was changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from service.domain.types import ClusterId, DecisionId, FaceId


class DecisionKind(StrEnum):
    """What a decision says.

    SAME: the faces of both sides are one human being. DIFFERENT: each face of one side is another
    human being than each of the other side.
    """

    SAME = "same"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said about faces.

    key_id: of the key that said it; None for the configured token. faces, others: the two sides,
    each with the faces it is about or those that stand for a person, at most 100. people: where all
    of them are now.
    """

    decision_id: DecisionId
    kind: DecisionKind
    decided_at: datetime
    key_id: str | None
    faces: tuple[FaceId, ...]
    others: tuple[FaceId, ...]
    people: tuple[ClusterId, ...]


@dataclass(frozen=True, slots=True)
class DecisionPosition:
    """The position of a decision in a list of newest ones first."""

    decided_at: datetime
    decision_id: UUID


@dataclass(frozen=True, slots=True)
class PastChange:
    """An entry of the history.

    number: in the tenant. by_machine: nobody asked for it. is_undoable: it can be taken back unless
    later changes build on it. undoes: the change that it took back. undone_by: the one that took it
    back. subject: ids of what it is about.
    """

    number: int
    changed_at: datetime
    kind: str
    key_id: str | None
    by_machine: bool
    subject: dict[str, Any]
    is_undoable: bool
    undoes: int | None
    undone_by: int | None

    @property
    def original_kind(self) -> str:
        """Its kind; of a change that undoes or redoes another one, the kind of that one."""
        return str(self.subject.get("of_kind", self.kind))
