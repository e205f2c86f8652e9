"""What failed in an ingest, and why: the first of them on the terminal, all in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from service.commands.display import tell

_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that was not stored; `code` is that of docs/errors.md, or one of this command.

    sha256: of its bytes, in hexadecimal; empty where they could not be read. remembered: the
    service refused it in an earlier run, and it was not sent again.
    """

    path: str
    code: str
    reason: str
    sha256: str = ""
    remembered: bool = False


class Failures:
    """Writes failures as they happen, so that a report is right however a run ends.

    Args:
        path: the report, JSON lines; it is made anew. None for none.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = None
        if path is not None:
            self._file = path.open("w", encoding="utf-8", buffering=1, errors="backslashreplace")
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, failure: Failure) -> None:
        """Write one."""
        if self._file is not None:
            line = {
                "path": failure.path,
                "code": failure.code,
                "reason": failure.reason,
                "sha256": failure.sha256,
                "remembered": failure.remembered,
            }
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._shown += 1
        if self._shown <= _SHOWN:
            reason = failure.reason
            if failure.remembered:
                reason = f"{reason.rstrip('.')} (refused before; --retry-refused sends it again)"
            tell(f"failed: {failure.path}: {reason}", indent="  ", error=True)
        elif self._shown == _SHOWN + 1:
            rest = "the report has them" if self._file else "--report FILE keeps all of them"
            tell(f"more failed; {rest}", error=True)
