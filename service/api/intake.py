"""The body of a request while it arrives: counted, bounded, and cut off where it is too slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from starlette.requests import Request

from service.api.limiter import Permit
from service.domain.errors import BodyTooLargeError, InputError

MIN_BYTES_PER_S: Final = 1024
"""A body whose average rate is lower, from the grace on, is cut off."""

GRACE_S: Final = 10.0
"""Seconds from the begin of a body in which it may be slower."""


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
        announced = int(self._request.headers.get("content-length", 0))
        if max(self._received, announced) > self._max_bytes:
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
                permit.on_evicted = self._stop
                yield
        except TimeoutError:
            if not permit.evicted:
                raise self._too_slow(loop.time() - self._begun) from None
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
                self._expect(self._due())
                yield piece
        self._permit.complete()
        self._expect(None)

    def _due(self) -> float:
        """When the body is over its time, or its average rate falls below the minimum."""
        allowed_s = max(GRACE_S, self._received / MIN_BYTES_PER_S)
        return self._begun + min(self._timeout_s, allowed_s)

    def _stop(self) -> None:
        self._expect(self._begun)

    def _expect(self, due: float | None) -> None:
        """Let the time end at `due`, unless it has ended already."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(due)

    def _too_slow(self, elapsed_s: float) -> UploadTimeoutError:
        if elapsed_s >= self._timeout_s:
            return UploadTimeoutError("The request body took too long to arrive.")
        return UploadTimeoutError(
            f"The request body arrived too slowly: {self._received} bytes in {elapsed_s:.0f} "
            f"seconds, and at least {MIN_BYTES_PER_S} bytes a second are expected."
        )
