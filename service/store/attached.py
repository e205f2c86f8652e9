"""The embedded PostgreSQL as a command finds it: the service's, or started for the command."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.domain.errors import ConfigError
from service.store.embedded import EmbeddedAddress, embedded_server

_LINES_BEFORE_PORT = 3


@contextmanager
def attached_server(data_dir: Path, *, create: bool = False) -> Iterator[EmbeddedAddress]:
    """The server of a data folder for the time of the block.

    Where one runs, it is used and left running: it is the service's. Else one is started, and
    stopped at the end; a service that is started meanwhile is told that the folder is in use.

    Args:
        create: make a database where there is none yet.

    Raises:
        ConfigError: there is none, or the folder cannot be read, or the server does not start.
    """
    cluster = data_dir / "postgres"
    try:
        address = _running(cluster)
        exists = (cluster / "PG_VERSION").exists()
    except PermissionError:
        raise ConfigError(
            f"the embedded database in {cluster} cannot be read: run this as the user that runs "
            "the service"
        ) from None
    if address is not None:
        yield address
        return
    if not create and not exists:
        raise ConfigError(
            f"there is no embedded database in {cluster} yet: it is made when the service starts"
        )
    with embedded_server(data_dir) as started:
        yield started


def _running(cluster: Path) -> EmbeddedAddress | None:
    """Where the cluster's server listens; None where nobody answers at what its pid file says."""
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < _LINES_BEFORE_PORT + 2:
        return None  # it is only just starting
    port, socket_dir = (line.strip() for line in lines[_LINES_BEFORE_PORT:][:2])
    if not port.isdecimal() or not socket_dir:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(f"{socket_dir}/.s.PGSQL.{port}")
        except OSError:
            return None
    return EmbeddedAddress(socket_dir, int(port))
