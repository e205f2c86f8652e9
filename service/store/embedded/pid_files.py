"""Files in which a server says which process it is."""

from __future__ import annotations

from pathlib import Path


def lines_of(file: Path) -> list[str]:
    """Its lines; none of a file that is not there."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def number_in(lines: list[str]) -> int | None:
    """The process's number, which is in the first line; None where there is none."""
    try:
        return int(lines[0])
    except (IndexError, ValueError):
        return None
