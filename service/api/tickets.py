"""Tickets of requests that run models: each is valid while its client is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

from starlette.types import Receive

from service.api.params import Parameters
from service.api.services import ApiServices
from service.batching import Ticket


class CostClass(StrEnum):
    """What a request does with an image, from which admission predicts the cost of the request."""

    PHOTO = "photo"
    CROP = "crop"


@asynccontextmanager
async def ticket_for(
    api: ApiServices, given: Parameters, cost_class: CostClass, tenant: str, size_bytes: int
) -> AsyncIterator[Ticket]:
    """Admit a request for one image; its ticket is withdrawn when the client hangs up.

    Args:
        cost_class: what the request does with the image.
        tenant: the tenant whose share of the service the request uses.
        size_bytes: the size of the image file.

    Raises:
        OverloadedError, DeadlineError: the request is not admitted.
    """
    call = given.call
    with api.admission.admit(
        cost_class, size_bytes, tenant=tenant, priority=call.priority, deadline=call.deadline
    ) as ticket:
        watch = asyncio.create_task(_withdraw_when_gone(call.receive, ticket, api))
        try:
            yield ticket
        finally:
            watch.cancel()


async def _withdraw_when_gone(receive: Receive, ticket: Ticket, api: ApiServices) -> None:
    """Wait for the next message: the body was read to its end, so it can only be a disconnect."""
    await receive()
    api.metrics.clients_gone.inc()
    ticket.withdraw()
