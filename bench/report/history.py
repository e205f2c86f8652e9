"""bench/history.jsonl: one line a measurement, only ever appended to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.result import Result

PATH = Path(__file__).parents[1] / "history.jsonl"

Record = dict[str, Any]
"""One measurement: its origin, its configuration, and every sample."""


def record(bench: str, result: Result, origin: Mapping[str, object], *, quick: bool) -> Record:
    """A bench's result with its origin (`machine.describe`)."""
    return {"bench": bench, **origin, "quick": quick, **result.document()}


def append(path: Path, entry: Record) -> None:
    """Add one line to the file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry, ensure_ascii=False) + "\n")


def read(path: Path) -> list[Record]:
    """Every measurement of a file, oldest first; none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def measured(records: Sequence[Record]) -> list[Record]:
    """All measurements but those of quick runs."""
    return [entry for entry in records if not entry["quick"]]


def latest(records: Sequence[Record]) -> dict[str, Record]:
    """The last measurement of each bench."""
    return {entry["bench"]: entry for entry in measured(records)}
