"""What is recorded beside the code: read whole or refused, and a part of the exported models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from export.embedders import centre, curves, records
from export.embedders.centre import Centre
from export.embedders.curves import Curve
from export.errors import RecordError
from service.runtime.manifest import FaceCrop, load_manifest

CURVES = curves.FOLDER
BOX = FaceCrop(kind="box", size=160, margin=1.0, fill="clip")


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the recorded curves; it is not there yet."""
    folder = tmp_path / "curves"
    monkeypatch.setattr(curves, "FOLDER", folder)
    return folder


@pytest.fixture
def curve() -> Curve:
    """The real one of the default space."""
    (found,) = (each for each in records.read_all(CURVES, Curve) if "-centred-" in each.space)
    assert found.cohort is not None
    return found


def test_exported_vector_is_the_compatible_one_less_the_recorded_centre(models_dir: Path) -> None:
    spec = load_manifest(models_dir).models["embedder"]
    default, compatible = spec.embeddings
    middle = centre.tracked(compatible.space)
    assert middle is not None
    assert default.space.endswith(f"-centred-{middle.digest}")
    assert default.crop.margin == middle.margin
    session = ort.InferenceSession(models_dir / spec.file, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(4).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    centred, plain = session.run([default.output, compatible.output], {"image": pixels})
    moved = plain.astype(np.float64) - middle.vector
    wanted = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(centred, wanted, rtol=0, atol=1e-5)


def test_every_recorded_file_is_a_record_and_has_a_key_of_its_own() -> None:
    centres = records.read_all(centre.FOLDER, Centre)
    assert centres
    assert len({each.weights for each in centres}) == len(centres)
    found = records.read_all(curves.FOLDER, Curve)
    assert len({each.space for each in found}) == len(found) >= 3
    for each in found:
        assert 0 < each.recommended_max_fmr < 1
        assert 0 < each.recommended_max_wrong_joins < 1
        rates = [point.fmr for point in each.curve.points]
        assert rates == sorted(rates)
        assert all(point.fmr_low <= point.fmr <= point.fmr_high for point in each.curve.points)


def test_a_recorded_curve_is_found_again_by_its_space(recording: Path, curve: Curve) -> None:
    assert curves.tracked(curve.space) is None
    path = curves.save(curve)
    assert path.parent == recording
    assert curves.tracked(curve.space) == curve
    assert curves.tracked("another/1") is None


def test_a_later_curve_takes_the_place_of_an_earlier_one(recording: Path, curve: Curve) -> None:
    curves.save(curve)
    later = curve.model_copy(update={"recommended_max_distance": 0.123})
    curves.save(later)
    assert curves.tracked(curve.space) == later
    assert len(list(recording.iterdir())) == 1


@pytest.mark.usefixtures("recording")
def test_the_facts_of_a_space_hold_what_is_recorded_of_it(curve: Curve) -> None:
    curves.save(curve)
    found = curves.facts(curve.space, BOX, "embedding", 512)
    assert (found.curve, found.cohort) == (curve.curve, curve.cohort)
    assert found.recommended_max_distance == curve.recommended_max_distance
    assert found.recommended_max_fmr == curve.recommended_max_fmr
    assert found.recommended_max_wrong_joins == curve.recommended_max_wrong_joins


@pytest.mark.usefixtures("recording")
def test_a_space_of_which_nothing_is_recorded_gets_a_fixed_distance() -> None:
    found = curves.facts("another/1", BOX, "embedding", 512)
    assert (found.curve, found.cohort) == (None, None)
    assert found.recommended_max_distance == curves.DEFAULT_MAX_DISTANCE
    assert found.recommended_max_fmr == curves.DEFAULT_MAX_FMR
    assert found.recommended_max_wrong_joins == 1.0


@pytest.mark.parametrize("damage", ["half", "other", "unknown", "unordered", "bytes"])
def test_a_broken_curve_is_an_error_of_one_line_and_not_ignored(
    recording: Path, curve: Curve, damage: str
) -> None:
    path = curves.save(curve)
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    if damage == "half":
        path.write_text(text[: len(text) // 2], encoding="utf-8")
    elif damage == "other":
        path.write_text("[]", encoding="utf-8")
    elif damage == "unknown":
        path.write_text(json.dumps({**content, "remark": "mine"}), encoding="utf-8")
    elif damage == "unordered":
        content["curve"]["points"].reverse()
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=rf"{path.name}' holds no curve") as caught:
        curves.tracked(curve.space)
    assert "\n" not in str(caught.value)
    # Whichever is looked for: the broken file may be the one.
    with pytest.raises(RecordError):
        curves.tracked("another/1")
    assert recording.is_dir()


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(
    recording: Path, curve: Curve
) -> None:
    recording.touch()
    with pytest.raises(RecordError, match="cannot be written") as caught:
        curves.save(curve)
    assert "\n" not in str(caught.value)


def test_no_folder_holds_no_records(tmp_path: Path) -> None:
    assert records.read_all(tmp_path / "gone", Centre) == []
