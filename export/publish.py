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
from service.domain.errors import ModelError
from service.runtime.manifest import MANIFEST_NAME, Manifest, load_manifest

_PREFIX = ".export-"
# A run takes about a minute: an older folder is the rest of a killed one.
_ABANDONED_AFTER_S = 3600.0


@contextlib.contextmanager
def staging(models_dir: Path) -> Iterator[Path]:
    """An empty folder on the file system of `models_dir`, removed at the end of the block.

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

    A service that starts between two moves sees a hash that does not match, and refuses to start.
    Files that only the former manifest lists are removed.

    Raises:
        PublishError: the file system refused; files that were not moved yet are unchanged.
    """
    text = manifest.model_dump_json(indent=2) + "\n"
    dropped = _listed(models_dir) - files.keys()
    try:
        for name, data in {**files, MANIFEST_NAME: text.encode()}.items():
            _write_durably(stage / name, data)
        for name in [*files, MANIFEST_NAME]:
            (stage / name).replace(models_dir / name)
        for name in dropped:
            (models_dir / name).unlink(missing_ok=True)
        _sync_folder(models_dir)
    except OSError as error:
        raise PublishError(f"the models could not be written: {error.strerror}") from error


def _listed(models_dir: Path) -> set[str]:
    """Names of the model files that the manifest of a directory lists; none without a manifest."""
    try:
        manifest = load_manifest(models_dir)
    except ModelError:
        return set()
    names = {file.file for file in manifest.files}
    # Plain names only: a manipulated manifest must not reach other folders.
    return {name for name in names if Path(name).name == name}


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
