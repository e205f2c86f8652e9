"""Server-sent events of what happens in a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.services import ApiServices
from service.api.v1.models import EventsQuery
from service.api.v1.operation import V1Call
from service.domain.errors import FacetteError, NotFoundError, OverloadedError, RequestError
from service.domain.people import Change

EVENT_STREAM_TYPE: Final = "text/event-stream"
LAST_EVENT_HEADER: Final = "Last-Event-ID"
# A client that does not take an event for so long is cut off: events are not kept for it.
_SEND_TIMEOUT_S: Final = 20.0
_MAX_FOLLOWERS: Final = 256
_MAX_FOLLOWERS_OF_TENANT: Final = 32
_OPTIONS: Final = orjson.OPT_UTC_Z


async def follow_events(api: ApiServices, call: V1Call) -> Response:
    """GET /events: events of the tenant, from now on or after the last one that was received."""
    after = _after(call)
    feed, headers, network = api.changes, call.headers, call.network
    newest = await feed.newest(call.tenant_id)
    if feed.followers() >= _MAX_FOLLOWERS:
        raise OverloadedError("Too many clients follow events of this process.", retry_after_s=5)
    if feed.followers(call.tenant_id) >= _MAX_FOLLOWERS_OF_TENANT:
        raise OverloadedError("Too many clients follow events of this tenant.", retry_after_s=5)

    async def still_allowed() -> None:
        principal = await api.guard.authenticate(headers, network, method="GET")
        principal.require_tenant(call.tenant_id)

    after = newest if after is None else after
    return EventStream(feed.follow(call.tenant_id, after), after, still_allowed)


class EventStream(Response):
    """Sends changes as they come, until the client leaves or is too slow.

    Args:
        changes: batches of changes; an empty one now and then, when the key is checked again.
        after: the number of the change that they follow. It is sent first: the client goes on from
            there, also where its connection breaks before the first event.
        still_allowed: raises where the caller may not read the tenant any more.
    """

    def __init__(
        self,
        changes: AsyncGenerator[Sequence[Change], None],
        after: int,
        still_allowed: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(
            media_type=EVENT_STREAM_TYPE,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        del self.headers["content-length"]
        self._changes = changes
        self._after = after
        self._still_allowed = still_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            (ended, _) = await asyncio.gather(sending, leaving, return_exceptions=True)
        if isinstance(ended, BaseException):
            # Also of a client that left: its stream has no end that anybody would read.
            raise ClientDisconnect from ended
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        """Send until the stream ends.

        Raises:
            TimeoutError: the client is too slow.
        """
        await _send(send, f"id: {self._after}\nretry: 2000\n\n".encode())
        try:
            async with aclosing(self._changes):
                async for changes in self._changes:
                    if not changes:
                        await self._still_allowed()
                    await _send(send, b"".join(map(_event, changes)) or b":\n\n")
        except NotFoundError:
            await _send(send, b"event: tenant.deleted\ndata: {}\n\n")
        except FacetteError as error:
            data = orjson.dumps({"code": error.code, "detail": error.message})
            await _send(send, b"event: error\ndata: " + data + b"\n\n")


async def _send(send: Send, body: bytes) -> None:
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(change: Change) -> bytes:
    data = orjson.dumps(
        {"at": change.changed_at, "key_id": change.key_id, **change.subject}, option=_OPTIONS
    )
    head = f"id: {change.number}\nevent: {change.kind}\ndata: ".encode()
    return head + data + b"\n\n"


def _after(call: V1Call) -> int | None:
    """The number of the last event that the client has.

    Raises:
        RequestError: the header is no number.
    """
    given = call.headers.get(LAST_EVENT_HEADER)
    if given is None or not given.strip():
        return call.queried(EventsQuery).after
    if not given.strip().isdecimal() or len(given) > 20:
        raise RequestError(((f"/header/{LAST_EVENT_HEADER}", "must be the id of an event"),))
    return min(int(given), 2**63 - 1)
