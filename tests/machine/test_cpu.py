"""What the process may use of the processor: cores, quotas, instructions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.machine.cpu import adds_int8_exactly, cpu_flags, usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


class Cgroups:
    """A cgroup tree in a folder, and the file that says where in it the process is."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "cgroup"
        self._own = folder / "own"

    def member_of(self, *lines: str) -> Cgroups:
        self._own.write_text("".join(f"{line}\n" for line in lines))
        return self

    def file(self, path: str, text: str) -> Cgroups:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return self

    def cores(self) -> int:
        return usable_cores(self._root, self._own)


@pytest.fixture
def cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups(tmp_path)


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
def test_a_quota_limits_the_cores(cgroups: Cgroups, text: str, cores: int) -> None:
    assert cgroups.member_of("0::/").file("cpu.max", text).cores() == cores


@pytest.mark.parametrize("text", ["", "max", "1 2 3", "0 0"])
def test_a_quota_that_cannot_be_read_is_ignored(cgroups: Cgroups, text: str) -> None:
    assert cgroups.member_of("0::/").file("cpu.max", text).cores() == 8


def test_the_smallest_quota_on_the_way_to_the_root_counts(cgroups: Cgroups) -> None:
    cgroups.member_of("0::/a.slice/b.service")
    cgroups.file("a.slice/b.service/cpu.max", "500000 100000")
    cgroups.file("a.slice/cpu.max", "300000 100000")
    cgroups.file("cpu.max", "400000 100000")
    assert cgroups.cores() == 3


def test_the_quota_of_another_cgroup_does_not_count(cgroups: Cgroups) -> None:
    cgroups.member_of("0::/mine").file("mine/cpu.max", "max 100000")
    assert cgroups.file("theirs/cpu.max", "100000 100000").cores() == 8


def test_a_container_that_does_not_see_its_own_path_has_its_quota_at_the_root(
    cgroups: Cgroups,
) -> None:
    cgroups.member_of("0::/system.slice/docker-1234.scope")
    assert cgroups.file("cpu.max", "200000 100000").cores() == 2


@pytest.mark.parametrize(("quota", "cores"), [("200000", 2), ("150000", 2), ("-1", 8)])
def test_a_quota_of_version_1_limits_the_cores(cgroups: Cgroups, quota: str, cores: int) -> None:
    cgroups.member_of("9:memory:/box", "4:cpu,cpuacct:/box", "1:name=systemd:/box", "0::/")
    cgroups.file("cpu,cpuacct/box/cpu.cfs_quota_us", f"{quota}\n")
    cgroups.file("cpu,cpuacct/box/cpu.cfs_period_us", "100000\n")
    assert cgroups.cores() == cores


def test_without_a_quota_the_affinity_counts(cgroups: Cgroups) -> None:
    assert cgroups.cores() == 8


def test_without_an_affinity_mask_all_cores_count(
    cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cgroups.cores() == 6


def test_there_is_always_one_core(cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cgroups.cores() == 1


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("flags\t\t: fpu avx2 amx_tile amx_int8\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", False),  # Skylake: sums saturate
        ("Features\t: fp asimd asimddp i8mm\n", True),
        ("Features\t: fp asimd\n", False),
        ("model name : avx512_vnni\n", False),
        ("", False),
    ],
)
def test_the_flags_tell_whether_8_bit_sums_are_exact(
    tmp_path: Path, text: str, exact: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert adds_int8_exactly(cpu_flags(tmp_path / "cpuinfo")) is exact


def test_without_cpuinfo_there_are_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "missing") == frozenset()
