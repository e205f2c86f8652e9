"""PostgreSQL's pid files, whole and half written, and one reader of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.store.embedded.pid_files import POSTMASTER_PID, PidFile

WHOLE = "\n".join(
    ["4711", "/data/postgres", "1700000000", "5432", "/run/s", "", "  5432001   7", "ready   ", ""]
)


def _file(folder: Path, text: str) -> PidFile:
    path = folder / POSTMASTER_PID
    path.write_text(text, encoding="utf-8")
    return PidFile.read(path)


def test_whole_file_tells_process_socket_memory_and_state(tmp_path: Path) -> None:
    found = _file(tmp_path, WHOLE)
    assert (found.pid, found.port, found.socket_dir) == (4711, 5432, Path("/run/s"))
    assert (found.shared_memory, found.status) == (["5432001", "7"], "ready")


@pytest.mark.parametrize("lines", range(9))
def test_half_written_file_has_what_it_has(tmp_path: Path, lines: int) -> None:
    found = _file(tmp_path, "\n".join(WHOLE.split("\n")[:lines]))
    assert found.pid == (4711 if lines >= 1 else None)
    assert found.port == (5432 if lines >= 4 else None)
    assert found.socket_dir == (Path("/run/s") if lines >= 5 else None)
    assert found.shared_memory == (["5432001", "7"] if lines >= 7 else [])
    assert found.status == ("ready" if lines >= 8 else "starting")


@pytest.mark.parametrize("text", ["", "x", "x\n\n\nport\n\n"])
def test_file_of_anything_else_has_nothing(tmp_path: Path, text: str) -> None:
    found = _file(tmp_path, text)
    assert (found.pid, found.port, found.socket_dir) == (None, None, None)


def test_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert PidFile.read(tmp_path / POSTMASTER_PID) == PidFile()


def test_one_module_alone_names_the_file() -> None:
    store = Path(__file__).resolve().parents[3] / "service" / "store"
    naming = {p.name for p in store.rglob("*.py") if '"postmaster.pid"' in p.read_text("utf-8")}
    assert naming == {"pid_files.py"}
