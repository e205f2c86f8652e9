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
    FaceCrop,
    Manifest,
    ModelSpec,
    check_file,
    embedding_of,
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
    assert sorted(manifest.models) == ["embedder", "onet", "pnet", "rnet"]
    for spec in manifest.models.values():
        assert check_file(models_dir, spec) == models_dir / spec.file


def test_a_missing_manifest_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.json is missing: run `facette export` first"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"schema_version": 2}', "\0"])
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


@pytest.mark.parametrize("version", [1, 3, "2"])
def test_a_manifest_of_another_schema_is_refused(
    tmp_path: Path, values: dict[str, Any], version: object
) -> None:
    values["schema_version"] = version
    with pytest.raises(ModelError, match="schema_version"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_fact_that_the_service_does_not_know_is_refused(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    values["models"]["pnet"]["input"]["mean"] = 127.5
    with pytest.raises(ModelError, match="mean"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_missing_fact_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    del values["models"]["embedder"]["sha256"]
    with pytest.raises(ModelError, match="sha256"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_manifest_that_lacks_a_model_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    del values["models"]["rnet"]
    with pytest.raises(ModelError, match="there is no rnet"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_model_without_an_embedding_has_no_default_one(models_dir: Path) -> None:
    manifest = load_manifest(models_dir)
    assert manifest.models["pnet"].embedding is None
    embedder = manifest.models["embedder"]
    assert embedder.embedding == embedder.embeddings[0]


def test_the_default_embedding_is_centred_and_the_other_one_compatible(models_dir: Path) -> None:
    default, compatible = load_manifest(models_dir).models["embedder"].embeddings
    assert (default.output, compatible.output) == ("embedding", "compatible")
    assert default.crop == FaceCrop(kind="box", size=160, margin=1.2, fill="black")
    assert compatible.crop == FaceCrop(kind="box", size=160, margin=1.0, fill="clip")


def test_an_embedding_is_found_by_its_space_and_the_default_one_without(models_dir: Path) -> None:
    spec = load_manifest(models_dir).models["embedder"]
    default, compatible = spec.embeddings
    assert embedding_of(spec, None) == embedding_of(spec, default.space) == default
    assert embedding_of(spec, compatible.space) == compatible


@pytest.mark.parametrize("space", [None, "another/1"])
def test_an_embedding_that_a_model_does_not_give_is_an_error(
    models_dir: Path, space: str | None
) -> None:
    manifest = load_manifest(models_dir)
    with pytest.raises(ModelError, match=r"pnet\.onnx does not declare the embedding"):
        embedding_of(manifest.models["pnet"], space)
    if space is not None:
        with pytest.raises(ModelError, match=space):
            embedding_of(manifest.models["embedder"], space)


FIVE_POINTS = [[38.0, 52.0], [74.0, 52.0], [56.0, 72.0], [42.0, 92.0], [71.0, 92.0]]


@pytest.mark.parametrize(
    ("crop", "reason"),
    [
        ({"kind": "landmarks", "size": 112}, "a crop by landmarks has 5 points"),
        (
            {"kind": "landmarks", "size": 112, "template": FIVE_POINTS[:4]},
            "a crop by landmarks has 5 points",
        ),
        ({"kind": "box", "size": 160, "template": FIVE_POINTS}, "a crop by box has 0 points"),
        ({"kind": "hull", "size": 160}, "'box' or 'landmarks'"),
        ({"kind": "box", "size": 160, "fill": "white"}, "'clip' or 'black'"),
        ({"kind": "box", "size": 160, "angle": 90}, "angle"),
    ],
)
def test_a_crop_that_cannot_be_made_is_refused(
    tmp_path: Path, values: dict[str, Any], crop: dict[str, Any], reason: str
) -> None:
    values["models"]["embedder"]["embeddings"][0]["crop"] = crop
    with pytest.raises(ModelError, match=reason):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_crop_by_landmarks_with_five_points_is_accepted(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    crop = {"kind": "landmarks", "size": 112, "template": FIVE_POINTS}
    values["models"]["embedder"]["embeddings"][0]["crop"] = crop
    found = load_manifest(write(tmp_path, json.dumps(values))).models["embedder"].embedding
    assert found is not None
    assert [list(point) for point in found.crop.template] == FIVE_POINTS


@pytest.mark.parametrize("distances", [[0.4, 0.3], [0.4, 0.4]])
def test_a_curve_whose_distances_do_not_ascend_is_refused(
    tmp_path: Path, values: dict[str, Any], distances: list[float]
) -> None:
    points = values["models"]["embedder"]["embeddings"][0]["curve"]["points"]
    points[:] = [{**points[0], "distance": distance} for distance in distances]
    with pytest.raises(ModelError, match="ascending distances"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_two_embeddings_of_one_space_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    first, second = values["models"]["embedder"]["embeddings"]
    second["space"] = first["space"]
    with pytest.raises(ModelError, match="two embeddings have one space"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_a_third_embedding_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    embeddings = values["models"]["embedder"]["embeddings"]
    embeddings.append({**embeddings[0], "space": "third/1"})
    with pytest.raises(ModelError, match="no more"):
        load_manifest(write(tmp_path, json.dumps(values)))


def test_an_embedding_of_an_output_that_is_not_there_is_refused(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    values["models"]["embedder"]["embeddings"][1]["output"] = "logits"
    with pytest.raises(ModelError, match="there is no output logits"):
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
