"""Model files and their manifest: what is opened, where, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import ModelError
from service.runtime.manifest import (
    MANIFEST_NAME,
    Manifest,
    ModelSpec,
    check_file,
    file_sha256,
    load_manifest,
)
from service.runtime.sessions import SessionSettings, open_sessions


@pytest.fixture
def values(models_dir: Path) -> dict[str, Any]:
    """The real manifest, to be spoiled."""
    loaded: dict[str, Any] = json.loads((models_dir / MANIFEST_NAME).read_text(encoding="utf-8"))
    return loaded


def write(folder: Path, text: str) -> Path:
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    return folder


def pnet_alone(models_dir: Path, folder: Path, **changes: object) -> Manifest:
    """A manifest of one model, whose file is copied to `folder`, with facts changed."""
    manifest = load_manifest(models_dir)
    spec = manifest.models["pnet"]
    shutil.copy(models_dir / spec.file, folder)
    return manifest.model_copy(update={"models": {"pnet": spec.model_copy(update=changes)}})


def test_the_exported_models_are_those_of_their_manifest(models_dir: Path) -> None:
    manifest = load_manifest(models_dir)
    assert sorted(manifest.models) == ["facenet", "onet", "pnet", "rnet"]
    for spec in manifest.models.values():
        assert check_file(models_dir, spec) == models_dir / spec.file


def test_a_missing_manifest_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.json is missing: run `facette export` first"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"schema_version": 1}', "\0"])
def test_a_manifest_that_is_none_says_how_to_make_it_anew(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        ModelError, match=r"(?s)cannot be used .*run `facette export` again"
    ) as caught:
        load_manifest(write(tmp_path, text))
    assert str(tmp_path / MANIFEST_NAME) in str(caught.value).splitlines()[0]


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ModelError, match="cannot be used"):
        load_manifest(tmp_path)


def test_a_manifest_of_another_schema_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    values["schema_version"] = 2
    with pytest.raises(ModelError, match="schema_version"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_fact_that_the_service_does_not_know_is_refused(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    values["models"]["pnet"]["input"]["mean"] = 127.5
    with pytest.raises(ModelError, match="mean"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_missing_fact_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    del values["models"]["facenet"]["sha256"]
    with pytest.raises(ModelError, match="sha256"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_manifest_that_lacks_a_model_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    del values["models"]["rnet"]
    with pytest.raises(ModelError, match="there is no rnet"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"model" * 100_000)
    assert file_sha256(path) == hashlib.sha256(b"model" * 100_000).hexdigest()


@pytest.fixture
def spec(models_dir: Path) -> ModelSpec:
    content = hashlib.sha256(b"content").hexdigest()
    return load_manifest(models_dir).models["pnet"].model_copy(update={"sha256": content})


def test_a_file_with_the_hash_of_its_manifest_is_accepted(tmp_path: Path, spec: ModelSpec) -> None:
    (tmp_path / spec.file).write_bytes(b"content")
    assert check_file(tmp_path, spec) == tmp_path / spec.file


def test_a_file_with_another_hash_is_refused(tmp_path: Path, spec: ModelSpec) -> None:
    (tmp_path / spec.file).write_bytes(b"Content")
    with pytest.raises(ModelError, match=f"{spec.file} is not the file its manifest describes"):
        check_file(tmp_path, spec)


def test_a_missing_model_file_is_named(tmp_path: Path, spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match=f"{spec.file} is missing"):
        check_file(tmp_path, spec)


def test_a_file_that_is_no_model_is_refused(
    models_dir: Path, tmp_path: Path, spec: ModelSpec
) -> None:
    (tmp_path / spec.file).write_bytes(b"content")
    manifest = load_manifest(models_dir).model_copy(update={"models": {"pnet": spec}})
    with pytest.raises(ModelError, match=f"{spec.file} cannot be loaded"):
        open_sessions(tmp_path, manifest, SessionSettings(provider="cpu"))


def test_a_graph_with_another_input_is_refused(models_dir: Path, tmp_path: Path) -> None:
    described = load_manifest(models_dir).models["pnet"].input
    changed = described.model_copy(update={"shape": ("batch", 24, 24, 3)})
    manifest = pnet_alone(models_dir, tmp_path, input=changed)
    with pytest.raises(ModelError, match=r"pnet\.onnx: the graph has"):
        open_sessions(tmp_path, manifest, SessionSettings(provider="cpu"))


def test_a_graph_with_other_outputs_is_refused(models_dir: Path, tmp_path: Path) -> None:
    outputs = load_manifest(models_dir).models["pnet"].outputs
    manifest = pnet_alone(models_dir, tmp_path, outputs=outputs[::-1])
    with pytest.raises(ModelError, match=r"pnet\.onnx: the graph has"):
        open_sessions(tmp_path, manifest, SessionSettings(provider="cpu"))
