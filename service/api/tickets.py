"""Tickets of requests that run models: each is valid while its client is connected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

from starlette.types import Receive

from service.api.params import Call
from service.api.services import ApiServices
from service.batching import Ticket
from service.domain.errors import OverloadedError

# Between two looks for room.
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.32


class CostClass(StrEnum):
    """What a request does with an image, from which admission predicts the cost of the request."""

    PHOTO = "photo"
    CROP = "crop"
    PICTURE = "picture"
    COMPARISON = "comparison"


@asynccontextmanager
async def ticket_for(
    api: ApiServices, call: Call, cost_class: CostClass, tenant: str, size_bytes: int
) -> AsyncIterator[Ticket]:
    """Admit a request for one image; its ticket is withdrawn when the client hangs up.

    Args:
        cost_class: what the request does with the image.
        tenant: the tenant whose share of the service the request uses.
        size_bytes: the size of the image file.

    Raises:
        OverloadedError, DeadlineError: the request is not admitted.
    """
    with api.admission.admit(
        cost_class, size_bytes, tenant=tenant, priority=call.priority, deadline=call.deadline
    ) as ticket:
        watch = asyncio.create_task(_withdraw_when_gone(call.receive, ticket, api))
        try:
            yield ticket
        finally:
            watch.cancel()


@asynccontextmanager
async def patient_ticket(
    api: ApiServices, call: Call, tenant: str, size_bytes: int, deadline: float
) -> AsyncIterator[Ticket]:
    """Admit a photo of a batch, which waits while the service is at its limit.

    Its caller withdraws the ticket when the client hangs up.

    Args:
        deadline: the `time.monotonic()` by which the photo must be stored.

    Raises:
        OverloadedError: the service is at its limit until the deadline.
        DeadlineError: the photo cannot be stored before the deadline.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        is_last = time.monotonic() + pause_s >= deadline
        try:
            admitted = api.admission.admit(
                CostClass.PHOTO,
                size_bytes,
                tenant=tenant,
                priority=call.priority,
                deadline=deadline,
                patient=not is_last,
            )
            break
        except OverloadedError:
            if is_last:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    with admitted as ticket:
        yield ticket


async def _withdraw_when_gone(receive: Receive, ticket: Ticket, api: ApiServices) -> None:
    """Wait for the disconnect; before it comes the end of the body, unless that was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    api.metrics.clients_gone.inc()
    ticket.withdraw()
