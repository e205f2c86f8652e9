"""What all tests share: photos, and the exported models."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from bench.photos import faces_folder
from bench.server import ServiceProcess

ROOT = Path(__file__).resolve().parents[1]


def _packaged(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / path


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """The folder of real photos and labelled pairs; tests that need it skip without."""
    folder = faces_folder()
    if not (folder / "pairs.csv").is_file():
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


@contextmanager
def open_folder(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder outside pytest's own; parent: where temporary files lie, unless given.

    As root, PostgreSQL runs as a user of its own; every pytest that starts closes the folder it
    shares with the others to all users but its own, under the feet of a running database.
    """
    with tempfile.TemporaryDirectory(
        prefix="facette-test-", dir=parent, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


@pytest.fixture
def service_folder() -> Iterator[Path]:
    """A folder for one service with its database."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def service(models_dir: Path) -> Iterator[ServiceProcess]:
    """One running service for all tests of a worker; tests keep apart by tenant."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir).start()
        yield process
        assert process.stop() == 0


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    """An authenticated client of the shared service."""
    with service.client() as found:
        yield found


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test knows."""
    return f"tenant-{uuid4().hex}"
