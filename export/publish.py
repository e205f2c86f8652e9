"""All files or none: models are written aside and moved into place, the manifest last."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from export.errors import PublishError
from service.runtime.manifest import MANIFEST_NAME, Manifest

_PREFIX = ".export-"
# A run takes about a minute: what is older was left by one that was killed.
_ABANDONED_AFTER_S = 3600.0


@contextlib.contextmanager
def staging(models_dir: Path) -> Iterator[Path]:
    """An empty folder on the file system of `models_dir`, removed however the block ends.

    Raises:
        PublishError: `models_dir` cannot be made or written.
    """
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        for left_over in models_dir.glob(f"{_PREFIX}*"):
            if time.time() - left_over.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(left_over, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=models_dir))
    except OSError as error:
        raise PublishError(
            f"the models directory '{models_dir}' cannot be written: {error.strerror}"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(stage: Path, models_dir: Path, files: dict[str, bytes], manifest: Manifest) -> None:
    """Write everything to `stage`, make it durable, then move it into `models_dir`.

    A reader that comes between two moves sees a hash that does not match, and refuses to start.

    Raises:
        PublishError: the file system refused; what was not yet moved stays as it was.
    """
    text = manifest.model_dump_json(indent=2) + "\n"
    try:
        for name, data in {**files, MANIFEST_NAME: text.encode()}.items():
            _write_durably(stage / name, data)
        for name in [*files, MANIFEST_NAME]:
            (stage / name).replace(models_dir / name)
        _sync_folder(models_dir)
    except OSError as error:
        raise PublishError(f"the models could not be written: {error.strerror}") from error


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
