"""`facette ingest`: what it is asked, how it ends, and what it says then."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facette_client import AsyncClient, Retries
from service.commands.asking import NotDoneError, Place
from service.commands.display import print_json, tell
from service.commands.ingest.counts import Counts
from service.commands.ingest.failures import Failures
from service.commands.ingest.files import Kind, files_of
from service.commands.ingest.journal import Journal
from service.commands.ingest.pace import Pace
from service.commands.ingest.progress import duration, show_progress
from service.commands.ingest.upload import Upload
from service.commands.statuses import Status

# Work in bulk may wait for a minute in the service before it begins.
_ANSWER_S: Final = 180.0
# The command waits by itself: it knows of all photos under way.
_RETRIES: Final = Retries(attempts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """Arguments of the command; see `facette ingest --help`."""

    folders: Sequence[Path]
    tenant: str
    report: Path | None
    at_once: int
    patience_s: float
    hidden: bool
    retry_refused: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Ended:
    status: Status
    seconds: float


def run_ingest(place: Place, options: IngestOptions, state: Path) -> int:
    """Send the photos of folders; returns the exit status.

    Args:
        state: the journal; its folder is made.

    Raises:
        OSError: the report cannot be written.
    """
    for folder in options.folders:
        if not folder.exists():
            error = NotDoneError(f"there is no {folder}", "", Status.NOT_RUN)
            return error.trouble.say()
    journal = Journal(state, place.url)
    told = journal.trouble
    _tell_trouble(told)
    counts = Counts()
    began = time.monotonic()
    try:
        with Failures(options.report) as failures:
            status = asyncio.run(_run(place, options, journal, failures, counts))
    finally:
        journal.close()
    if journal.trouble != told:
        _tell_trouble(journal.trouble)
    _say(options, counts, _Ended(status, time.monotonic() - began))
    return status


def _tell_trouble(trouble: str) -> None:
    """Say why the journal remembers nothing, where it does not."""
    if trouble:
        tell(f"facette: hashes are not remembered: {trouble}", error=True)


async def _run(
    place: Place, options: IngestOptions, journal: Journal, failures: Failures, counts: Counts
) -> Status:
    """Work until everything is done, nothing further can be, or a signal stops it."""
    ended: list[signal.Signals] = []
    working = asyncio.current_task()
    assert working is not None

    def stop(number: signal.Signals) -> None:
        ended.append(number)
        working.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        async with AsyncClient(
            place.url, place.key, retries=_RETRIES, timeout_s=_ANSWER_S
        ) as client:
            upload = Upload(
                place,
                client.tenant(options.tenant),
                journal,
                failures,
                Pace(options.at_once),
                counts,
                patience_s=options.patience_s,
                retry_refused=options.retry_refused,
            )
            await _shown(upload, options, counts)
    except NotDoneError as error:
        return Status(error.trouble.say())
    except asyncio.CancelledError:
        if not ended:
            raise
        return Status(128 + ended[0])
    return Status.INCOMPLETE if counts.failed else Status.DONE


async def _shown(upload: Upload, options: IngestOptions, counts: Counts) -> None:
    """Send everything, and show how far it is."""
    count = PhotoCount(options.folders, hidden=options.hidden)
    shown = asyncio.create_task(
        show_progress(counts, lambda: count.found, lambda: upload.waits_since)
    )
    try:
        await upload.run(files_of(options.folders, hidden=options.hidden))
    finally:
        count.end()
        await _end(shown)


async def _end(shown: asyncio.Task[None]) -> None:
    """Take the progress from the terminal."""
    shown.cancel()
    await asyncio.wait([shown])
    if not shown.cancelled() and (error := shown.exception()):
        raise error


class PhotoCount:
    """Counts photos while others are sent already, to know how many are left.

    Attributes:
        found: their number; None until it is known.
    """

    def __init__(self, folders: Sequence[Path], *, hidden: bool) -> None:
        self.found: int | None = None
        self._files = files_of(folders, hidden=hidden)
        self._ended = threading.Event()
        threading.Thread(target=self._count, name="count", daemon=True).start()

    def end(self) -> None:
        """Count no further."""
        self._ended.set()

    def _count(self) -> None:
        count = 0
        for file in self._files:
            if self._ended.is_set():
                return
            count += file.kind is Kind.PHOTO or file.kind is Kind.UNREADABLE
        self.found = count


def _say(options: IngestOptions, counts: Counts, ended: _Ended) -> None:
    found = counts.found
    if options.as_json:
        print_json(
            {
                "tenant": options.tenant,
                "status": int(ended.status),
                "photos": found[Kind.PHOTO] + found[Kind.UNREADABLE],
                "stored": counts.stored,
                "known": counts.known,
                "failed": counts.failed,
                "no_photos": found[Kind.OTHER],
                "hidden": found[Kind.HIDDEN],
                "links": found[Kind.LINK],
                "faces": counts.faces,
                "sent_bytes": counts.sent_bytes,
                "seconds": round(ended.seconds, 3),
                "report": None if options.report is None else str(options.report),
            }
        )
    else:
        for line in _summary(options, counts, ended):
            tell(line, indent="  ")
    if ended.status in (Status.INTERRUPTED, Status.TERMINATED):
        tell("stopped; the same command goes on from here", error=True)
    elif ended.status in (Status.UNREACHABLE, Status.REFUSED):
        tell("the same command goes on from here when that is mended", error=True)


def _summary(options: IngestOptions, counts: Counts, ended: _Ended) -> list[str]:
    rate = counts.handled / ended.seconds if ended.seconds else 0.0
    stored = f"{counts.stored:,} photos stored, with {counts.faces:,} faces"
    took = f"{duration(ended.seconds)}, {rate:.1f} photos/s"
    rest = f"{counts.known:,} were there already; {counts.failed:,} failed"
    lines = [f"{stored}; {rest} ({took})"]
    left = [
        f"{name} {counts.found[kind]:,}{more}"
        for kind, name, more in (
            (Kind.OTHER, "other files", ""),
            (Kind.HIDDEN, "hidden", " (--hidden takes them)"),
            (Kind.LINK, "links", " (to what is here anyway)"),
        )
        if counts.found[kind]
    ]
    if left:
        lines.append(f"left out: {', '.join(left)}")
    if counts.failed and options.report is not None:
        lines.append(f"{options.report} has what failed, and why")
    elif counts.failed:
        lines.append("--report FILE writes down what failed, and why")
    if ended.status in (Status.DONE, Status.INCOMPLETE) and counts.stored:
        lines.append(f"next: facette people list --tenant {options.tenant}")
    elif ended.status in (Status.DONE, Status.INCOMPLETE) and not counts.handled:
        lines.append("there are no photos; name the folder that has them")
    return lines
