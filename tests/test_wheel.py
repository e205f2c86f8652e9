"""The wheel is whole, and is enough: from an empty folder to a stored photo, without a checkout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from export import recipe
from tests.support.folders import ROOT, open_folder
from tests.support.models import link_models

PACKAGES = ("service", "export", "bench")
BUILT_OF = (*PACKAGES, "clients", "pyproject.toml", "README.md", "LICENSE")
# Results, plots and notes of benches are no part of an installation.
LEFT_OUT = ("bench",)
NO_SOURCE = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
_STARTS_WITHIN_S = 120


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made of the source distribution, which is made of a copy of this checkout."""
    source, dist = (tmp_path_factory.mktemp(name) for name in ("source", "dist"))
    for name in BUILT_OF:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=NO_SOURCE)
        else:
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = dist.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Iterator[Path]:
    """An environment with the wheel, what it asks for to serve, and nothing else."""
    with open_folder() as folder:
        environment = folder / "environment"
        venv.create(environment, with_pip=False, symlinks=True)
        python = environment / "bin" / "python"
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel],
            check=True,
        )
        link_packages(environment, "cpu", "embedded")
        yield environment


def site_of(environment: Path) -> Path:
    (site,) = environment.glob("lib/python*/site-packages")
    return site


def link_packages(environment: Path, *extras: str) -> None:
    """Put what the wheel's metadata asks for into an environment: the packages of this one."""
    site = site_of(environment)
    (info,) = site.glob("facette-*.dist-info")
    asked = importlib.metadata.PathDistribution(info).requires or []
    seen: set[tuple[str, str]] = set()
    for distribution in closure(asked, extras, seen):
        for file in distribution.files or []:
            if ".." not in file.parts and not (site / file.parts[0]).exists():
                (site / file.parts[0]).symlink_to(distribution.locate_file(file.parts[0]))


def closure(
    asked: Iterable[str], extras: Iterable[str], seen: set[tuple[str, str]]
) -> Iterator[importlib.metadata.Distribution]:
    """The distributions that satisfy requirements, and those that they require in turn."""
    for requirement in map(Requirement, asked):
        for extra in extras or ("",):
            key = canonicalize_name(requirement.name), ",".join(sorted(requirement.extras))
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            if key in seen:
                continue
            seen.add(key)
            found = importlib.metadata.distribution(requirement.name)
            assert requirement.specifier.contains(found.version, prereleases=True), requirement
            yield found
            yield from closure(found.requires or [], requirement.extras, seen)


class Shell:
    """Runs the installed program in a folder that has nothing else."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FACETTE_", "PYTHON"))}
        self.environment = kept

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as stream:
            return subprocess.Popen(
                [self.program, "serve", "--port", "0"],
                cwd=self.folder,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )


@pytest.fixture
def shell(environment: Path) -> Iterator[Shell]:
    with open_folder() as folder:
        yield Shell(environment / "bin" / "facette", folder)


@pytest.mark.slow
def test_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py" if package in LEFT_OUT else "*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "service/store/sql/reads.sql" in wanted
    assert wanted - packed == set()
    assert {name for name in packed - wanted if name.startswith(PACKAGES)} == set()


@pytest.mark.slow
def test_installed_wheel_leads_from_an_empty_folder_to_a_stored_photo(
    shell: Shell, environment: Path, models_dir: Path, portraits: list[Path]
) -> None:
    assert "COMMAND" in shell.run("--help").stdout
    said = shell.run("init").stdout
    assert f"models:   none in {shell.folder / 'models'} yet" in said
    install = f"{environment / 'bin' / 'python'} -m pip install 'facette[export]'"
    assert install in said
    refused = shell.run("export")
    assert refused.returncode == 2
    assert "torch" in refused.stderr
    assert install in refused.stderr

    # To install PyTorch would take minutes, and an export one more: of both the result is taken.
    link_packages(environment, "cpu", "embedded", "export")
    link_models(models_dir, shell.folder / "models")
    assert recipe.is_fresh(models_dir, recipe.recorded_weights(models_dir)), "run `make export`"
    exported = shell.run("export", "--if-stale")
    assert (exported.returncode, exported.stdout) == (0, "models are up to date\n")

    assert shell.run("init").stdout.splitlines()[-1] == f"  {shell.program} serve"
    log = shell.folder / "log"
    process = shell.start(log)
    try:
        line = curl_line(process, log).replace("photo.jpg", str(portraits[1]))
        done = subprocess.run(
            ["bash", "-c", line], cwd=shell.folder, capture_output=True, check=True
        )
        assert len(json.loads(done.stdout)["faces"]) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    assert status == 0, log.read_text(encoding="utf-8")


def curl_line(process: subprocess.Popen[bytes], log: Path) -> str:
    """The line that a service prints when it is ready."""
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("  curl "):
                return line
        time.sleep(0.1)
    raise AssertionError(log.read_text(encoding="utf-8"))
