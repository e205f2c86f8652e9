"""How much memory the process may use: the machine's, or what its cgroups leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.machine.memory import usable_memory_bytes

MIB = 1 << 20
PAGES = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8192 * MIB // 4096}


@pytest.fixture(autouse=True)
def eight_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", PAGES.__getitem__)


def usable_mib(folder: Path, own: str, limits: dict[str, str]) -> int:
    """Of a process in the cgroups `own`, in a tree with these files."""
    (folder / "own").write_text(own)
    for name, text in limits.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_memory_bytes(folder / "cgroup", folder / "own") // MIB


@pytest.mark.parametrize(
    ("text", "mib"), [("max\n", 8192), (f"{512 * MIB}\n", 512), (f"{1 << 60}\n", 8192), ("", 8192)]
)
def test_a_limit_below_the_machines_memory_counts(tmp_path: Path, text: str, mib: int) -> None:
    assert usable_mib(tmp_path, "0::/box\n", {"box/memory.max": text}) == mib


def test_the_smallest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    limits = {"a/memory.max": f"{256 * MIB}", "a/b/memory.max": "max"}
    assert usable_mib(tmp_path, "0::/a/b\n", limits) == 256


def test_the_limit_of_another_cgroup_does_not_count(tmp_path: Path) -> None:
    assert usable_mib(tmp_path, "0::/a\n", {"b/memory.max": f"{256 * MIB}"}) == 8192


def test_a_limit_of_version_1_counts(tmp_path: Path) -> None:
    limits = {"memory/box/memory.limit_in_bytes": f"{300 * MIB}\n"}
    assert usable_mib(tmp_path, "4:memory:/box\n3:cpu:/other\n", limits) == 300


def test_a_container_that_does_not_see_its_own_path_has_its_limit_at_the_root(
    tmp_path: Path,
) -> None:
    assert usable_mib(tmp_path, "0::/outside/box\n", {"memory.max": f"{400 * MIB}"}) == 400


def test_without_cgroups_the_machines_memory_counts(tmp_path: Path) -> None:
    assert usable_memory_bytes(tmp_path, tmp_path / "none") // MIB == 8192
