"""How commands read the configuration, and what they log of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.config import Config


def logged_config(path: Path) -> Config:
    """The configuration of a command that logs what it does."""
    return _config(path, None)


def quiet_config(path: Path) -> Config:
    """The configuration of a command that prints its results: the log has errors alone."""
    return _config(path, "error")


def _config(path: Path, level: str | None) -> Config:
    from service.config import load_config
    from service.telemetry import configure_logging

    config = load_config(path)
    configure_logging(level or config.server.log_level, as_json=config.server.log_json)
    return config
