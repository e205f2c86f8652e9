"""Measured data kept beside the code as JSON: one file for each set of weights, or each space."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from export.errors import RecordError

Record = TypeVar("Record", bound=BaseModel)


def read_all(folder: Path, kind: type[Record]) -> list[Record]:
    """Every record of a folder, by file name; none where there is no folder.

    Raises:
        RecordError: a file cannot be read, or is not such a record.
    """
    return [_read(path, kind) for path in sorted(folder.glob("*.json"))]


def _read(path: Path, kind: type[Record]) -> Record:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RecordError(f"'{path}' holds no {kind.__name__.lower()}: {reason}") from error
