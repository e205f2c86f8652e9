"""What an ingest does where the service refuses, does not answer, or is asked twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx2 as httpx
import pytest

from facette_client import AsyncClient, Retries
from service.commands.asking import NotDoneError, Place
from service.commands.ingest.command import IngestOptions, run_ingest
from service.commands.ingest.counts import Counts
from service.commands.ingest.failures import Failures
from service.commands.ingest.files import FoundFile, Kind, files_of
from service.commands.ingest.journal import Journal
from service.commands.ingest.pace import Pace
from service.commands.ingest.upload import Upload
from service.commands.statuses import Status

PLACE = Place("http://host", "key", "a test")
JPEG = b"\xff\xd8\xff"
# A photo of a batch that is answered by this status ends the batch.
END = 408

Answer = Callable[[httpx.Request], httpx.Response]


class Service:
    """Stores what it gets, unless a test answers in its place; keeps photos by their hashes."""

    def __init__(self) -> None:
        self.stored: dict[str, int] = {}
        self.posts = 0
        self.batches = self.largest_batch = 0
        self.takes_batches = True
        self.asked = 0
        self.most_at_once = 0
        self._at_once = 0
        self.instead: Iterator[httpx.Response | Exception | None] = iter(())
        self.instead_of_photos: Iterator[httpx.Response | None] = iter(())

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            self.asked += 1
            wanted = request.url.params["sha256"].split(",")
            items = [image(each) for each in wanted if each in self.stored]
            return httpx.Response(200, json={"items": items, "next": None})
        is_batch = request.url.path.endswith("/batch")
        photos = parts(request) if is_batch else [request.content]
        self.posts += len(photos)
        self.batches += is_batch
        if is_batch:
            self.largest_batch = max(self.largest_batch, sum(map(len, photos)))
        self._at_once += len(photos)
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= len(photos)
        instead = next(self.instead, None)
        if isinstance(instead, Exception):
            raise instead
        if instead is not None:
            return instead
        if not is_batch:
            return self.insert(photos[0])
        if not self.takes_batches:
            return problem(413, "")
        results: list[dict[str, object]] = []
        for index, photo in enumerate(photos):
            answer = next(self.instead_of_photos, None) or self.insert(photo)
            if answer.status_code == END:
                return httpx.Response(200, json={"items": results, "problem": answer.json()})
            body, kind = answer.json(), "image" if answer.is_success else "problem"
            item = {"index": index, "status": answer.status_code, "image": None, "problem": None}
            results.append({**item, kind: body})
        return httpx.Response(200, json={"items": results, "problem": None})

    def insert(self, photo: bytes) -> httpx.Response:
        digest = hashlib.sha256(photo).hexdigest()
        self.stored[digest] = self.stored.get(digest, 0) + 1
        body = {"image_id": "i", "created": True, "turned": 0, "faces": []}
        return httpx.Response(201, json=body)


def parts(request: httpx.Request) -> list[bytes]:
    """The files of a form."""
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    pieces = request.content.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces[1:-1]]


def image(digest: str) -> dict[str, object]:
    return {
        "id": digest,
        "format": "jpeg",
        "width": 1,
        "height": 1,
        "size_bytes": 1,
        "sha256": digest,
        "phash": "",
        "turned": 0,
        "taken_at": None,
        "orientation": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "location": None,
        "face_count": 0,
        "has_file": True,
    }


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"status": status, "code": code, "detail": f"It is {code}."}
    return httpx.Response(status, json=body, headers=headers)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """250 photos, of which ten have the bytes of others."""
    made = tmp_path / "photos"
    made.mkdir()
    for number in range(250):
        (made / f"{number:03}.jpg").write_bytes(JPEG + str(number % 240).encode())
    return made


def ingest(
    service: Callable[[httpx.Request], Awaitable[httpx.Response]],
    folder: Path,
    *,
    patience_s: float = 60.0,
    retry_refused: bool = False,
) -> Counts:
    """One ingest; the report is beside the folder, and the journal too."""
    counts, beside = Counts(), folder.parent

    async def run(journal: Journal, failures: Failures) -> None:
        transport, retries = httpx.MockTransport(service), Retries(attempts=1)
        async with AsyncClient(PLACE.url, "key", transport=transport, retries=retries) as client:
            await Upload(
                PLACE,
                client.tenant("t"),
                journal,
                failures,
                Pace(32),
                counts,
                patience_s=patience_s,
                retry_refused=retry_refused,
            ).run(files_of([folder], hidden=False))

    journal = Journal(beside / "journal.sqlite", PLACE.url)
    try:
        with Failures(beside / "report.jsonl") as failures:
            asyncio.run(run(journal, failures))
    finally:
        journal.close()
    return counts


def report(folder: Path) -> list[dict[str, object]]:
    lines = (folder.parent / "report.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_equal_files_are_sent_once_and_nothing_is_sent_again(folder: Path) -> None:
    service = Service()
    counts = ingest(service, folder)
    assert (counts.stored, counts.known, counts.failed) == (240, 10, 0)
    assert len(service.stored) == service.posts == 240
    assert service.most_at_once <= 32
    assert 0 < service.batches < 80
    assert service.asked <= 5
    again = ingest(service, folder)
    assert (again.stored, again.known, again.sent_bytes) == (0, 250, 0)
    (folder / "000.jpg").write_bytes(JPEG + b"edited")
    assert ingest(service, folder).stored == 1
    # The journal only saves reading: without it, the service still says what it has.
    (folder.parent / "journal.sqlite").unlink()
    assert ingest(service, folder).stored == 0
    assert service.posts == 241


def test_a_service_that_is_busy_or_restarts_is_waited_for(folder: Path) -> None:
    service = Service()
    refusals = [problem(429, "overloaded", **{"Retry-After": "0"}), problem(503, "stopping")]
    away: list[httpx.Response | Exception] = [httpx.ConnectError("refused"), problem(502, "")]
    served = [None] * 20
    service.instead = iter([*refusals, *away, *served, httpx.ReadTimeout("slow"), *refusals])
    counts = ingest(service, folder)
    assert (counts.stored, counts.failed) == (240, 0)
    assert set(service.stored.values()) == {1}
    assert service.posts > 246


def test_what_a_batch_did_not_decide_is_sent_again_and_nothing_else(folder: Path) -> None:
    service = Service()
    broken, ended = problem(422, "corrupt_image"), problem(END, "timeout")
    refused = [problem(429, "overloaded"), problem(503, "unavailable")]
    service.instead_of_photos = iter([None, broken, None, ended, None, *refused])
    counts = ingest(service, folder)
    assert counts.stored == 239
    assert set(service.stored.values()) == {1}
    assert len({each["sha256"] for each in report(folder)}) == 1
    assert {each["code"] for each in report(folder)} == {"corrupt_image"}
    assert list(service.instead_of_photos) == []


def test_a_batch_that_is_refused_as_a_whole_is_sent_photo_by_photo(folder: Path) -> None:
    service = Service()
    service.takes_batches = False
    counts = ingest(service, folder)
    assert (counts.stored, counts.failed) == (240, 0)
    assert 0 < service.batches <= 5


def test_large_photos_are_sent_alone(folder: Path) -> None:
    for number in range(230):
        (folder / f"{number:03}.jpg").unlink()
    for number in range(230, 236):
        (folder / f"{number:03}.jpg").write_bytes(JPEG + bytes([number]) * (3 << 19))
    service = Service()
    assert ingest(service, folder).failed == 0
    assert service.posts > 6
    assert service.largest_batch <= 2 << 20


def test_photos_that_are_refused_fail_alone_and_are_remembered(folder: Path) -> None:
    service = Service()
    service.instead = iter([problem(422, "corrupt_image"), problem(500, "internal_error")])
    counts = ingest(service, folder)
    assert counts.stored + counts.known + counts.failed == 250
    told = report(folder)
    assert {each["code"] for each in told} == {"corrupt_image", "internal_error"}
    assert counts.failed == len(told)
    posts = service.posts
    again = ingest(service, folder)  # a fault of the service is no property of the photo
    assert service.posts == posts + 1
    assert {(each["code"], each["remembered"]) for each in report(folder)} == {
        ("corrupt_image", True)
    }
    assert again.failed == len(report(folder))
    assert ingest(service, folder, retry_refused=True).failed == 0


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (problem(401, "wrong_token"), Status.REFUSED),
        (problem(403, "forbidden"), Status.REFUSED),
        (problem(409, "limit_reached"), Status.INCOMPLETE),
        (problem(503, "unavailable"), Status.UNREACHABLE),
        (httpx.ConnectError("refused"), Status.UNREACHABLE),
    ],
)
def test_what_would_refuse_every_photo_ends_it(
    folder: Path, answer: httpx.Response | Exception, status: Status
) -> None:
    service = Service()
    service.instead = iter([answer] * 1000)
    with pytest.raises(NotDoneError) as ended:
        ingest(service, folder, patience_s=0.0)
    assert ended.value.trouble.status is status
    assert ended.value.trouble.advice
    assert service.posts < 250


async def test_the_pace_grows_until_it_is_refused_and_halves_once_for_a_burst() -> None:
    pace = Pace(32)
    for _ in range(40):
        await pace.begin()
        pace.answered()
        if pace.limit == 16:
            break
    began = 0.0
    for _ in range(8):
        pace.refused(began)  # all began before the first of them was answered
    assert pace.limit == 8
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.begin(), 0.05)


async def test_groups_are_a_fifth_of_the_photos_that_may_be_under_way() -> None:
    pace = Pace(200)
    assert pace.group == 1
    under_way = 0
    while pace.limit < 200:
        if under_way + (group := pace.group) <= pace.limit:
            await pace.begin(group)
            under_way += group
        else:
            pace.answered()
    assert pace.group == 16
    pace.refused(0.0)
    assert (pace.limit, pace.group) == (100, 16)
    assert Pace(1).group == 1


def test_a_journal_that_cannot_be_written_is_told_of_and_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    journal = Journal(tmp_path / "file" / "journal.sqlite", "http://host")
    assert journal.trouble
    file = FoundFile("a.jpg", Kind.PHOTO, "", 1, 2, 3)
    journal.note_files([(file, b"digest")])
    assert journal.sha256_of(file) == b"digest"
    assert journal.sha256_of(FoundFile("a.jpg", Kind.PHOTO, "", 1, 3, 3)) is None
    journal.close()


def test_a_journal_lets_another_ingest_write_while_the_service_is_asked(folder: Path) -> None:
    """Its own writing is never begun and left: this one would be refused at once."""
    service, refusals = Service(), [problem(422, "corrupt_image")] * 3
    service.instead_of_photos = iter(refusals)
    written = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal written
        with closing(sqlite3.connect(folder.parent / "journal.sqlite", timeout=0)) as another:
            another.execute("UPDATE file SET inode = inode")
        written += 1
        return await service(request)

    # A copy of a photo that is refused fails with it.
    assert ingest(answer, folder).failed >= 3
    assert written > 2


def test_a_journal_that_cannot_be_written_any_more_is_told_of_at_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.commands.ingest.journal._BUSY_S", 0.0)
    state = folder.parent / "journal.sqlite"
    Journal(state, "").close()
    options = IngestOptions(
        folders=[folder],
        tenant="t",
        report=None,
        at_once=1,
        patience_s=0.0,
        hidden=False,
        retry_refused=False,
        as_json=False,
    )
    with closing(sqlite3.connect(state)) as another:
        another.execute("DELETE FROM file")
        status = run_ingest(Place("http://127.0.0.1:9", None, ""), options, state)
    assert status == Status.UNREACHABLE
    said = capsys.readouterr().err
    assert said.count(f"hashes are not remembered: {state}: database is locked") == 1
