"""Activation ranges are measured on labelled faces only, recorded, and found again by weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.errors import CalibrationError
from export.precisions import calibration
from export.verification import faces, photos
from export.verification.faces import FaceSet
from service.runtime.manifest import FaceCrop, load_manifest

COMPATIBLE = FaceCrop(kind="box", size=160, margin=1.0, fill="clip")

_BOXES = {"astronaut.png": (178, 62, 274, 188), "grace_hopper.jpg": (170, 128, 366, 332)}


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the recorded calibrations."""
    folder = tmp_path / "calibration"
    monkeypatch.setattr(calibration, "FOLDER", folder)
    return folder


@pytest.fixture
def labelled(
    tmp_path: Path, portraits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """FACES_DIR with 32 boxes around the faces of two portraits; its reference, to be changed."""
    folder = tmp_path / "faces"
    folder.mkdir()
    images: dict[str, object] = {}
    for path in portraits:
        shutil.copy(path, folder)
        x1, y1, x2, y2 = _BOXES[path.name]
        images[path.name] = {
            "faces": [
                {"box": [x1 - step, y1 - step, x2 + step, y2 + step], "probability": 0.99}
                for step in range(16)
            ]
        }
    (folder / "reference.json").write_text(json.dumps({"images": images}))
    pairs = (
        "file_x,file_y,Decision\nastronaut.png,grace_hopper.jpg,No\nastronaut.png,gone.jpg,Yes\n"
    )
    (folder / "pairs.csv").write_text(pairs)
    monkeypatch.setenv("FACES_DIR", str(folder))
    return images


@pytest.mark.usefixtures("labelled")
def test_a_labelled_folder_gives_crops_and_the_pairs_whose_photos_are_there() -> None:
    found = faces.gather(photos.find(), COMPATIBLE)
    assert found.crops.shape == (32, 160, 160, 3)
    assert (found.faces, found.labelled_faces) == (32, 32)
    # The largest faces are the last of each photo's boxes.
    assert found.pairs == ((15, 31, False),)
    assert found.description == "32 real faces in 2 photographs"


def test_without_a_labelled_folder_the_portraits_are_faces_but_calibrate_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FACES_DIR", "/nowhere")
    found = faces.gather(photos.find(), COMPATIBLE)
    assert (found.faces, found.labelled_faces, found.pairs) == (2, 0, ())
    assert found.description.startswith("2 public-domain portraits (astronaut.png, ")


@pytest.mark.slow
@pytest.mark.usefixtures("labelled")
def test_calibrate_records_ranges_that_an_export_of_these_weights_finds(
    recording: Path, models_dir: Path
) -> None:
    assert main(["--calibrate", "--weights", "casia-webface"]) == 0
    assert [path.name for path in recording.iterdir()] == ["casia-webface.json"]
    spec = load_manifest(models_dir).models["embedder"]
    default, compatible = spec.embeddings
    assert calibration.tracked(default.space) is None
    found = calibration.tracked(compatible.space)
    assert found is not None
    assert (found.faces, found.inputs) == (32, "32 real faces in 2 photographs")
    # Measured on the file of this export, it is what the program measured on its own.
    model = (models_dir / spec.file).read_bytes()
    cuts = [faces.gather(photos.find(), facts.crop) for facts in (default, compatible)]
    again = calibration.measure(model, found.space, cuts)
    assert found.ranges.keys() == again.ranges.keys()
    for name, span in again.ranges.items():
        assert found.ranges[name] == pytest.approx(span, rel=1e-3, abs=1e-3), name
    # Both ways to cut a face are in it: neither alone gives all the ranges.
    for cut in cuts:
        alone = calibration.measure(model, found.space, [cut]).ranges
        for name, (low, high) in alone.items():
            assert found.ranges[name][0] <= low + 1e-3
            assert found.ranges[name][1] >= high - 1e-3
        assert any(
            high < found.ranges[name][1] - 1e-3 or low > found.ranges[name][0] + 1e-3
            for name, (low, high) in alone.items()
        )
    assert calibration.tracked("inception-resnet-v1/casia-webface/000000000000") is None


def test_calibrate_without_labelled_faces_gives_one_line_and_records_nothing(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACES_DIR", "/nowhere")
    assert main(["--calibrate"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "FACES_DIR" in error
    assert not recording.exists()


def test_one_face_too_few_is_refused() -> None:
    count = calibration.MIN_FACES - 1
    few = FaceSet(np.zeros((count, 160, 160, 3), np.uint8), count, count, (), "black squares")
    with pytest.raises(CalibrationError, match=f"there are {count}"):
        calibration.measure(b"", "a/b/c", [few])
    enough = FaceSet(np.zeros((32, 160, 160, 3), np.uint8), 32, 32, (), "black squares")
    with pytest.raises(CalibrationError, match=f"there are {count}"):
        calibration.measure(b"", "a/b/c", [enough, few])


def test_a_recorded_file_that_is_no_calibration_is_an_error_and_not_ignored(
    recording: Path,
) -> None:
    recording.mkdir()
    (recording / "mine.json").write_text("{}")
    with pytest.raises(CalibrationError, match=r"mine\.json"):
        calibration.tracked("inception-resnet-v1/mine/0123456789ab")
