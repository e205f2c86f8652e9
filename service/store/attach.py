"""A command beside a running service: it shares the service's embedded server, if there is one."""

from __future__ import annotations

import fcntl
from pathlib import Path

from service.domain.errors import ConfigError
from service.store.embedded import EmbeddedAddress

# Lines of postmaster.pid, as PostgreSQL's miscadmin.h counts them.
_PORT_LINE, _SOCKET_LINE = 3, 4


def running_server(data_dir: Path) -> EmbeddedAddress | None:
    """Where the embedded server of `data_dir` listens, for as long as its service lives.

    None where no service holds the folder.

    Raises:
        ConfigError: the server is starting or stopping.
    """
    lock_file = data_dir / "postgres.lock"
    try:
        with lock_file.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _address(data_dir / "postgres" / "postmaster.pid")
    return None


def _address(pid_file: Path) -> EmbeddedAddress:
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
        return EmbeddedAddress(lines[_SOCKET_LINE].strip(), int(lines[_PORT_LINE]))
    except (FileNotFoundError, IndexError, ValueError):
        raise ConfigError(
            f"the embedded database in {pid_file.parents[1]} is just starting or stopping: try "
            "again in a moment"
        ) from None
