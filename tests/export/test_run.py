"""The program as a whole: what it publishes, what it refuses, and what it leaves behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from export import pipeline, publish, recipe
from export.__main__ import _print_table, main
from export.embedders import centre, curves
from export.graphs import fold_mtcnn, networks
from export.verification import verify
from service.runtime.manifest import MANIFEST_NAME, Manifest, check_file, load_manifest
from tests.support.processor import OFFERED

# PyTorch prepares its exporter once in a process, which takes longer than a test.
pytestmark = pytest.mark.xdist_group("export to ONNX")


@pytest.fixture(scope="session")
def models_dir(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this recipe makes of the packaged weights.

    That is what `make test` sees to; where somebody uses other weights, it is made here.
    """
    if recipe.is_fresh(models_dir, recipe.parse_weights("casia-webface", download=False)):
        return models_dir
    folder = tmp_path_factory.mktemp("models")
    assert main(["--models-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def manifest(models_dir: Path) -> Manifest:
    return load_manifest(models_dir)


@pytest.fixture
def without_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the packaged portraits are at hand."""
    monkeypatch.setenv("FACES_DIR", "/nowhere")


def link_models(models_dir: Path, folder: Path) -> None:
    (folder / MANIFEST_NAME).symlink_to(models_dir / MANIFEST_NAME)
    for file in load_manifest(models_dir).files:
        (folder / file.file).symlink_to(models_dir / file.file)


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    return error


def test_a_run_publishes_four_models_that_match_their_manifest(
    models_dir: Path, manifest: Manifest
) -> None:
    assert sorted(manifest.models) == ["embedder", "onet", "pnet", "rnet"]
    for file in manifest.files:
        check_file(models_dir, file)
    for spec in manifest.models.values():
        figures = spec.verification
        assert set(figures.max_abs_difference) == {output.name for output in spec.outputs}
        assert max(figures.max_abs_difference.values()) <= figures.tolerance
    offered = sorted(f"facenet-{precision}.onnx" for precision in OFFERED)
    files = [path.name for path in models_dir.iterdir() if path.suffix in (".onnx", ".npz")]
    assert sorted(files) == [
        *offered, "facenet.onnx", "onet.onnx", "pnet-screen.npz", "pnet.onnx",
        "rnet-screen.npz", "rnet.onnx",
    ]  # fmt: skip


def test_both_embedding_spaces_name_network_weights_and_digest(manifest: Manifest) -> None:
    default, compatible = manifest.models["embedder"].embeddings
    network, name, digest = compatible.space.split("/")
    assert (network, name, len(digest)) == ("inception-resnet-v1", "casia-webface", 12)
    recorded = centre.tracked(compatible.space)
    assert recorded is not None
    assert default.space == f"{compatible.space}/box1.2-centred-{recorded.digest}"


def test_both_embedding_spaces_have_what_is_recorded_of_them(manifest: Manifest) -> None:
    for facts in manifest.models["embedder"].embeddings:
        recorded = curves.tracked(facts.space)
        assert recorded is not None
        assert (facts.curve, facts.cohort) == (recorded.curve, recorded.cohort)
        assert facts.recommended_max_distance == recorded.recommended_max_distance
        assert facts.recommended_max_fmr == recorded.recommended_max_fmr
        assert facts.recommended_max_wrong_joins == recorded.recommended_max_wrong_joins


def test_the_manifest_holds_no_local_path(models_dir: Path) -> None:
    text = (models_dir / "manifest.json").read_text()
    assert str(models_dir) not in text
    assert str(Path(recipe.__file__).parents[1]) not in text
    assert sys.prefix not in text


def test_if_stale_is_quick_and_imports_no_torch_when_models_are_fresh(models_dir: Path) -> None:
    program = (
        "import sys; from export.__main__ import main; "
        "status = main(sys.argv[1:]); sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--if-stale", "--models-dir", str(models_dir)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "models are up to date\n"), done.stderr


def test_other_weights_make_the_models_stale(models_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "mine.pt"
    other.write_bytes(b"weights")
    assert recipe.is_fresh(models_dir, recipe.parse_weights("casia-webface", download=False))
    assert not recipe.is_fresh(models_dir, recipe.parse_weights("casia-webface", download=True))
    assert not recipe.is_fresh(models_dir, recipe.parse_weights("vggface2", download=False))
    assert not recipe.is_fresh(models_dir, recipe.parse_weights(str(other), download=False))


def test_another_version_of_a_package_makes_the_models_stale(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = recipe.parse_weights("casia-webface", download=False)
    newer = {**recipe.versions(), "onnx": "99"}
    monkeypatch.setattr(recipe, "versions", lambda: newer)
    assert not recipe.is_fresh(models_dir, choice)


@pytest.mark.parametrize("file", ["rnet.onnx", "facenet-fp16.onnx"])
def test_a_damaged_or_missing_model_file_makes_the_models_stale(
    models_dir: Path, tmp_path: Path, file: str
) -> None:
    choice = recipe.parse_weights("casia-webface", download=False)
    link_models(models_dir, tmp_path)
    assert recipe.is_fresh(tmp_path, choice)
    (tmp_path / file).unlink()
    assert not recipe.is_fresh(tmp_path, choice)
    (tmp_path / file).write_bytes(b"")
    assert not recipe.is_fresh(tmp_path, choice)
    assert not recipe.is_fresh(tmp_path / "empty", choice)


@pytest.mark.parametrize("folder", ["calibration", "centres", "curves"])
def test_another_record_of_the_weights_makes_the_models_stale(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    choice = recipe.parse_weights("casia-webface", download=False)
    sources = shutil.copytree(Path(recipe.__file__).parent, tmp_path / "export")
    monkeypatch.setattr(recipe, "__file__", str(sources / "recipe.py"))
    assert recipe.is_fresh(models_dir, choice)
    path = min((sources / folder).glob("*.json"))
    path.write_text(path.read_text() + "\n")
    assert not recipe.is_fresh(models_dir, choice)


def test_a_variant_that_is_no_longer_offered_is_removed(
    models_dir: Path, tmp_path: Path, manifest: Manifest
) -> None:
    link_models(models_dir, tmp_path)
    (tmp_path / "notes.txt").touch()
    embedder = manifest.models["embedder"].model_copy(update={"variants": ()})
    without = manifest.model_copy(update={"models": {**manifest.models, "embedder": embedder}})
    files = {spec.file: (tmp_path / spec.file).read_bytes() for spec in without.models.values()}
    with publish.staging(tmp_path) as stage:
        publish.publish(stage, tmp_path, files, without)
    assert {path.name for path in tmp_path.iterdir()} == {*files, "manifest.json", "notes.txt"}


def test_the_table_shows_every_variant_with_its_figures(
    models_dir: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    _print_table(models_dir, manifest)
    lines = capsys.readouterr().out.splitlines()
    variants = manifest.models["embedder"].variants
    assert [variant.precision for variant in variants] == OFFERED
    for variant in variants:
        rows = [place for place, line in enumerate(lines) if line.startswith(variant.file)]
        assert len(rows) == len(variant.fidelity) == 2
        for place, fidelity in zip(rows, variant.fidelity, strict=True):
            assert f"{fidelity.min_cosine:.4f}" in lines[place]
            assert f"{(models_dir / variant.file).stat().st_size:,}" in lines[place]
            assert lines[place + 1].strip() == f"in {fidelity.space}"


def test_stale_models_without_the_export_extra_give_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "missing_packages", lambda: ["torch", "onnx"])
    assert main(["--if-stale", "--models-dir", str(tmp_path)]) == 2
    assert f"{sys.executable} -m pip install 'facette[cpu,export]'" in one_error_line(capsys)


@pytest.mark.usefixtures("without_photos")
def test_nothing_is_published_when_verification_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pnet.onnx").write_bytes(b"the one from before")
    monkeypatch.setattr(verify, "TOLERANCE", 0.0)
    assert main(["--models-dir", str(tmp_path)]) == 1
    assert "pnet" in one_error_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["pnet.onnx"]
    assert (tmp_path / "pnet.onnx").read_bytes() == b"the one from before"


@pytest.mark.usefixtures("without_photos")
def test_a_crash_leaves_no_staging_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged: list[str] = []

    def crash(_: object) -> None:
        staged.extend(path.name for path in tmp_path.iterdir())
        raise ZeroDivisionError

    monkeypatch.setattr(fold_mtcnn, "fold_mtcnn_stage", crash)
    with pytest.raises(ZeroDivisionError):
        main(["--models-dir", str(tmp_path)])
    assert [name[:8] for name in staged] == [".export-"]
    assert list(tmp_path.iterdir()) == []


def test_a_models_directory_that_cannot_be_made_gives_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["--models-dir", str(tmp_path / "file" / "models")]) == 1
    assert "cannot be written" in one_error_line(capsys)


def test_missing_weights_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "no.pt")
    assert main(["--models-dir", str(tmp_path), "--weights", missing]) == 2
    assert missing in one_error_line(capsys)


@pytest.fixture
def only_the_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_STAGES", ())


@pytest.mark.usefixtures("only_the_embedder")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a checkpoint", "torch can read"),
        (b"", "torch can read"),
        ([1, 2, 3], "holds no state dict"),
        ({"logits.weight": torch.zeros(3)}, "tensors are missing"),
    ],
)
def test_a_file_that_is_no_state_dict_gives_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, reason: str
) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert main(["--models-dir", str(tmp_path / "models"), "--weights", str(path)]) == 2
    assert reason in one_error_line(capsys)


@pytest.mark.usefixtures("only_the_embedder")
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"last_linear.weight": torch.zeros(8, 1792)}, "has shape"),
        ({"last_bn.bias": torch.full((512,), float("nan"))}, "finite"),
        ({"head.weight": torch.zeros(2)}, "unknown tensors"),
    ],
)
def test_a_state_dict_of_another_network_gives_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    facenet: nn.Module,
    edit: dict[str, torch.Tensor],
    reason: str,
) -> None:
    path = tmp_path / "weights.pt"
    torch.save({**facenet.state_dict(), **edit}, path)
    assert main(["--models-dir", str(tmp_path / "models"), "--weights", str(path)]) == 2
    assert reason in one_error_line(capsys)


@pytest.mark.long
@pytest.mark.slow
def test_a_state_dict_with_a_classifier_is_accepted_and_named_after_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "office-2026.pt"
    state = networks.inception_resnet_v1().state_dict()
    torch.save({**state, "logits.weight": torch.zeros(10, 512)}, path)
    assert main(["--models-dir", str(tmp_path / "models"), "--weights", str(path)]) == 0
    manifest = load_manifest(tmp_path / "models")
    published = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert published == sorted([MANIFEST_NAME, *(file.file for file in manifest.files)])
    spec = manifest.models["embedder"]
    default, compatible = spec.embeddings
    assert compatible.space.startswith("inception-resnet-v1/office-2026/")
    # Nothing is recorded of these weights: one output serves both ways to cut a face.
    assert default.space == f"{compatible.space}/box1.2"
    assert [output.name for output in spec.outputs] == ["embedding"]
    for facts in (default, compatible):
        assert (facts.output, facts.curve, facts.cohort) == ("embedding", None, None)
        assert facts.recommended_max_distance == curves.DEFAULT_MAX_DISTANCE
    # A later run that names no weights keeps to these.
    assert manifest.weights == str(path)
    capsys.readouterr()
    assert main(["--models-dir", str(tmp_path / "models"), "--if-stale"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.usefixtures("only_the_embedder")
@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["--weights", "vggface2"], "20180402-114759-vggface2.pt"),
        (["--download"], "20180408-102900-casia-webface.pt"),
    ],
)
def test_a_download_without_network_says_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    file: str,
) -> None:
    def offline(url: str, *_: object, **__: object) -> None:
        assert url.endswith(file)
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(networks.facenet_module(), "download_url_to_file", offline)
    assert main(["--models-dir", str(tmp_path / "models"), *arguments]) == 2
    line = one_error_line(capsys)
    assert file in line
    assert "--weights" in line
