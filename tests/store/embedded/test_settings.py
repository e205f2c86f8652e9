"""How large the embedded PostgreSQL is made."""

from __future__ import annotations

import os

import pytest

from service.store.embedded.settings import EmbeddedSettings, parameters

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory_bytes", "shared_buffers"),
    [(GIB // 4, "128MB"), (GIB, "256MB"), (4 * GIB, "1024MB"), (64 * GIB, "2048MB")],
)
def test_its_cache_is_a_quarter_of_the_memory_within_bounds(
    memory_bytes: int, shared_buffers: str
) -> None:
    found = parameters(EmbeddedSettings(), GIB, memory_bytes)
    assert found["shared_buffers"] == shared_buffers


def test_sizes_that_are_set_are_taken() -> None:
    found = parameters(EmbeddedSettings(shared_buffers_mb=300), GIB, GIB)
    assert found["shared_buffers"] == "300MB"
    assert found["effective_cache_size"] == "512MB"


def test_there_is_room_for_the_connections_of_all_processes_and_for_maintenance() -> None:
    few = parameters(EmbeddedSettings(connections=8), GIB, GIB)
    many = parameters(EmbeddedSettings(connections=400), GIB, GIB)
    assert (few["max_connections"], many["max_connections"]) == ("100", "420")


@pytest.mark.parametrize(
    ("release", "relied_on"), [("6.1.0-18", True), ("5.8-rc1", True), ("5.4.0", False)]
)
def test_file_systems_are_synced_as_a_whole_where_the_kernel_reports_what_failed(
    monkeypatch: pytest.MonkeyPatch, release: str, relied_on: bool
) -> None:
    uname = os.uname_result(("Linux", "host", release, "", ""))
    monkeypatch.setattr(os, "uname", lambda: uname)
    monkeypatch.setattr("sys.platform", "linux")
    found = parameters(EmbeddedSettings(), GIB, GIB)
    assert ("recovery_init_sync_method" in found) is relied_on


def test_nothing_that_makes_it_durable_is_touched() -> None:
    found = parameters(EmbeddedSettings(), GIB, GIB)
    assert not {"fsync", "full_page_writes", "synchronous_commit"} & found.keys()


@pytest.mark.parametrize(
    ("disk_bytes", "max_wal_size"),
    [(GIB // 8, "64MB"), (GIB, "128MB"), (8 * GIB, "1024MB"), (512 * GIB, "4096MB")],
)
def test_its_log_takes_an_eighth_of_a_small_disk(disk_bytes: int, max_wal_size: str) -> None:
    found = parameters(EmbeddedSettings(), disk_bytes, GIB)
    assert found["max_wal_size"] == max_wal_size
