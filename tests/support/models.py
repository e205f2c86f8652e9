"""Models directories that a test may change: the large files in them are links."""

from __future__ import annotations

import shutil
from pathlib import Path

from service.runtime.manifest import MANIFEST_NAME


def link_models(source: Path, target: Path) -> Path:
    """Make the model set of a folder appear in another, as it was if it is there already.

    Its manifest is a copy. Its other files are links: a test may remove and replace them, and
    not write to them.
    """
    target.mkdir(exist_ok=True)
    for file in source.iterdir():
        there = target / file.name
        if file.name == MANIFEST_NAME:
            shutil.copy(file, there)
        elif file.is_file():
            there.unlink(missing_ok=True)
            there.symlink_to(file.resolve())
    return target
