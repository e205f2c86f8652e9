"""The number of cores that the process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.runtime.cpu import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def quota(folder: Path, text: str) -> Path:
    path = folder / "cpu.max"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("10000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("50000 10000\n", 5),
    ],
)
def test_a_quota_limits_the_cores(tmp_path: Path, text: str, cores: int) -> None:
    assert usable_cores(quota(tmp_path, text)) == cores


@pytest.mark.parametrize("text", ["", "max", "1 2 3"])
def test_a_quota_that_cannot_be_read_is_ignored(tmp_path: Path, text: str) -> None:
    assert usable_cores(quota(tmp_path, text)) == 8


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "missing") == 8


def test_without_an_affinity_mask_all_cores_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path / "missing") == 6


def test_there_is_always_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path / "missing") == 1
