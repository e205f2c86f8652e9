"""Tenants: listed, made, and limited."""

from __future__ import annotations

from dataclasses import replace

from service.domain.errors import NotFoundError, TenantTakenError
from service.domain.people import UNCHANGED, KeptAnswer, TenantFacts, TenantLimits
from service.domain.types import TenantId
from service.usecases.once import Once
from service.usecases.ports import FaceStore


class Tenants:
    """The tenants of the service.

    Every method raises StoreUnavailableError when the database does not answer.
    """

    def __init__(self, store: FaceStore) -> None:
        self._store = store

    async def page(self, behind: str, limit: int) -> list[TenantFacts]:
        """A page of all tenants, in the order of their ids."""
        return await self._store.tenants(behind, limit)

    async def tenant(self, tenant_id: TenantId) -> TenantFacts:
        """One tenant.

        Raises:
            NotFoundError: there is no such tenant.
        """
        async with self._store.reading(tenant_id) as tenant:
            return await tenant.facts()

    async def find(self, tenant_id: str) -> TenantFacts | None:
        """One tenant; None where there is none."""
        try:
            return await self.tenant(TenantId(tenant_id))
        except NotFoundError:
            return None

    async def create(
        self, facts: TenantFacts, once: Once[TenantFacts] | None = None
    ) -> TenantFacts | KeptAnswer:
        """Make a tenant; where the request was done before, its answer is returned.

        Raises:
            TenantTakenError: there is a tenant of this id.
        """
        async with self._store.creating(facts) as (tenant, made):
            if not made:
                if once is not None and (kept := await once.recall(tenant)) is not None:
                    return kept
                raise TenantTakenError
            await tenant.note("tenant.created", tenant_id=facts.tenant_id)
            stored = await tenant.facts()
            if once is not None:
                await once.keep(tenant, stored)
            return stored

    async def limit(self, tenant_id: TenantId, limits: TenantLimits) -> TenantFacts:
        """Change the limits of a tenant.

        Raises:
            NotFoundError: there is no such tenant.
        """
        async with self._store.writing(tenant_id) as tenant:
            facts = await tenant.facts()
            changed = {
                name: value
                for name in ("max_images", "max_faces", "requests_per_minute")
                if (value := getattr(limits, name)) is not UNCHANGED
            }
            await tenant.change_limits(replace(facts, **changed))
            await tenant.note("tenant.changed", tenant_id=tenant_id)
            return await tenant.facts()
