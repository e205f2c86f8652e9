"""What all tests share: photos, and the exported models."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def find_faces_dir() -> Path | None:
    """The folder of real photos: FACES_DIR, else ../shared/faces; None without either."""
    folder = Path(os.environ.get("FACES_DIR", ROOT.parent / "shared" / "faces"))
    return folder if (folder / "pairs.csv").is_file() else None


def _packaged(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / path


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """The folder of real photos and labelled pairs; tests that need it skip without."""
    folder = find_faces_dir()
    if folder is None:
        pytest.skip("no labelled photos: set FACES_DIR to a folder with pairs.csv")
    return folder


@pytest.fixture(scope="session")
def portraits() -> list[Path]:
    """Two public-domain portraits of two people, shipped with packages of the test extra."""
    return [
        _packaged("skimage", "data/astronaut.png"),
        _packaged("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ]


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The exported models; `make test` exports them first."""
    folder = ROOT / "models"
    assert (folder / "manifest.json").is_file(), "run `make export` first"
    return folder
