"""`python -m bench drills`: nothing accepted is lost, and what is lost would be noticed."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from bench.common.database import Row, Stored
from bench.drills.callers import BROKEN, EMBED, INSERT, UNANSWERED, UNREACHED, Asked, ask
from bench.drills.hangups import left_nothing
from bench.drills.verdict import Reference, Tally, count
from tests.support.folders import ROOT

DRILLS = ("SIGTERM", "reload", "PostgreSQL restart -m fast", "PostgreSQL restart -m immediate")
AMISS = (
    "missing",
    "wrong",
    "unanswered",
    "broken",
    "refused_but_stored",
    "unacknowledged",
    "repeated",
    "not_allowed",
)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a quick run of all drills wrote."""
    folder = tmp_path_factory.mktemp("drills")
    path = folder / "found.json"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "drills", "--quick", "--json", str(path)),
            *("--history", str(folder / "history.jsonl")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "| SIGTERM |" in result.stdout
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(document: dict[str, Any]) -> dict[str, Any]:
    return document["results"]["http_drills"]


@pytest.mark.slow
@pytest.mark.parametrize("name", DRILLS)
def test_no_accepted_request_is_lost_or_wrongly_answered(found: dict[str, Any], name: str) -> None:
    (drill,) = [each for each in found["drills"] if each["drill"] == name]
    assert drill["ok"] > 16
    assert {each: drill[each] for each in AMISS} == dict.fromkeys(AMISS, 0)
    assert drill["right"] == drill["sent"]
    assert set(drill["exit_statuses"]) == {0}
    # Only a service that stops refuses connections.
    assert (drill["unreached"] > 0) is (name == "SIGTERM")


@pytest.mark.slow
def test_models_are_exchanged_without_a_request_that_fails(found: dict[str, Any]) -> None:
    (drill,) = [each for each in found["drills"] if each["drill"] == "reload"]
    assert (drill["reloads_ok"], drill["reloads_failed"]) == (drill["repetitions"], 0)
    assert drill["ok"] == drill["sent"]


@pytest.mark.slow
def test_a_database_that_was_restarted_ends_with_the_service(found: dict[str, Any]) -> None:
    restarts = [each for each in found["drills"] if "database_left_running" in each]
    assert len(restarts) == 2
    assert not any(each["database_left_running"] for each in restarts)


@pytest.mark.slow
def test_clients_that_hang_up_leave_no_work_behind(found: dict[str, Any]) -> None:
    gone = found["disconnects"]
    assert set(gone["left_in_gauges"].values()) == {0}
    # A quarter goes amid the body, however fast the service is.
    assert gone["counted_as_gone"] >= gone["clients"] / 4
    assert gone["photos_decoded"] < gone["clients"]
    assert gone["photos_decoded_after_they_went"] <= gone["photos_in_work_at_most"]
    assert gone["stored"] == gone["stored_whole"]
    assert gone["files_without_row"] == 0
    assert gone["left_nothing"]


@pytest.mark.slow
def test_the_ratios_say_that_all_is_well(document: dict[str, Any]) -> None:
    assert document["ratios"] == {
        "sigterm_kept": 1.0,
        "reload_kept": 1.0,
        "restart_kept": 1.0,
        "disconnects_left_nothing": 1.0,
    }


SUM, OTHER = "a" * 64, "b" * 64
VECTOR = np.eye(1, 4)
RIGHT = Reference(faces=[{1}], embeddings=[[VECTOR]])
INSERTED = {"image_id": "i", "face_ids": {"f": "c"}, "faces": [{}]}
ROW = Row("i", SUM, SUM, frozenset("f"))


def asked(
    status: int, code: str = "", *, route: str = INSERT, answer: dict[str, Any] | None = None
) -> Asked:
    return Asked(route, "t", 0, SUM, status, code, INSERTED if answer is None else answer)


def tally(request: Asked, *rows: Row, readable: bool = True) -> Tally:
    """Of one request, where an overload may be refused."""
    found = Tally()
    stored = Stored({SUM: list(rows)} if rows else {}, files_without_row=0)
    count(found, request, stored, RIGHT, ("overloaded",), readable=readable)
    return found


def embedded(*values: float) -> Asked:
    return asked(200, route=EMBED, answer={"faces": [{"embedding": list(values)}]})


@pytest.mark.parametrize(
    ("request_", "rows"),
    [
        (asked(200), [ROW]),
        (asked(429, "overloaded"), []),
        (embedded(1, 0, 0, 0), []),
    ],
    ids=["stored", "refused", "embedded"],
)
def test_what_is_as_it_was_answered_is_right(request_: Asked, rows: list[Row]) -> None:
    found = tally(request_, *rows)
    assert (found.sent, found.right) == (1, 1)
    assert not any(getattr(found, each) for each in AMISS)


@pytest.mark.parametrize(
    ("request_", "rows", "amiss"),
    [
        (asked(200), [], "missing"),
        (asked(200), [Row("i", SUM, "", frozenset("f"))], "missing"),
        (asked(200), [Row("i", SUM, OTHER, frozenset("f"))], "missing"),
        (asked(200), [Row("i", SUM, SUM, frozenset())], "missing"),
        (asked(200), [Row("j", SUM, SUM, frozenset("f"))], "missing"),
        (asked(200), [ROW, ROW], "repeated"),
        (asked(200, answer={**INSERTED, "faces": []}), [ROW], "wrong"),
        (embedded(0, 1, 0, 0), [], "wrong"),
        (asked(429, "overloaded"), [ROW], "refused_but_stored"),
        (asked(500, "internal_error"), [], "not_allowed"),
        (asked(0, UNANSWERED), [], "unanswered"),
        (asked(0, UNANSWERED), [ROW], "unacknowledged"),
        (asked(0, BROKEN), [], "broken"),
        (asked(0, BROKEN), [ROW], "unacknowledged"),
    ],
)
def test_what_is_otherwise_is_noticed(request_: Asked, rows: list[Row], amiss: str) -> None:
    found = tally(request_, *rows)
    assert getattr(found, amiss) == 1
    assert (found.sent, found.right, found.kept) == (1, 0, 0.0)


def test_what_the_service_does_not_tell_of_is_missing() -> None:
    assert tally(asked(200), ROW, readable=False).missing == 1


def test_who_did_not_reach_the_service_sent_nothing() -> None:
    found = tally(asked(0, UNREACHED))
    assert (found.sent, found.unreached) == (0, 1)


AT_REST = {
    "clients": 8,
    "requests_recorded": 8,
    "answered_before_they_went": 3,
    "recorded_as_499": 5,
    "counted_as_gone": 6,
    "left_in_gauges": {"facette_requests_in_flight": 0.0, "facette_photos_in_work": 0.0},
    "photos_in_work_at_most": 2,
    "photos_decoded_after_they_went": 2,
    "stored": 1,
    "stored_whole": 1,
    "files_without_row": 0,
}


def test_all_at_rest_and_accounted_for_is_nothing_left() -> None:
    assert left_nothing(AT_REST)


@pytest.mark.parametrize(
    "other",
    [
        {"left_in_gauges": {"facette_requests_in_flight": 0.0, "facette_photos_in_work": 1.0}},
        {"requests_recorded": 7},
        {"answered_before_they_went": 2},
        {"counted_as_gone": 4},
        {"photos_decoded_after_they_went": 3},
        {"stored_whole": 0},
        {"files_without_row": 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_hung_up_clients_leave_is_noticed(other: dict[str, Any]) -> None:
    assert not left_nothing({**AT_REST, **other})


async def test_answers_that_end_early_are_told_from_none_at_all() -> None:
    """A server that closes before, within and after an answer, and one that is not there."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    answers = iter([b"", answer[:-1], answer])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length))
        writer.write(next(answers))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with server:
            found = [await ask(client, INSERT, "t", 0, b"\xff\xd8rest") for _ in range(3)]
        found.append(await ask(client, INSERT, "t", 0, b"\xff\xd8rest"))
    assert [each.code for each in found] == [UNANSWERED, BROKEN, "", UNREACHED]
    assert [each.status for each in found] == [0, 0, 200, 0]
