"""What all tests share: photos, the exported models, a running service, a database each."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import pytest

from bench.common.photos import faces_folder
from service.store.database.database import Database, DatabaseSettings
from service.store.embedded.server import EmbeddedAddress, embedded_server
from service.store.embedded.settings import EmbeddedSettings
from tests.support.calls import Photos, small_photos
from tests.support.databases import Databases, Templates, databases_of_a_test
from tests.support.folders import ROOT, open_folder
from tests.support.service import SHARED_FOLDER, ServiceProcess, lay_database

# A test that takes longer without the marker `long` is told of at the end.
_BUDGET_S = 20.0
# No test fails because a machine is slow: these limits are for what hangs.
_SLOW_TIMEOUT_S = 900


def pytest_configure(config: pytest.Config) -> None:
    """Give this run a folder that its workers share; they are its children."""
    if "workerinput" not in vars(config):
        # Else each worker, and each program that a test starts, compiles all modules again.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.dont_write_bytecode = False
        stack = ExitStack()
        config.add_cleanup(stack.close)
        os.environ[SHARED_FOLDER] = str(stack.enter_context(open_folder()))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Keep the tests of a module's fixture on one worker, and begin with what takes long.

    Each worker makes the fixtures that it needs. What begins last had better be short: meanwhile
    the other workers have nothing to do. Of slow tests those that are also long are the first.
    """
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        shares = any(each[-1].scope == "module" for each in fixtures)
        if shares and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_TIMEOUT_S))
    yield
    sizes = Counter(map(_unit, items))
    marks = Counter[str]()
    for item in items:
        marks[_unit(item)] = max(marks[_unit(item)], _marks(item))
    items.sort(key=lambda item: (-marks[_unit(item)], sizes[_unit(item)] == 1))


def _marks(item: pytest.Item) -> int:
    """How many markers say that a test takes long."""
    return sum(item.get_closest_marker(name) is not None for name in ("long", "slow"))


def _unit(item: pytest.Item) -> str:
    """What pytest-xdist gives to one worker as a whole."""
    group = item.get_closest_marker("xdist_group")
    return group.args[0] if group else item.nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what the report cannot carry from a worker: a path may have bytes that are no text."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that took longer than a test should; none fails for it."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and report.duration > _BUDGET_S
    ]
    reports = [each for each in reports if not {"long", "slow"} & each.keywords.keys()]
    if reports:
        terminalreporter.section(f"over {_BUDGET_S:.0f} s without the marker long")
    for report in sorted(reports, key=lambda each: -each.duration):
        terminalreporter.line(f"{report.duration:.1f} s {report.nodeid}")


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
def photos(portraits: list[Path]) -> Photos:
    """The portraits, cut to the head and made small, so that an insert takes little time."""
    return small_photos(portraits)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The exported models; `make test` exports them first."""
    folder = ROOT / "models"
    assert (folder / "manifest.json").is_file(), "run `make export` first"
    return folder


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedAddress]:
    """A server for the databases of a worker's tests."""
    with open_folder() as folder:
        lay_database(folder)
        with embedded_server(folder, EmbeddedSettings(shared_buffers_mb=256)) as address:
            yield address


@pytest.fixture(scope="session")
def _templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
async def databases(postgres: EmbeddedAddress, _templates: Templates) -> AsyncIterator[Databases]:
    """Makes the databases of one test."""
    async with databases_of_a_test(postgres, _templates) as made:
        yield made


@pytest.fixture
async def empty_database(databases: Databases) -> DatabaseSettings:
    """A database without any table."""
    return await databases.empty()


@pytest.fixture
async def prepared_database(databases: Databases) -> DatabaseSettings:
    """A migrated database without any row, for an event loop that the test runs."""
    return await databases.prepared()


@pytest.fixture
async def database(databases: Databases) -> Database:
    """A migrated database without any row."""
    return await databases.migrated()


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    return tmp_path / "uploads"
