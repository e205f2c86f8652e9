"""Commands of `facette`, as an operator runs them, without a new Python for each."""

from __future__ import annotations

import io
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from service.cli import main


def facette(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command in a folder; what it raises is the test's.

    A process of its own is for what outlives a command, or is stopped by a signal: `serve`.

    Args:
        environment: all of it; None = this process's without its settings of Facette.
    """
    if environment is None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FACETTE_")}
    output, errors = io.StringIO(), io.StringIO()
    with (
        chdir(folder),
        patch.dict(os.environ, environment, clear=True),
        _logging_restored(),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            status = main(arguments)
        except SystemExit as ended:  # argparse's way to refuse an argument
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


@contextmanager
def _logging_restored() -> Iterator[None]:
    """A command sets up logging for all of its process."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    handlers, levels = list(root.handlers), (root.level, uvicorn.level)
    root.handlers.clear()  # else they are closed
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in zip((root, uvicorn), levels, strict=True):
            logger.setLevel(level)
