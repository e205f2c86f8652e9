"""The audit trail: one line for each action, private, whole, and never in the way."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from service.domain.keys import OPERATOR, KeyId, Principal, Scope
from service.domain.types import TenantId
from service.telemetry import open_audit

CALLER = Principal(KeyId("k" * 16), TenantId("anna"), frozenset({Scope.WRITE}))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_of_a_file_says_who_did_what_to_what(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = open_audit(str(path))
    audit.write(CALLER, "r" * 32, "anna", "image.insert", image_id="i")
    audit.write(OPERATOR, "s" * 32, None, "key.create", key="k")
    first, second = lines(path)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "request_id": "r" * 32,
        "key_id": CALLER.key_id,
        "tenant": "anna",
        "action": "image.insert",
        "image_id": "i",
    }
    assert (second["key_id"], second["tenant"], second["key"]) == ("token", None, "k")


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    before = os.umask(0)
    try:
        open_audit(str(path)).write(CALLER, "r", "anna", "image.insert")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_after_a_rotation_lines_go_to_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = open_audit(str(path))
    audit.write(CALLER, "first", "anna", "image.insert")
    moved = path.rename(tmp_path / "audit.log.1")
    audit.write(CALLER, "second", "anna", "image.insert")
    assert [line["request_id"] for line in lines(moved)] == ["first"]
    assert [line["request_id"] for line in lines(path)] == ["second"]


def test_an_id_with_a_line_end_stays_within_its_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    odd = 'a"\n{"key_id": "x"}\u2028 東京'
    open_audit(str(path)).write(CALLER, "r", odd, "image.insert")
    data = path.read_bytes()
    assert data.count(b"\n") == 1
    assert json.loads(data)["tenant"] == odd


def test_lines_that_cannot_be_written_are_logged_once_a_minute_and_nothing_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = open_audit(str(tmp_path / "no such folder" / "audit.log"))
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            audit.write(CALLER, "r", "anna", "image.insert")
    assert len(caplog.records) == 1


def test_a_full_disk_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        open_audit("/dev/full").write(CALLER, "r", "anna", "image.insert")
    assert "audit trail" in caplog.text


def test_the_log_gets_lines_whatever_its_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    caplog.handler.setLevel(logging.NOTSET)  # as the service's: its loggers have the level
    open_audit("log").write(CALLER, "r", "anna", "image.insert", image_id="i")
    (record,) = [each for each in caplog.records if each.name == "facette.audit"]
    fields = vars(record)["fields"]
    assert (fields["key_id"], fields["action"], fields["image_id"]) == (
        CALLER.key_id,
        "image.insert",
        "i",
    )


def test_a_trail_that_is_off_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_audit("off").write(CALLER, "r", "anna", "image.insert")
    assert not caplog.records
