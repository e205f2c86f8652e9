"""What a shell in the working folder calls this program."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path

_USUAL_CONFIG = Path("config.toml")


def shell_name(config: Path = _USUAL_CONFIG) -> str:
    """The program, with the option that leads to a configuration file unless it is found anyway."""
    name = _program()
    return name if config == _USUAL_CONFIG else f"{name} --config {shlex.quote(str(config))}"


def _program() -> str:
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{sys.executable} -m service.cli"
    if not started.is_file():
        return "facette"
    with suppress(ValueError, FileNotFoundError):  # the working folder may be removed
        started = started.relative_to(Path.cwd())
    return str(started)
