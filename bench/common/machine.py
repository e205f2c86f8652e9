"""The origin of a figure: processor, versions, commit."""

from __future__ import annotations

import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from service.machine.cpu import usable_cores

_PACKAGES = (
    "facette",
    "numpy",
    "numba",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "opencv-python-headless",
    "torch",
    "facenet-pytorch",
)
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_int8")
# The files that figures depend on, without the files that benches write: differences elsewhere do
# not make a checkout dirty.
_MEASURED = (
    "service",
    "export",
    "bench",
    "pyproject.toml",
    ":(exclude)bench/history.jsonl",
    ":(exclude)bench/README.md",
    ":(exclude)bench/plots",
    ":(exclude)bench/results",
)
_CHECKOUT = Path(__file__).resolve().parents[2]


class OtherWork:
    """Processor time of other programs, from the construction on: how calm the machine is."""

    def __init__(self) -> None:
        self._began, self._busy_s, self._own_s = _times()

    def share(self) -> float:
        """Of the processor time of all cores so far, 0 to 1; time that a hypervisor took counts."""
        now, busy_s, own_s = _times()
        passed_s = (now - self._began) * (psutil.cpu_count() or 1)
        others_s = (busy_s - self._busy_s) - (own_s - self._own_s)
        return min(1.0, max(0.0, others_s / passed_s))


def _times() -> tuple[float, float, float]:
    """The clock, processor time of the machine since it runs, and of this process; in seconds."""
    machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
    busy = ("user", "nice", "system", "irq", "softirq", "steal")
    return (
        time.monotonic(),
        sum(getattr(machine, name, 0.0) for name in busy),
        own.user + own.system + own.children_user + own.children_system,
    )


def describe() -> dict[str, object]:
    """Time, commit, machine and versions."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "processor": _cpu_field("model name") or platform.processor(),
            "flags": [flag for flag in _FLAGS if flag in _cpu_field("flags").split()],
            "usable_cores": usable_cores(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := _version(name))},
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_field(name: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _commit() -> str:
    """The short name of the commit, with `-dirty` if a measured file differs from it."""
    name = _git("rev-parse", "--short", "HEAD")
    if not name:
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *_MEASURED)
    return f"{name}-dirty" if changed else name


def _git(*arguments: str) -> str:
    result = subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=_CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip()
