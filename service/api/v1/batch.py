"""Many photos in one request: each is stored as it arrives, and has a result of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import aclosing
from tempfile import SpooledTemporaryFile
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.early_answer import answer_early
from service.api.errors import error_response
from service.api.image_bytes import MEMORY_BYTES, UploadedImage, no_room_on_disk
from service.api.intake import PartedIntake
from service.api.parts import Part, Parts
from service.api.render import Json
from service.api.services import ApiServices
from service.api.tickets import patient_ticket
from service.api.v1.images import insert_condition, insert_once
from service.api.v1.operation import BodyStream, V1Call
from service.api.v1.requests import idempotency_key
from service.batching import Ticket
from service.domain.errors import (
    FacetteError,
    OverloadedError,
    RequestError,
    UnavailableError,
    WithdrawnError,
)
from service.telemetry import StageClock

_logger = logging.getLogger("facette.request")

_OK: Final = 200
# Between the key of a request and the number of a photo; no key of a request has a blank.
_SEPARATOR: Final = " "


async def insert_batch(api: ApiServices, call: V1Call) -> Response:
    """POST /images/batch: insert the photos of a form, each with a result of its own.

    A batch that ends before its first photo is answered as an error. One that ends later is
    answered with the results of the photos before, and with the problem that ended it.
    """
    assert call.stream is not None  # the operation says so
    idempotency_key(call)  # one that is none is refused before the body is read
    await api.ingest.check_tenant(call.tenant_id)
    return await _Batch(api, call, call.stream).run()


class _Batch:
    """The photos of one request.

    A few are in work at once, or one of them arrives; meanwhile nothing is read, and the client
    waits to send more.
    """

    def __init__(self, api: ApiServices, call: V1Call, stream: BodyStream) -> None:
        self._api = api
        self._call = call
        self._receive = stream.request.receive
        self._intake = PartedIntake(self._receive, timeout_s=api.upload_timeout_s)
        self._parts = Parts(
            self._intake,
            stream.request.headers,
            stream.permit,
            max_part_bytes=api.max_body_bytes,
            wait_for_room=self._wait_for_one,
        )
        self._results = _Results()
        self._places = asyncio.Semaphore(api.batch_photos)
        self._in_work = 0
        self._one_done = asyncio.Event()
        self._tickets: set[Ticket] = set()
        self._end: FacetteError | None = None
        self._is_gone = False

    async def run(self) -> Response:
        """Store the photos, and answer.

        Raises:
            FacetteError: the batch ended before its first photo.
            WithdrawnError: the client hung up.
        """
        watch = None
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._read(tasks)
                if self._intake.is_complete:
                    watch = asyncio.create_task(self._withdraw_when_gone())
            if self._is_gone:
                raise WithdrawnError("The caller hung up.")
            if not self._results.count:
                raise self._end or RequestError((("/body", "has no part"),))
        except BaseException:
            self._results.close()
            raise
        finally:
            if watch is not None:
                watch.cancel()
        problem = b"null" if self._end is None else self._problem(self._end)[1]
        return _BatchAnswer(
            self._results, problem, is_early=not self._intake.is_complete, api=self._api
        )

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        try:
            async with aclosing(self._parts.read()) as parts:
                await self._places.acquire()
                async for part in parts:
                    self._in_work += 1
                    tasks.create_task(self._serve(part))
                    await self._places.acquire()
                    self._api.check_serving()
                    if self._end is not None:
                        return
        except FacetteError as error:
            self._end = self._end or error
        except ClientDisconnect:
            self._withdraw()

    async def _serve(self, part: Part) -> None:
        """Store one photo and keep its result."""
        try:
            status, image, problem = await self._result(part)
            fields = {"index": part.index, "filename": part.filename, "status": status}
            rendered = {"image": orjson.Fragment(image), "problem": orjson.Fragment(problem)}
            self._results.add(part.index, orjson.dumps({**fields, **rendered}))
        except OSError as error:
            # Without its result the photo is as one whose answer was lost: the batch is repeated.
            self._end = self._end or no_room_on_disk(error, "Some photos may have been stored.")
        finally:
            await part.close()
            self._in_work -= 1
            self._one_done.set()
            self._places.release()

    async def _result(self, part: Part) -> tuple[int, bytes, bytes]:
        """The status, the image and the problem of a part, the latter two as JSON."""
        try:
            if part.fault is not None:
                raise part.fault
            response = await self._insert(part)
            return response.status_code, bytes(response.body), b"null"
        except FacetteError as error:
            if isinstance(error, UnavailableError) and not isinstance(error, OverloadedError):
                # What is not there for this photo is not there for the following ones.
                self._end = self._end or error
            status, problem = self._problem(error)
        except OSError as error:
            status, problem = self._problem(no_room_on_disk(error, "The photo was not stored."))
        except Exception:
            _logger.exception(
                "a photo of a batch failed",
                extra={"fields": {"request_id": self._call.call.request_id}},
            )
            status, problem = self._problem(FacetteError("unexpected"))
        return status, b"null", problem

    async def _insert(self, part: Part) -> Response:
        api, call = self._api, self._call
        deadline = time.monotonic() + call.call.timeout_s
        photo = UploadedImage.of(part.file)
        condition = await insert_condition(api, call, photo, f"{_SEPARATOR}{part.index}")
        async with patient_ticket(
            api, call.call, call.tenant_id, photo.size_bytes, deadline
        ) as ticket:
            if self._is_gone:
                ticket.withdraw()
            self._tickets.add(ticket)
            try:
                clock = StageClock(api.metrics)
                return await insert_once(api, call, photo, clock, ticket, condition)
            finally:
                self._tickets.discard(ticket)

    def _problem(self, error: FacetteError) -> tuple[int, bytes]:
        """The status and the body of a problem."""
        self._api.metrics.errors.labels(error.code).inc()
        response = error_response(error, problem_of=self._call.call.request_id)
        return response.status_code, bytes(response.body)

    async def _wait_for_one(self) -> bool:
        if not self._in_work:
            return False
        self._one_done.clear()
        await self._one_done.wait()
        return True

    async def _withdraw_when_gone(self) -> None:
        """Wait for the message behind the body, which can only be a disconnect."""
        await self._receive()
        self._withdraw()

    def _withdraw(self) -> None:
        self._is_gone = True
        self._api.metrics.clients_gone.inc()
        for ticket in self._tickets:
            ticket.withdraw()


class _Results:
    """The results of a batch as JSON, in a file as soon as they are long.

    Attributes:
        count: the number of results.
        size_bytes: of all of them.
    """

    def __init__(self) -> None:
        # The caller closes the file.
        self._file = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115
        self._places: dict[int, tuple[int, int]] = {}
        self.size_bytes = 0

    @property
    def count(self) -> int:
        """The number of results."""
        return len(self._places)

    def add(self, index: int, result: bytes) -> None:
        """Keep a result.

        Raises:
            OSError: there is no room for it.
        """
        self._file.seek(self.size_bytes)
        self._file.write(result)
        self._file.flush()
        self._places[index] = (self.size_bytes, len(result))
        self.size_bytes += len(result)

    def read(self) -> Iterator[bytes]:
        """The results in the order of the parts."""
        for _, (start, length) in sorted(self._places.items()):
            self._file.seek(start)
            yield self._file.read(length)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class _BatchAnswer(Response):
    """The answer to a batch, which is sent result by result.

    Args:
        problem: what ended the batch early, as JSON, or `null`.
        is_early: whether the body of the request is not complete.
    """

    _BEGIN = b'{"items":['
    _BETWEEN = b'],"problem":'
    _END = b"}"

    def __init__(
        self, results: _Results, problem: bytes, *, is_early: bool, api: ApiServices
    ) -> None:
        around = self._BEGIN + self._BETWEEN + problem + self._END
        commas = results.count - 1
        length = len(around) + results.size_bytes + commas
        super().__init__(
            status_code=_OK,
            media_type=Json.media_type,
            headers={"Content-Length": str(length)},
        )
        self._results = results
        self._problem = problem
        self._is_early = is_early
        self._max_bytes = api.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            if self._is_early:
                await answer_early(self._send, scope, receive, send, max_bytes=self._max_bytes)
            else:
                await self._send(scope, receive, send)
        finally:
            self._results.close()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        head: dict[str, Any] = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        before = self._BEGIN
        for result in self._results.read():
            await send({"type": "http.response.body", "body": before + result, "more_body": True})
            before = b","
        end = self._BETWEEN + self._problem + self._END
        await send({"type": "http.response.body", "body": end, "more_body": False})
