"""Files that take the place of others when they are whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.domain.errors import ConfigError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file to write to, which replaces another one when the block ends without an error.

    Only its owner can read it.

    Raises:
        ConfigError: it cannot be written.
    """
    unfinished = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        unfinished = Path(name)
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
