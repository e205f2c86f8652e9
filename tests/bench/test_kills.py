"""`python -m bench kills`: crashes lose nothing, and what they would lose would be noticed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.common import database
from bench.common.database import Row, Stored
from bench.drills.callers import (
    DELETE_FACE,
    DELETE_IMAGE,
    INSERT,
    UNANSWERED,
    Asked,
    ask,
    delete,
)
from bench.drills.kills import ratios
from bench.drills.survival import Survey, survey
from bench.drills.verdict import Reference
from tests.support.folders import ROOT, open_folder
from tests.support.live import end
from tests.support.service import ServiceProcess

FAULTS = ("lost", "undeleted", "halves", "unacknowledged")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a quick run wrote: one kill of each kind, and one more."""
    folder = tmp_path_factory.mktemp("kills")
    path = folder / "found.json"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "kills", "--quick", "--seed", "5"),
            *("--json", str(path), "--history", str(folder / "history.jsonl")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "--seed 5" in result.stdout
    assert "| both at once |" in result.stdout
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_what_was_acknowledged_survives_every_kind_of_kill(document: dict[str, Any]) -> None:
    found = document["results"]["kills"]
    assert [(row["kind"], row["kills"]) for row in found["kinds"]] == [
        ("the service", 2),
        ("PostgreSQL", 1),
        ("both at once", 1),
        ("one backend", 1),
    ]
    for row in found["kinds"]:
        assert row["inserts_acknowledged"] >= 12
        assert row["found"] == row["inserts_acknowledged"]
        assert (row["lost"], row["undeleted"], row["halves"]) == (0, 0, 0)
        assert row["unexpected"] == {}
        assert len(row["back_s"]) == row["kills"]
    assert sum(row["deletions_acknowledged"] for row in found["kinds"]) > 0


@pytest.mark.slow
def test_the_ratios_say_that_all_is_well(document: dict[str, Any]) -> None:
    assert {"kills_kept", "kills_whole", "kills_answered_as_expected"} <= document["ratios"].keys()
    assert set(document["ratios"].values()) == {1.0}


SUM, OTHER = "a" * 64, "b" * 64
RIGHT = Reference(faces=[{2}], embeddings=[[]])
INSERTED = Asked(
    INSERT, "t", 0, SUM, 200, answer={"image_id": "i", "face_ids": {"f": "c", "g": "d"}}
)
NOT_ANSWERED = Asked(INSERT, "t", 0, SUM, 0, UNANSWERED)
WHOLE = Row("i", SUM, SUM, frozenset("fg"))
ONE_FACE = Row("i", SUM, SUM, frozenset("g"))
OTHER_IMAGE = Row("j", SUM, SUM, frozenset("fg"))
NO_FILE = Row("i", SUM, "", frozenset("fg"))
OTHER_FILE = Row("i", SUM, OTHER, frozenset("fg"))


def deletion(route: str, status: int, code: str = "") -> Asked:
    return Asked(route, "t", 0, SUM, status, code, target="f")


def faults(asked: list[Asked], *rows: Row, halves: dict[str, int] | None = None) -> dict[str, int]:
    seen = survey(asked, Stored({SUM: list(rows)} if rows else {}, 0, halves or {}), RIGHT)
    return {name: len(getattr(seen, name)) for name in FAULTS if getattr(seen, name)}


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ([INSERTED], [WHOLE]),
        ([NOT_ANSWERED], []),
        ([INSERTED, deletion(DELETE_IMAGE, 200)], []),
        ([INSERTED, deletion(DELETE_IMAGE, 0, UNANSWERED)], []),
        ([INSERTED, deletion(DELETE_IMAGE, 503, "store_unavailable")], [WHOLE]),
        ([INSERTED, deletion(DELETE_FACE, 200)], [ONE_FACE]),
        ([INSERTED, deletion(DELETE_FACE, 0, UNANSWERED)], [ONE_FACE]),
        ([INSERTED, deletion(DELETE_FACE, 0, UNANSWERED)], [WHOLE]),
    ],
)
def test_what_is_as_acknowledged_or_undone_as_a_whole_is_no_fault(
    asked: list[Asked], rows: list[Row]
) -> None:
    assert faults(asked, *rows) == {}


@pytest.mark.parametrize(
    ("asked", "rows", "expected"),
    [
        ([INSERTED], [], {"lost": 1}),
        ([INSERTED], [OTHER_IMAGE], {"lost": 1}),
        ([INSERTED], [NO_FILE], {"lost": 1}),
        ([INSERTED], [OTHER_FILE], {"lost": 1}),
        ([INSERTED], [WHOLE, OTHER_IMAGE], {"lost": 1}),
        ([INSERTED], [ONE_FACE], {"lost": 1, "halves": 1}),
        ([NOT_ANSWERED], [WHOLE], {"unacknowledged": 1}),
        ([NOT_ANSWERED], [ONE_FACE], {"halves": 1}),
        ([NOT_ANSWERED], [NO_FILE], {"halves": 1}),
        ([INSERTED, deletion(DELETE_IMAGE, 200)], [WHOLE], {"undeleted": 1}),
        ([INSERTED, deletion(DELETE_FACE, 200)], [WHOLE], {"undeleted": 1}),
        ([INSERTED, deletion(DELETE_FACE, 200)], [], {"lost": 1}),
        ([INSERTED, deletion(DELETE_IMAGE, 404, "not_found")], [], {"lost": 1}),
        (
            [INSERTED, deletion(DELETE_IMAGE, 0, UNANSWERED)],
            [ONE_FACE],
            {"lost": 1, "halves": 1},
        ),
    ],
)
def test_what_is_otherwise_is_noticed(
    asked: list[Asked], rows: list[Row], expected: dict[str, int]
) -> None:
    assert faults(asked, *rows) == expected


def test_rows_that_cannot_stand_alone_are_noticed() -> None:
    assert faults([INSERTED], WHOLE, halves={"clusters_without_face": 2}) == {"halves": 2}


def test_answers_that_a_crash_does_not_excuse_are_noticed() -> None:
    asked = Asked(INSERT, "t", 0, SUM, 500, "internal_error")
    assert survey([asked], Stored({}, 0), RIGHT).unexpected == {"internal_error": 1}


def test_a_fault_counts_for_the_first_kill_after_which_it_was_seen() -> None:
    known, first, second = Survey(), Survey(), Survey()
    first.add(Survey(lost={SUM}), known)
    second.add(Survey(lost={SUM, OTHER}), known)
    assert (first.lost, second.lost) == ({SUM}, {OTHER})


ROW = {
    "inserts_acknowledged": 6,
    "deletions_acknowledged": 2,
    "lost": 0,
    "undeleted": 0,
    "halves": 0,
    "unexpected": {},
}
SWEPT = {"after_sweep": 0, "kept_all_else": True}


@pytest.mark.parametrize(
    ("row", "orphans", "name", "value"),
    [
        ({"lost": 2}, {}, "kills_kept", 0.75),
        ({"undeleted": 1}, {}, "kills_kept", 0.875),
        ({"halves": 1}, {}, "kills_whole", 0.0),
        ({"unexpected": {"internal_error": 1}}, {}, "kills_answered_as_expected", 0.0),
        ({}, {"after_sweep": 1}, "kills_swept", 0.0),
        ({}, {"kept_all_else": False}, "kills_swept", 0.0),
    ],
)
def test_each_fault_lowers_its_ratio(
    row: dict[str, Any], orphans: dict[str, Any], name: str, value: float
) -> None:
    found = ratios([{**ROW, **row}], {**SWEPT, **orphans})
    assert found.pop(name) == value
    assert set(found.values()) == {1.0}


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service whose rows and files are taken away by hand."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, {"FACETTE_INFERENCE_PRECISION": "fp32"})
        try:
            yield process.start()
        finally:
            end(process)


@pytest.fixture
async def inserted(service: ServiceProcess, portraits: list[Path], tenant: str) -> Asked:
    """An image that was acknowledged."""
    async with service.async_client() as client:
        return await ask(client, INSERT, tenant, 0, portraits[1].read_bytes())


async def look(service: ServiceProcess, *asked: Asked) -> dict[str, int]:
    """The faults, where each photo has one face."""
    right = Reference(faces=[{1}], embeddings=[[]])
    seen = survey(asked, await database.stored(service), right)
    return {name: len(getattr(seen, name)) for name in FAULTS if getattr(seen, name)}


@pytest.mark.parametrize("route", [DELETE_IMAGE, DELETE_FACE])
async def test_an_image_and_its_deletion_are_found_as_acknowledged(
    service: ServiceProcess, inserted: Asked, route: str
) -> None:
    assert await look(service, inserted) == {}
    target = inserted.answer["image_id"]
    if route == DELETE_FACE:
        (target,) = inserted.answer["face_ids"]
    async with service.async_client() as client:
        deleted = await delete(client, route, inserted, target)
    assert deleted.status == 200
    assert await look(service, inserted, deleted) == {}
    assert await look(service, inserted) == (
        {"lost": 1} if route == DELETE_IMAGE else {"lost": 1, "halves": 1}
    )


OF_THE_IMAGE = "cluster_id IN (SELECT cluster_id FROM face WHERE image_id = $1)"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM image WHERE image_id = $1", {"lost": 1, "halves": 1}),  # and its cluster
        (f"DELETE FROM cluster WHERE {OF_THE_IMAGE}", {"lost": 1, "halves": 1}),
        ("DELETE FROM face WHERE image_id = $1", {"lost": 1, "halves": 2}),
        (f"DELETE FROM review WHERE {OF_THE_IMAGE}", {"halves": 1}),
    ],
)
async def test_rows_taken_away_by_hand_are_noticed(
    service: ServiceProcess, inserted: Asked, statement: str, expected: dict[str, int]
) -> None:
    connection = await database.connect(service)
    try:
        await connection.execute(statement, inserted.answer["image_id"])
        assert await look(service, inserted) == expected
    finally:
        await connection.execute("DELETE FROM tenant WHERE tenant_id = $1", inserted.tenant)
        await connection.close()


async def test_files_taken_away_or_added_by_hand_are_noticed(
    service: ServiceProcess, inserted: Asked
) -> None:
    uploads = service.data_dir / "uploads"
    (file,) = uploads.rglob(f"{inserted.answer['image_id']}.*")
    before = (await database.stored(service)).files_without_row
    (file.parent / "00000000-0000-0000-0000-000000000000.jpeg").write_bytes(b"an orphan")
    assert (await database.stored(service)).files_without_row == before + 1
    content = file.read_bytes()
    await asyncio.to_thread(file.write_bytes, content[:-1])
    assert await look(service, inserted) == {"lost": 1}
    file.unlink()
    assert await look(service, inserted) == {"lost": 1}
    file.write_bytes(content)
    assert await look(service, inserted) == {}
