"""The embedded PostgreSQL that somebody runs already, as a command beside the service finds it."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from service.domain.errors import ConfigError
from service.store.embedded import EmbeddedAddress

_LINES_BEFORE_PORT = 3


def running_server(data_dir: Path) -> EmbeddedAddress | None:
    """Where the server of a data folder listens; None where nobody does.

    Raises:
        ConfigError: the folder cannot be read.
    """
    cluster = data_dir / "postgres"
    try:
        owner = cluster.stat().st_uid
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ConfigError(
            f"the embedded database in {cluster} cannot be read: run this as the user that runs "
            "the service"
        ) from None
    if len(lines) < _LINES_BEFORE_PORT + 2:
        return None  # it is only just starting
    port, socket_dir = (line.strip() for line in lines[_LINES_BEFORE_PORT:][:2])
    if not port.isdecimal() or not socket_dir:
        return None
    folder = Path(socket_dir)
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
            probe.connect(f"{socket_dir}/.s.PGSQL.{port}")
        except OSError:
            return None
    return EmbeddedAddress(socket_dir, int(port))


def has_database(data_dir: Path) -> bool:
    """Whether a database was ever made in a data folder."""
    return (data_dir / "postgres" / "PG_VERSION").exists()
