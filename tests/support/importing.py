"""Imports of archives in processes of their own, each a fork of one that has loaded the command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from service.domain.errors import ArchiveError
from service.store.archive.imports import import_tenant
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database, DatabaseSettings
from tests.support.folders import ROOT
from tests.support.memory import peak_mb


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused import.

    growth_mb: the most memory that its process had, above what it had before the import.
    """

    said: str
    growth_mb: float


class Importer:
    """Asks the process for imports, one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def refused(self, archive: Path, settings: DatabaseSettings, uploads: Path) -> Refusal:
        """Import an archive, which must be refused."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {"archive": str(archive), "settings": asdict(settings), "uploads": str(uploads)}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer.keys() == {"said", "growth_mb"}, answer
        return Refusal(**answer)


@contextmanager
def open_importer() -> Iterator[Importer]:
    """A process that imports until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.importing"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Importer(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


async def _import(archive: str, settings: dict[str, Any], uploads: str) -> str | None:
    """What an import is refused for; None where it is not."""
    database = await Database.open(DatabaseSettings(**settings))
    async with database.maintenance() as connection:
        try:
            await import_tenant(connection, Path(archive), FolderBlobStore(Path(uploads)))
        except ArchiveError as error:
            return error.message
        finally:
            await database.close()
    return None


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    before_mb = peak_mb(os.getpid())  # of a fork, which begins with what it has
    try:
        said = asyncio.run(_import(**task))
    except Exception:
        return {"failed": traceback.format_exc()}
    return {"said": said, "growth_mb": peak_mb(os.getpid()) - before_mb}


def _main() -> None:
    import_module("service.commands.archives")  # as the command has loaded it by then
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _write(_answer(json.loads(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            _write({"ended": status})


def _write(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
