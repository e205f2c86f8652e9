"""What people decided, what happened, and taking it back."""

from __future__ import annotations

from service.domain.decisions import Decision, DecisionPosition, PastChange
from service.domain.people import KeptAnswer
from service.domain.types import ClusterId, DecisionId, TenantId
from service.usecases.once import Once
from service.usecases.ports import FaceStore


class History:
    """The decisions and the history of tenants.

    Every method raises NotFoundError for an id that the tenant does not have, and
    StoreUnavailableError when the database does not answer.
    """

    def __init__(self, store: FaceStore) -> None:
        self._store = store

    async def decisions(
        self, tenant_id: TenantId, behind: DecisionPosition | None, limit: int
    ) -> list[Decision]:
        """A page of the decisions that hold, newest first."""
        async with self._store.reading(tenant_id) as tenant:
            await tenant.facts()
            return await tenant.decisions(behind, limit)

    async def retract(self, tenant_id: TenantId, decision_id: DecisionId) -> PastChange:
        """Let a decision count no more, as a change, which is returned; no face is moved."""
        async with self._store.writing(tenant_id) as tenant:
            return await tenant.past_change(await tenant.retract_decision(decision_id))

    async def page(
        self,
        tenant_id: TenantId,
        before: int | None,
        kind: str | None,
        person_id: ClusterId | None,
        limit: int,
    ) -> list[PastChange]:
        """A page of the history, newest first, of one kind or about one person where asked."""
        async with self._store.reading(tenant_id) as tenant:
            await tenant.facts()
            return await tenant.history(before, kind, person_id, limit)

    async def undo(
        self, tenant_id: TenantId, number: int, once: Once[PastChange] | None = None
    ) -> PastChange | KeptAnswer:
        """Take a change back, as another change, which is returned; undoing that one redoes it.

        Raises:
            ChangeForGoodError: changes of its kind cannot be undone.
            ChangeUndoneError: it was undone before.
            ChangeInUseError, ExternalIdTakenError: later changes build on it.
        """
        async with self._store.writing(tenant_id) as tenant:
            if once is not None and (kept := await once.recall(tenant)) is not None:
                return kept
            made = await tenant.past_change(await tenant.undo(number))
            if once is not None:
                await once.keep(tenant, made)
            return made
