"""Model sets by name and by space."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from service.domain.errors import ConfigError, ModelError
from service.runtime.catalogue import model_set_of_space, model_sets, named_model_set
from service.runtime.manifest import MANIFEST_NAME, load_manifest


@pytest.fixture
def models(models_dir: Path, tmp_path: Path) -> Path:
    """Manifests without models: a default one of two spaces, and two of one other space."""
    text = (models_dir / MANIFEST_NAME).read_text(encoding="utf-8")
    for name, spaces in (
        ("", ("first/1", "compatible/1")),
        ("b", ("second/1",)),
        ("a", ("second/1",)),
    ):
        manifest = json.loads(text)
        embedder = manifest["models"]["embedder"]
        embedder["embeddings"] = [
            {**facts, "space": space}
            for facts, space in zip(embedder["embeddings"], spaces, strict=False)
        ]
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


def names(models: Path) -> list[str]:
    return [each.name for each in model_sets(models)]


def test_models_directory_comes_first_and_its_folders_by_name(models: Path) -> None:
    assert names(models) == ["default", "compatible", "a", "b"]
    assert named_model_set(models, "default").folder == models
    assert named_model_set(models, "b").folder == models / "b"


@pytest.mark.parametrize("folder", [".export-1", "default", "compatible"])
def test_unfinished_export_and_a_folder_of_a_given_name_are_no_model_sets(
    models: Path, folder: str
) -> None:
    (models / "a").rename(models / folder)
    assert names(models) == ["default", "compatible", "b"]


def test_broken_manifest_of_a_folder_is_left_out_with_a_warning(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (models / "a" / MANIFEST_NAME).write_text("{}", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert names(models) == ["default", "compatible", "b"]
    assert str(models / "a") in caplog.text


def test_missing_default_manifest_is_an_error(models: Path) -> None:
    (models / MANIFEST_NAME).unlink()
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        model_sets(models)


@pytest.mark.parametrize("name", ["c", "", ".", "..", "a/../b", "/"])
def test_unknown_name_is_refused_with_the_known_ones(models: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"available: default, compatible, a, b\).*--models-dir"):
        named_model_set(models, name)


def test_space_is_found_wherever_it_lies_by_its_name_first(models: Path) -> None:
    assert model_set_of_space(models, "first/1", "another name").name == "default"
    assert model_set_of_space(models, "compatible/1", "default").name == "compatible"
    assert model_set_of_space(models, "second/1", "b").name == "b"
    assert model_set_of_space(models, "second/1", "gone").name == "a"


def test_second_embedding_of_a_manifest_is_a_set_of_its_own_over_the_same_files(
    models_dir: Path,
) -> None:
    default, compatible, *_ = model_sets(models_dir)
    assert (default.name, compatible.name) == ("default", "compatible")
    assert default.folder == compatible.folder == models_dir
    facts = load_manifest(models_dir).models["embedder"].embeddings
    assert [(each.space, each.output) for each in (default, compatible)] == [
        (each.space, each.output) for each in facts
    ]
    assert named_model_set(models_dir, "compatible") == compatible


def test_folder_with_two_embeddings_gives_two_sets(models_dir: Path, models: Path) -> None:
    shutil.copy(models_dir / MANIFEST_NAME, models / "b")
    assert names(models) == ["default", "compatible", "a", "b", "b-compatible"]
    found = named_model_set(models, "b-compatible")
    assert (found.folder, found.output) == (models / "b", "compatible")


def test_manifest_without_an_embedding_gives_no_set(models: Path) -> None:
    manifest = json.loads((models / MANIFEST_NAME).read_text(encoding="utf-8"))
    manifest["models"]["embedder"]["embeddings"] = []
    (models / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ModelError, match="does not declare an embedding"):
        model_sets(models)


def test_database_of_the_release_before_finds_its_space_in_the_compatible_set(
    models_dir: Path,
) -> None:
    """Its model was called default, and its space is that of the packaged weights."""
    space = "inception-resnet-v1/casia-webface/2272f5b12c98"
    found = model_set_of_space(models_dir, space, "default")
    assert (found.name, found.folder, found.output) == ("compatible", models_dir, "compatible")
    assert found.space == space


def test_space_that_is_not_there_is_named_with_the_remedy(models: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        model_set_of_space(models, "third/1", "c")
    assert "searched by the model c (third/1)" in caught.value.message
    assert (
        "(available: default (first/1), compatible (compatible/1), a (second/1), b (second/1))"
        in caught.value.message
    )
    assert "facette reembed --model NAME" in caught.value.message
