"""The place of the product's benches: a database of their own, and the processor time of it all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.common.measure import Samples
from bench.common.processor import tree_s
from bench.common.result import Effort
from service.store.database.database import Database, DatabaseSettings
from service.store.embedded.server import embedded_server
from service.store.embedded.settings import EmbeddedSettings

# The tables of the largest tenants fit in.
SERVER = EmbeddedSettings(shared_buffers_mb=6144)
_QUICK_SCALE = 0.01


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one part of the bench; the fields are those of `Result`."""

    rates: Mapping[str, Samples] = field(default_factory=dict)
    compared: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    other_ratios: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A migrated database in a folder of its own."""

    database: Database
    folder: Path
    effort: Effort

    @property
    def scale(self) -> float:
        """The factor of the number of stored faces."""
        return _QUICK_SCALE if self.effort.quick else self.effort.scale

    async def metered(self, work: Awaitable[object]) -> tuple[float, float]:
        """Do some work; the seconds it took, and the processor time of this process and PostgreSQL.

        To ask for PostgreSQL's takes milliseconds, which count to neither.
        """
        postgres = postgres_s(self.folder / "postgres")
        own, began = time.process_time(), time.perf_counter()
        await work
        took, used = time.perf_counter() - began, time.process_time() - own
        return took, used + postgres_s(self.folder / "postgres") - postgres


def postmaster_of(data_dir: Path) -> psutil.Process:
    """The first process of the PostgreSQL server of a data folder."""
    text = (data_dir / "postmaster.pid").read_text(encoding="utf-8")
    return psutil.Process(int(text.split("\n", 1)[0]))


def postgres_s(data_dir: Path) -> float:
    """Processor time so far of the PostgreSQL server of a data folder, in seconds."""
    return tree_s(postmaster_of(data_dir))


@asynccontextmanager
async def open_place(effort: Effort) -> AsyncIterator[Place]:
    """A place for the time of the block."""
    with (
        tempfile.TemporaryDirectory(prefix="facette-bench-") as name,
        embedded_server(Path(name), SERVER) as address,
    ):
        database = await Database.open(
            DatabaseSettings(
                address.socket_dir, address.port, address.dbname, address.user, "", 8, 30.0, 600.0
            )
        )
        try:
            yield Place(database, Path(name), effort)
        finally:
            await database.close()
