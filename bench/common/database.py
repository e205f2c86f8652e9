"""The embedded database of a service in a drill: restarts by its own tool, reads past the API."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import asyncpg
import psutil

from bench.common.server import ServiceProcess
from service.store.embedded.account import ServerAccount
from service.store.embedded.cluster import programs

Mode = Literal["fast", "immediate"]
"""fast: ends transactions, then stops. immediate: stops as a crash does, and recovers at start."""

_IMAGES = """
SELECT image.image_id, image.blob_key, image.sha256,
       array_remove(array_agg(face.face_id), NULL) AS faces
FROM image LEFT JOIN face USING (tenant_id, image_id)
GROUP BY image.tenant_id, image.image_id
"""


# Rows that no state of the database may have. Callers of the drills move no
# faces and settle no reviews, so each cluster was opened by the machine and has its review.
_HALVES = {
    "clusters_without_face": """
        SELECT count(*) FROM cluster
        WHERE NOT EXISTS (SELECT FROM face WHERE (face.tenant_id, face.cluster_id)
                                               = (cluster.tenant_id, cluster.cluster_id))
    """,
    "clusters_without_review": """
        SELECT count(*) FROM cluster
        WHERE NOT EXISTS (SELECT FROM review WHERE (review.tenant_id, review.cluster_id)
                                                 = (cluster.tenant_id, cluster.cluster_id))
    """,
    "faces_without_cluster": """
        SELECT count(*) FROM face LEFT JOIN cluster USING (tenant_id, cluster_id)
        WHERE cluster.tenant_id IS NULL
    """,
    "faces_without_image": """
        SELECT count(*) FROM face LEFT JOIN image USING (tenant_id, image_id)
        WHERE image.tenant_id IS NULL
    """,
}


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

    rows: by the hash of the sent file. files_without_row: their number. halves: by name, the
    numbers of incomplete rows.
    """

    rows: dict[str, list[Row]]
    files_without_row: int
    halves: dict[str, int] = field(default_factory=dict)


def stop(service: ServiceProcess, mode: Mode) -> str:
    """Stop the database, and return the options that it ran with."""
    cluster = _cluster(service)
    # The program, -D, the folder, and then the options of its start.
    options = shlex.split((cluster / "postmaster.opts").read_text(encoding="utf-8"))[3:]
    _pg_ctl("-w", "-D", str(cluster), "-m", mode, "stop")
    return shlex.join(options)


def start(service: ServiceProcess, options: str) -> None:
    """Start it again, and wait until it takes connections."""
    cluster = _cluster(service)
    log = str(cluster / "log")
    _pg_ctl("-w", "-D", str(cluster), "-l", log, "-o", options, "start")


async def stored(service: ServiceProcess) -> Stored:
    """The current content of the database and of the folder of photos."""
    connection = await connect(service)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            records = await connection.fetch(_IMAGES)
            halves = {name: await connection.fetchval(text) for name, text in _HALVES.items()}
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
    return Stored(rows, len(files), halves)


async def connect(service: ServiceProcess) -> asyncpg.Connection:
    """A connection past the API, as the owner of everything."""
    host, port = address(service)
    return await asyncpg.connect(host=host, port=port, user="postgres", database="postgres")


def address(service: ServiceProcess) -> tuple[str, int]:
    """The folder of the database's socket, and its port."""
    lines = (_cluster(service) / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    return lines[4].strip(), int(lines[3])


def postmaster(service: ServiceProcess) -> psutil.Process:
    """The first process of the database."""
    text = (_cluster(service) / "postmaster.pid").read_text(encoding="utf-8")
    return psutil.Process(int(text.split("\n", 1)[0]))


def is_running(service: ServiceProcess) -> bool:
    """Whether the database runs; it takes its pid file away when it stops."""
    return (_cluster(service) / "postmaster.pid").exists()


def _cluster(service: ServiceProcess) -> Path:
    return service.data_dir / "postgres"


def _pg_ctl(*arguments: str) -> None:
    subprocess.run(  # noqa: S603
        [programs() / "pg_ctl", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **ServerAccount.choose().of_process,
    )
