"""The body of a request while it arrives: counted, bounded, and cut off where it is too slow."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from service.api.limiter import Permit
from service.domain.errors import BodyTooLargeError, InputError

MIN_BYTES_PER_S: Final = 1024
"""A body whose average rate is lower, from the grace on, is cut off."""

GRACE_S: Final = 10.0
"""Seconds from the beginning of a body in which it may be slower."""


class UploadTimeoutError(InputError):
    """The body did not arrive within the timeout, or arrived too slowly."""

    code = "upload_timeout"


class Intake:
    """Reads the body of one request.

    Args:
        permit: counts the bytes.
        timeout_s: time in which the body must arrive.
        max_bytes: the longest body.
    """

    def __init__(
        self, request: Request, permit: Permit, *, timeout_s: float, max_bytes: int
    ) -> None:
        self._request = request
        self._permit = permit
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._of = ""
        # Of unknown length, a body is never known to be complete.
        self._announced = float(request.headers.get("content-length", math.inf))
        self._received = 0
        self._begun = 0.0
        self._timeout: asyncio.Timeout | None = None

    def limit(self, max_bytes: int, of: str) -> None:
        """Lower the limit, now that the kind of the body is known.

        Args:
            of: what the limit is for, in words that follow "the limit of so many bytes".

        Raises:
            BodyTooLargeError: the body is longer.
        """
        if max_bytes < self._max_bytes:
            self._max_bytes, self._of = max_bytes, of
        is_announced_longer = math.isfinite(self._announced) and self._announced > self._max_bytes
        if self._received > self._max_bytes or is_announced_longer:
            raise BodyTooLargeError(self._max_bytes, self._of)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Bound the time in which the body is read.

        Raises:
            UploadTimeoutError: the body is too slow.
            OverloadedError: the upload made room for others.
        """
        loop = asyncio.get_running_loop()
        self._begun = loop.time()
        permit = self._permit
        try:
            async with asyncio.timeout_at(self._due()) as self._timeout:
                permit.when_evicted(self._stop)
                yield
        except TimeoutError:
            if not permit.evicted:
                raise self._timed_out(loop.time() - self._begun) from None
        finally:
            permit.complete()
        permit.take(0)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives.

        Raises:
            BodyTooLargeError: the body is longer than the limit.
            OverloadedError: there is no room for it.
        """
        async with aclosing(self._request.stream()) as stream:
            async for piece in stream:
                self._received += len(piece)
                if self._received > self._max_bytes:
                    raise BodyTooLargeError(self._max_bytes, self._of)
                self._permit.take(len(piece))
                if self._received < self._announced:
                    self._expect(self._due())
                yield piece
        self._permit.complete()
        self._expect(None)

    def _due(self) -> float:
        """When the body is over its time, or its average rate falls below the minimum."""
        return self._begun + min(self._timeout_s, _allowed_s(self._received))

    def _stop(self) -> None:
        self._expect(self._begun)

    def _expect(self, due: float | None) -> None:
        """Let the time end at `due`, unless it has ended already."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(due)

    def _timed_out(self, elapsed_s: float) -> UploadTimeoutError:
        if elapsed_s >= self._timeout_s:
            return UploadTimeoutError("The request body took too long to arrive.")
        return _too_slow("request body", self._received, elapsed_s)


class PartedIntake:
    """Reads a long body of several parts.

    Time counts only while the client is waited for, so the service may pause between two pieces
    for as long as it is busy with earlier ones. A part has the timeout of a whole body, and both
    the part and all parts together must arrive at the rate that is expected of a body.

    Args:
        timeout_s: time in which a part must arrive.

    Attributes:
        is_complete: whether the end of the body has arrived.
    """

    def __init__(self, receive: Receive, *, timeout_s: float) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self._part = _Arrival()
        self._all = _Arrival()
        self.is_complete = False

    def begin_part(self) -> None:
        """Count for another part from now on."""
        self._part = _Arrival()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives.

        Raises:
            UploadTimeoutError: a part is too slow, or all of them are.
            BodyTooLargeError: the body is longer than the limit.
            ClientDisconnect: the client hung up.
        """
        while not self.is_complete:
            message = await self._next()
            if message["type"] != "http.request":
                raise ClientDisconnect
            piece = message.get("body", b"")
            self._part.add(len(piece))
            self._all.add(len(piece))
            self.is_complete = not message.get("more_body", False)
            if piece:
                yield piece

    async def _next(self) -> Message:
        loop = asyncio.get_running_loop()
        left_s = min(
            self._timeout_s - self._part.waited_s, self._part.spare_s(), self._all.spare_s()
        )
        began = loop.time()
        try:
            async with asyncio.timeout(left_s):
                return await self._receive()
        except TimeoutError:
            pass
        finally:
            waited_s = loop.time() - began
            self._part.wait(waited_s)
            self._all.wait(waited_s)
        if self._part.waited_s >= self._timeout_s:
            raise UploadTimeoutError("A part of the body took too long to arrive.")
        if self._part.spare_s() <= self._all.spare_s():
            raise _too_slow("part of the body", self._part.received, self._part.waited_s)
        raise _too_slow("request body", self._all.received, self._all.waited_s)


@dataclass(slots=True)
class _Arrival:
    """Bytes that have arrived, and the time in seconds for which the client was waited for."""

    received: int = 0
    waited_s: float = 0.0

    def add(self, size: int) -> None:
        """Count further bytes."""
        self.received += size

    def wait(self, seconds: float) -> None:
        """Count time for which the client was waited for."""
        self.waited_s += seconds

    def spare_s(self) -> float:
        """The time after which the average rate falls below the minimum."""
        return _allowed_s(self.received) - self.waited_s


def _allowed_s(received: int) -> float:
    return max(GRACE_S, received / MIN_BYTES_PER_S)


def _too_slow(what: str, received: int, elapsed_s: float) -> UploadTimeoutError:
    return UploadTimeoutError(
        f"The {what} arrived too slowly: {received} bytes in {elapsed_s:.0f} seconds, and at least "
        f"{MIN_BYTES_PER_S} bytes a second are expected."
    )
