"""Work for the models: a ticket for as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from service.api.params import Parameters
from service.api.services import ApiServices
from service.batching import Ticket


@asynccontextmanager
async def ticket_for(
    api: ApiServices, given: Parameters, kind: str, tenant: str, size_bytes: int
) -> AsyncIterator[Ticket]:
    """A ticket for one image; it is withdrawn when the client hangs up.

    Args:
        kind: what is done with it, `photo` or `crop`.
        tenant: whose turn it takes.
        size_bytes: of the image file.

    Raises:
        OverloadedError, DeadlineError: it is not taken.
    """
    call = given.call
    with api.admission.admit(
        kind, size_bytes, tenant=tenant, priority=call.priority, deadline=call.deadline
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
