"""Which weights a later export keeps to, also when another release wrote the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export import recipe
from service.runtime.manifest import MANIFEST_NAME


def write(folder: Path, content: object) -> Path:
    (folder / MANIFEST_NAME).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("schema_version", [1, 2, 3])
@pytest.mark.parametrize(
    ("weights", "download", "kind"),
    [("vggface2", True, "vggface2"), ("sface", False, "sface"), ("/mine.pt", False, "file")],
)
def test_recorded_weights_are_kept_whatever_the_schema_of_the_manifest(
    tmp_path: Path, schema_version: int, weights: str, download: bool, kind: str
) -> None:
    manifest = {"schema_version": schema_version, "weights": weights, "download": download}
    found = recipe.recorded_weights(write(tmp_path, manifest))
    assert (found.name, found.kind, found.download) == (weights, kind, download)


@pytest.mark.parametrize("content", [{}, [], 7, {"weights": 7, "download": False}])
def test_a_manifest_that_records_no_weights_gives_the_packaged_ones(
    tmp_path: Path, content: object
) -> None:
    assert recipe.recorded_weights(write(tmp_path, content)).kind == "casia-webface"


def test_no_manifest_gives_the_packaged_weights(tmp_path: Path) -> None:
    assert recipe.recorded_weights(tmp_path).kind == "casia-webface"
