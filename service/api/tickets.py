"""Work for the models: a ticket for as long as somebody waits for it."""

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
    """What is done with an image, by which admission predicts its cost."""

    PHOTO = "photo"
    CROP = "crop"


@asynccontextmanager
async def ticket_for(
    api: ApiServices, given: Parameters, cost_class: CostClass, tenant: str, size_bytes: int
) -> AsyncIterator[Ticket]:
    """A ticket for one image; it is withdrawn when the client hangs up.

    Args:
        cost_class: what is done with the image.
        tenant: whose turn it takes.
        size_bytes: of the image file.

    Raises:
        OverloadedError, DeadlineError: it is not taken.
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
    """The body was read to its end, so what comes next can only be that the client has gone."""
    await receive()
    api.metrics.clients_gone.inc()
    ticket.withdraw()
