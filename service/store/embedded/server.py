"""The embedded PostgreSQL: run for a service that is configured without a database."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.domain.errors import ConfigError
from service.store.embedded.pid_files import POSTMASTER_PID, PidFile
from service.store.embedded.settings import EmbeddedSettings, parameters
from service.store.embedded.watch import Watch

if TYPE_CHECKING:
    from service.store.embedded.cluster import Cluster

_logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_BETWEEN_ATTEMPTS_S = 0.5


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """Where the embedded server listens: a folder that holds its unix socket."""

    socket_dir: str
    port: int
    dbname: str = "postgres"
    user: str = "postgres"


@contextmanager
def embedded_server(
    data_dir: Path, settings: EmbeddedSettings | None = None
) -> Iterator[EmbeddedAddress]:
    """Run PostgreSQL under `data_dir` for the time of the block.

    A server that a killed service left running is taken over, with the settings it was started
    with. One that crashes meanwhile is started again; one that an operator stopped is left alone,
    and one that an operator started is as good as the first. It is stopped at the end in any case:
    its transactions are durable, so nothing acknowledged is lost.

    Raises:
        ConfigError: the extra is not installed, another service uses the folder, or the server
            does not start.
    """
    try:
        from service.store.embedded.cluster import Cluster, programs

        programs()
    except ImportError:
        raise ConfigError(
            "no [database] is configured and the embedded one is not installed: install the "
            "extra facette[embedded], or add a [database] section"
        ) from None
    data_dir.mkdir(parents=True, exist_ok=True)
    with _exclusive(data_dir / "postgres.lock"):
        cluster = Cluster.prepare(data_dir / "postgres", parameters(settings or EmbeddedSettings()))
        try:
            _start(cluster)
            watch = Watch(cluster)
            try:
                yield EmbeddedAddress(str(cluster.socket_dir), cluster.port)
            finally:
                watch.close()
        finally:
            cluster.stop()
            _logger.info("embedded database stopped")


def _start(cluster: Cluster) -> None:
    """Return when a server takes connections: a new one, or one that is there already."""
    for_ever = threading.Event()
    for attempt in range(_ATTEMPTS):
        if attempt:
            for_ever.wait(_BETWEEN_ATTEMPTS_S)
        # One that is there may be on its way up after a crash, or on its way down.
        if cluster.wait_until_ready(for_ever) or cluster.start(for_ever):
            return
    raise ConfigError(
        f"the embedded PostgreSQL in {cluster.folder} does not start; its log {cluster.log} ends: "
        f"{cluster.last_words()}"
    )


@contextmanager
def _exclusive(lock_file: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Whoever can open the file can hold the lock: no other account may.
    """
    handle = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a+") as stream:
        if os.fstat(handle).st_uid == os.geteuid():
            os.fchmod(handle, 0o600)  # an earlier release let everybody read it
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise ConfigError(
                f"the embedded database in {lock_file.parent} is in use by the process "
                f"{stream.read().strip() or '?'}; stop it, or set another paths.data_dir"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def running_server(data_dir: Path) -> EmbeddedAddress | None:
    """Where the server of a data folder listens; None where nobody does.

    Raises:
        ConfigError: the folder cannot be read.
    """
    cluster = data_dir / "postgres"
    try:
        owner = cluster.stat().st_uid
        written = PidFile.read(cluster / POSTMASTER_PID)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ConfigError(
            f"the embedded database in {cluster} cannot be read: run this command as the user that "
            "runs the service"
        ) from None
    port, folder = written.port, written.socket_dir
    if port is None or folder is None:
        return None  # no server, or one that is only starting
    try:
        facts = folder.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(facts.st_mode) or facts.st_mode & 0o077 or facts.st_uid != owner:
        raise ConfigError(
            f"the embedded database in {cluster} listens in {folder}, where other accounts could "
            "answer in its place: start the service again"
        )
    # After a crash the file may name a process that is gone, or another by now.
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(folder / f".s.PGSQL.{port}"))
        except OSError:
            return None
    return EmbeddedAddress(str(folder), port)


def has_database(data_dir: Path) -> bool:
    """Whether a database was ever made in a data folder."""
    return (data_dir / "postgres" / "PG_VERSION").exists()
