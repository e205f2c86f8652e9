"""The work of an ingest: files are hashed, asked about, and sent where the tenant lacks them.

Only a few files are held at any time: a batch that is asked about, those that wait to be sent, and
those under way. So memory does not grow with the number of files. Small photos are sent in groups,
a few at a time, since a request of its own for each costs client and service more.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from facette_client import (
    AsyncTenant,
    AuthenticationError,
    BatchEndedError,
    BusyError,
    FacetteError,
    ForbiddenError,
    Inserted,
    NotFoundError,
    PhotoError,
    UnreachableError,
)
from facette_client.errors import AnswerError
from service.commands.asking import NotDoneError, Place, trouble_of
from service.commands.ingest.counts import Counts
from service.commands.ingest.failures import Failure, Failures
from service.commands.ingest.files import FoundFile, Kind
from service.commands.ingest.journal import Journal, Refusal
from service.commands.ingest.pace import Pace

T = TypeVar("T")

LARGEST_BYTES: Final = 1 << 30
"""A larger file is not read: it would be held in memory, and no service takes one."""

_BATCH: Final = 100
_WAITING: Final = 2 * _BATCH
# Of one request, which a slow line must carry within the timeout; a larger photo is sent alone.
_GROUP_BYTES: Final = 2 << 20
_READERS: Final = 2
_PIECE_BYTES: Final = 1 << 20
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
_AGAIN: Final = frozenset((502, 503, 504))
_END: Final = None


class Upload:
    """Sends photos to a tenant.

    Args:
        failures: takes what fails.
        counts: takes what became of the files.
        patience_s: for how long a service may answer nothing but that it cannot, or not at all.
        retry_refused: send what the service refused in an earlier run.

    Attributes:
        waits_since: since when, by the monotonic clock, the service stores nothing; None while it
            does.
    """

    def __init__(
        self,
        place: Place,
        tenant: AsyncTenant,
        journal: Journal,
        failures: Failures,
        pace: Pace,
        counts: Counts,
        *,
        patience_s: float,
        retry_refused: bool,
    ) -> None:
        self._place = place
        self._tenant = tenant
        self._journal = journal
        self._failures = failures
        self._pace = pace
        self._patience_s = patience_s
        self._retry_refused = retry_refused
        self._under_way: dict[bytes, list[FoundFile]] = {}
        # Apart, since photos to send must not wait behind a hundred that are hashed.
        self._hashers = ThreadPoolExecutor(_READERS, "hasher")
        self._readers = ThreadPoolExecutor(_READERS, "reader")
        self._counts = counts
        self._takes_groups = True
        self._answered_at = -math.inf
        self.waits_since: float | None = None

    async def run(self, files: Iterator[FoundFile]) -> None:
        """Return when every photo is stored, or has failed for good.

        Raises:
            NotDoneError: nothing further can be sent.
        """
        waiting: asyncio.Queue[tuple[FoundFile, bytes] | None] = asyncio.Queue(_WAITING)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._choose(files, waiting))
                async for photos in self._groups(waiting):
                    await self._pace.begin(len(photos))
                    group.create_task(self._send(photos))
        except BaseExceptionGroup as errors:
            # The first one stopped the others.
            raise errors.exceptions[0] from None
        finally:
            for executor in (self._hashers, self._readers):
                executor.shutdown(wait=False, cancel_futures=True)

    async def _choose(
        self,
        files: Iterator[FoundFile],
        waiting: asyncio.Queue[tuple[FoundFile, bytes] | None],
    ) -> None:
        """Let those photos wait to be sent that the tenant lacks."""
        async for batch in self._photos(files):
            fresh: dict[bytes, FoundFile] = {}
            for file, digest in await self._hashed(batch):
                if (same := self._under_way.get(digest)) is not None:
                    same.append(file)  # what becomes of the first one, becomes of this one
                elif (refusal := self._journal.refusal_of(digest)) and not self._retry_refused:
                    self._fail([file], refusal, digest, remembered=True)
                else:
                    fresh[digest] = file
                    # From here on: a file of the same bytes in this batch must not be asked about.
                    self._under_way[digest] = [file]
            known = await self._known(list(fresh))
            for digest, file in fresh.items():
                if digest in known:
                    self._counts.know(len(self._under_way.pop(digest)))
                else:
                    await waiting.put((file, digest))
        await waiting.put(_END)

    async def _photos(self, files: Iterator[FoundFile]) -> AsyncIterator[list[FoundFile]]:
        """The photos among files in batches; the others are counted."""
        while batch := await _run(self._hashers, lambda: list(itertools.islice(files, _BATCH))):
            photos = []
            for file in batch:
                self._counts.find(file.kind)
                if file.kind is Kind.UNREADABLE:
                    self._fail([file], Refusal("unreadable", file.reason))
                elif file.size_bytes > LARGEST_BYTES:
                    reason = f"it has more than {LARGEST_BYTES >> 20} MiB"
                    self._fail([file], Refusal("file_too_large", reason))
                elif file.kind is Kind.PHOTO:
                    photos.append(file)
            yield photos

    async def _hashed(self, photos: Sequence[FoundFile]) -> list[tuple[FoundFile, bytes]]:
        """Photos with the SHA-256 of their bytes, without those that cannot be read."""

        digests = [self._journal.sha256_of(file) for file in photos]
        unknown = [at for at, digest in enumerate(digests) if digest is None]
        parts = [unknown[start::_READERS] for start in range(_READERS)]
        paths = [[photos[at].path for at in part] for part in parts]
        found = await asyncio.gather(
            *(_run(self._hashers, partial(_each_of, part, _sha256)) for part in paths if part)
        )
        fresh: list[tuple[FoundFile, bytes]] = []
        for part, results in zip(filter(None, parts), found, strict=True):
            for at, digest in zip(part, results, strict=True):
                if isinstance(digest, OSError):
                    reason = digest.strerror or str(digest)
                    self._fail([photos[at]], Refusal("unreadable", reason))
                else:
                    fresh.append((photos[at], digest))
                    digests[at] = digest
        self._journal.note_files(fresh)
        return [(file, digest) for file, digest in zip(photos, digests, strict=True) if digest]

    async def _known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those hashes of which the tenant has a file."""
        if not digests:
            return set()

        async def ask() -> set[bytes]:
            wanted = [each.hex() for each in digests]
            return {
                bytes.fromhex(image.sha256) async for image in self._tenant.images(sha256=wanted)
            }

        try:
            known = await self._patiently(ask)
        except NotFoundError:  # the first photo makes the tenant
            known = set()
        except FacetteError as error:
            raise self._end(error) from None
        self._note_answer()
        return known

    async def _groups(
        self, waiting: asyncio.Queue[tuple[FoundFile, bytes] | None]
    ) -> AsyncIterator[list[tuple[FoundFile, bytes]]]:
        """The photos that wait, as they are sent together; none waits for others to come."""
        group: list[tuple[FoundFile, bytes]] = []
        size_bytes = 0
        while (chosen := await waiting.get()) is not _END:
            if group and size_bytes + chosen[0].size_bytes > _GROUP_BYTES:
                yield group
                group, size_bytes = [], 0
            group.append(chosen)
            size_bytes += chosen[0].size_bytes
            most = self._pace.group if self._takes_groups else 1
            if len(group) >= most or waiting.empty():
                yield group
                group, size_bytes = [], 0
        if group:
            yield group

    async def _send(self, photos: Sequence[tuple[FoundFile, bytes]]) -> None:
        """Send photos until each is stored or has failed."""
        try:
            left = await self._read(photos)
            if len(left) > 1 and self._takes_groups:
                await self._patiently(lambda: self._send_together(left))
            for digest in list(left):
                await self._send_alone(digest, left.pop(digest))
        except FacetteError as error:
            raise self._end(error) from None
        finally:
            self._pace.end(len(photos))

    async def _read(self, photos: Sequence[tuple[FoundFile, bytes]]) -> dict[bytes, bytes]:
        """The bytes of photos by their hashes, without those that cannot be read."""
        paths = [file.path for file, _ in photos]
        found: dict[bytes, bytes] = {}
        results = await _run(self._readers, partial(_each_of, paths, _content))
        for (_, digest), data in zip(photos, results, strict=True):
            if isinstance(data, OSError):
                self._fail_all(digest, Refusal("unreadable", data.strerror or str(data)))
            else:
                found[digest] = data
        return found

    async def _send_alone(self, digest: bytes, data: bytes) -> None:
        try:
            answer = await self._patiently(
                lambda: self._tenant.insert(
                    data, on_duplicate="return", idempotency_key="", bulk=True
                )
            )
        except AnswerError as error:
            if _ends_all(error):
                raise
            self._settle(digest, len(data), error)
        else:
            self._settle(digest, len(data), answer)

    async def _send_together(self, left: dict[bytes, bytes]) -> None:
        """Send photos by one request; those that it decides are taken from `left`.

        The others are to be sent alone.

        Raises:
            AnswerError: they are to be sent together again, or nothing more can be sent.
        """
        began = time.monotonic()
        try:
            results = await self._tenant.insert_batch(
                list(left.values()), on_duplicate="return", idempotency_key="", bulk=True
            )
        except AnswerError as refused:
            if _ends_all(refused):
                raise
            self._takes_groups = False  # such as behind a proxy that takes no long body
            return
        except UnreachableError:  # they may be too many for the line
            self._pace.refused(began)
            return
        undecided: AnswerError | None = None
        for digest, result in zip(list(left), results, strict=True):
            error = result.error
            if isinstance(error, AnswerError) and _ends_all(error):
                if undecided is None or not _is_to_be_repeated(error):
                    undecided = error
            elif not isinstance(error, BatchEndedError):
                outcome = result.answer or error
                assert isinstance(outcome, Inserted | AnswerError)  # nothing else is answered
                self._settle(digest, len(left.pop(digest)), outcome)
        if undecided is not None:
            raise undecided

    def _settle(self, digest: bytes, size_bytes: int, outcome: Inserted | AnswerError) -> None:
        """Take what became of a photo that was sent."""
        self._note_answer()
        self._pace.answered()
        if isinstance(outcome, AnswerError):
            refusal = Refusal(outcome.code or str(outcome.status), outcome.detail or str(outcome))
            if isinstance(outcome, PhotoError):
                self._journal.note_refusal(digest, refusal)
            self._fail_all(digest, refusal)
            return
        same = self._under_way.pop(digest)
        if outcome.created:
            self._counts.store(len(outcome.faces), size_bytes)
            self._counts.know(len(same) - 1)
        else:
            self._counts.know(len(same), size_bytes)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer other than that the service cannot do it now.

        Raises:
            FacetteError: the last answer, after the time for which this waits.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                return await ask()
            except (AnswerError, UnreachableError) as error:
                if isinstance(error, AnswerError) and not _is_to_be_repeated(error):
                    raise
                if self.waits_since is None:
                    self.waits_since = max(began, self._answered_at)
                if time.monotonic() - self.waits_since > self._patience_s:
                    raise
                self._pace.refused(began)
                said_s = error.retry_after_s if isinstance(error, AnswerError) else None
                await asyncio.sleep(said_s or pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _note_answer(self) -> None:
        self.waits_since = None
        self._answered_at = time.monotonic()

    def _end(self, error: FacetteError) -> NotDoneError:
        """What ends the whole ingest."""
        trouble = trouble_of(error, self._place)
        advice = trouble.advice
        if isinstance(error, AnswerError) and error.code == "limit_reached":
            advice = "a key with the scope admin may change the limits of the tenant"
        return NotDoneError(trouble.text, advice, trouble.status)

    def _fail_all(self, digest: bytes, refusal: Refusal) -> None:
        self._fail(self._under_way.pop(digest), refusal, digest)

    def _fail(
        self,
        files: Sequence[FoundFile],
        refusal: Refusal,
        digest: bytes = b"",
        *,
        remembered: bool = False,
    ) -> None:
        self._counts.fail(len(files))
        for file in files:
            self._failures.add(
                Failure(file.path, refusal.code, refusal.reason, digest.hex(), remembered)
            )


async def _run(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)


def _is_to_be_repeated(error: AnswerError) -> bool:
    """Whether the service says that it cannot do it now."""
    return isinstance(error, BusyError) or error.status in _AGAIN


def _ends_all(error: AnswerError) -> bool:
    """Whether every further photo would get this answer."""
    kinds = (AuthenticationError, ForbiddenError, NotFoundError)
    is_final = isinstance(error, kinds) or error.code == "limit_reached"
    return is_final or _is_to_be_repeated(error)


def _each_of(paths: Sequence[str], read: Callable[[str], bytes]) -> list[bytes | OSError]:
    """One call of a thread for many files costs the loop less than one each."""
    found: list[bytes | OSError] = []
    for path in paths:
        try:
            found.append(read(path))
        except OSError as error:
            found.append(error)
    return found


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def _sha256(path: str) -> bytes:
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.digest()
