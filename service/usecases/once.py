"""Requests that are repeated with an Idempotency-Key: done once, and answered alike for a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.domain.errors import IdempotencyError
from service.domain.people import KeptAnswer
from service.usecases.ports import TenantReads, TenantWrites

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Once(Generic[T]):
    """The Idempotency-Key of a request.

    The answer is kept in the transaction that does the work, so that a repeated request finds the
    answer whenever the work was done, whatever happened to the first answer.

    Attributes:
        key: unique in the tenant.
        fingerprint: of what the request asks for.
        render: the status and the body of the answer.
    """

    key: str
    fingerprint: bytes
    render: Callable[[T], tuple[int, bytes]]

    async def recall(self, tenant: TenantReads) -> KeptAnswer | None:
        """The answer to the request if it was done before.

        Raises:
            IdempotencyError: the key was used for another request.
        """
        kept = await tenant.kept_answer(self.key)
        if kept is not None and kept.fingerprint != self.fingerprint:
            raise IdempotencyError
        return kept

    async def keep(self, tenant: TenantWrites, result: T) -> None:
        """Keep the answer."""
        status, body = self.render(result)
        await tenant.keep_answer(self.key, KeptAnswer(self.fingerprint, status, body))
