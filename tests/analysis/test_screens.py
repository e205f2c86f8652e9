"""Screens are opened where the processor can run them, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numba
import pytest

from service.analysis.screens import SCREEN_FLAGS, Screens, open_screens
from service.domain.errors import ModelError
from service.runtime.manifest import Manifest, ModelName, load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions

Sessions = Mapping[ModelName, ModelSession]


@pytest.fixture(scope="module")
def manifest(models_dir: Path) -> Manifest:
    return load_manifest(models_dir)


@pytest.fixture(scope="module")
def sessions(models_dir: Path, manifest: Manifest) -> Sessions:
    return open_sessions(models_dir, manifest, SessionSettings(provider="cpu", precision="fp32"))


def test_both_are_opened_where_the_processor_has_what_they_need(
    models_dir: Path, manifest: Manifest, sessions: Sessions
) -> None:
    found = open_screens(models_dir, manifest, sessions, SCREEN_FLAGS | {"sse2"})
    assert found.pnet is not None
    assert found.rnet is not None


@pytest.mark.parametrize("lacking", sorted(SCREEN_FLAGS))
def test_none_where_the_processor_lacks_an_instruction(
    models_dir: Path,
    manifest: Manifest,
    sessions: Sessions,
    lacking: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    assert open_screens(models_dir, manifest, sessions, SCREEN_FLAGS - {lacking}) == Screens()
    assert [record.getMessage() for record in caplog.records] == [
        "P-Net is not screened",
        "R-Net is not screened",
    ]
    assert all(lacking in record.fields["reason"] for record in caplog.records)


def test_only_those_of_the_manifest(
    models_dir: Path, manifest: Manifest, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    without = manifest.model_copy(update={"screen": None})
    found = open_screens(models_dir, without, sessions, SCREEN_FLAGS)
    assert found.pnet is None
    assert found.rnet is not None
    assert caplog.records[0].fields["reason"] == "the manifest has no screen"


@pytest.mark.parametrize(
    ("name", "value"), [("CPU_NAME", "generic"), ("CPU_FEATURES", "-avx512vnni")]
)
def test_none_where_numba_compiles_for_another_processor(
    models_dir: Path,
    manifest: Manifest,
    sessions: Sessions,
    name: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numba.config, name, value)
    assert open_screens(models_dir, manifest, sessions, SCREEN_FLAGS) == Screens()


@pytest.mark.parametrize("name", ["screen", "rnet_screen"])
def test_another_file_under_its_name_is_refused(
    models_dir: Path, tmp_path: Path, manifest: Manifest, sessions: Sessions, name: str
) -> None:
    spec = getattr(manifest, name)
    content = (models_dir / spec.file).read_bytes()
    (tmp_path / spec.file).write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    only = manifest.model_copy(update={"screen": None, "rnet_screen": None} | {name: spec})
    with pytest.raises(ModelError, match="is not the file"):
        open_screens(tmp_path, only, sessions, SCREEN_FLAGS)


def test_a_file_of_another_format_is_refused(
    models_dir: Path, manifest: Manifest, sessions: Sessions
) -> None:
    swapped = manifest.model_copy(update={"rnet_screen": manifest.screen})
    with pytest.raises(ModelError, match="is not a screen"):
        open_screens(models_dir, swapped, sessions, SCREEN_FLAGS)
