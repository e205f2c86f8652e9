"""What a configuration that was read again changes, and what of it has to wait for a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.config import SECTIONS, Config

# The port is taken, the processes are there, the pool is open and the exporter runs: all of them
# are older than any generation. Whole sections stand here by their name alone.
_FIXED = frozenset(
    {
        "server.host",
        "server.port",
        "server.operations_host",
        "server.operations_port",
        "server.max_connections",
        "server.max_connections_per_address",
        "server.head_timeout_s",
        "server.keep_alive_s",
        "server.processes",
        "paths.data_dir",
        # A request in progress relies on what it began with: a shorter one could cost it its blob.
        "blobs.orphan_grace_s",
        "database",
        "database_pool",
        "embedded_database",
        "tracing",
    }
)


@dataclass(frozen=True, slots=True)
class Changes:
    """The new configuration as far as it can be had now, and the names of the settings it changes.

    waiting: those that keep their former value until the service is started again.
    """

    config: Config
    applied: tuple[str, ...]
    waiting: tuple[str, ...]


def changes(running: Config, read: Config) -> Changes:
    """Compare what runs with what was read; secrets are named, never shown."""
    applied: list[str] = []
    waiting: list[str] = []
    sections: dict[str, Any] = {}
    for section in SECTIONS:
        old, new = getattr(running, section), getattr(read, section)
        if old is None or new is None:  # the one section that may be left out
            if old is not new:
                waiting.append(section)
            sections[section] = old
            continue
        kept: dict[str, Any] = {}
        for key in type(new).model_fields:
            if getattr(old, key) == getattr(new, key):
                continue
            name = f"{section}.{key}"
            if section in _FIXED or name in _FIXED:
                waiting.append(name)
                kept[key] = getattr(old, key)
            else:
                applied.append(name)
        sections[section] = new.model_copy(update=kept)
    return Changes(read.model_copy(update=sections), tuple(applied), tuple(waiting))
