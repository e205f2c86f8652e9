"""The embedded PostgreSQL server of a data folder: run it, or find a running one."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
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
    """The address of the embedded server. socket_dir: the folder of its unix socket."""

    socket_dir: str
    port: int
    dbname: str = "postgres"
    user: str = "postgres"


@contextmanager
def embedded_server(
    data_dir: Path, settings: EmbeddedSettings | None = None
) -> Iterator[EmbeddedAddress]:
    """Run PostgreSQL in `data_dir` until the block ends.

    A server that a killed service left running is taken over, and keeps its settings. A server that
    crashes is restarted. A server that an operator stopped is not restarted; one that an operator
    starts is used. The end of the block stops the server in any case. Committed transactions are
    durable.

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
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"paths.data_dir: {data_dir} is no folder") from None
    except OSError as error:
        raise ConfigError(
            f"paths.data_dir: {data_dir} cannot be created: {error.strerror}"
        ) from error
    with _exclusive(data_dir / "postgres.lock"):
        disk_bytes = shutil.disk_usage(data_dir).total
        found = parameters(settings or EmbeddedSettings(), disk_bytes)
        cluster = Cluster.prepare(data_dir / "postgres", found)
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
    """Return when a server accepts connections: a running one, or a new one."""
    for_ever = threading.Event()
    for attempt in range(_ATTEMPTS):
        if attempt:
            for_ever.wait(_BETWEEN_ATTEMPTS_S)
        try:
            # A running server may be recovering from a crash, or shutting down.
            if cluster.wait_until_ready(for_ever) or cluster.start(for_ever):
                return
        except OSError as error:
            raise ConfigError(
                f"the embedded PostgreSQL in {cluster.folder} cannot be started: {error}"
            ) from error
    raise ConfigError(
        f"the embedded PostgreSQL in {cluster.folder} does not start; its log {cluster.log} ends: "
        f"{cluster.last_words()}"
    )


@contextmanager
def _exclusive(lock_file: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when this process ends.

    An account that can open the file can hold the lock, so the file is private.
    """
    try:
        handle = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise ConfigError(
            f"paths.data_dir: {lock_file} cannot be written: {error.strerror}"
        ) from error
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
    """The address of the running server of a data folder; None where no server runs.

    Raises:
        ConfigError: the folder cannot be read, or the socket is in an unsafe folder.
    """
    cluster = data_dir / "postgres"
    try:
        owner = cluster.stat().st_uid
        written = PidFile.read(cluster / POSTMASTER_PID)
    except (FileNotFoundError, NotADirectoryError):
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
    # After a crash, the file may name an ended process, or one with a reused pid.
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(folder / f".s.PGSQL.{port}"))
        except OSError:
            return None
    return EmbeddedAddress(str(folder), port)


def has_database(data_dir: Path) -> bool:
    """Whether a data folder has a database."""
    return (data_dir / "postgres" / "PG_VERSION").exists()
