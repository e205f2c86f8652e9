"""The memory of a process, as proc(5) has it."""

from __future__ import annotations

from pathlib import Path


def resident_mb(pid: int) -> float:
    """The memory that a process has now, in MB."""
    return _line(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The most memory that a process had since its start, or since `reset_peak`, in MB."""
    return _line(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Let the peak be what the process has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _line(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6
