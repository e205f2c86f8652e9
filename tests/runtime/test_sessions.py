"""Sessions on this machine: what is chosen, what falls back, and what the CUDA path returns."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import pytest

from service.analysis.detector import (
    CPU_CALLS,
    CUDA_CALLS,
    CallSizes,
    CascadeDetector,
)
from service.analysis.embedder import FaceEmbedder
from service.analysis.screens import Screens
from service.analysis.stages import StageFactory
from service.batching import WorkerPool, free_ticket
from service.domain.errors import ModelError
from service.runtime import sessions
from service.runtime import sessions as engine
from service.runtime.choice import PrecisionSetting
from service.runtime.manifest import Manifest, ModelName, load_manifest
from service.runtime.providers import Placement, Provider
from service.runtime.sessions import (
    ModelSession,
    SessionSettings,
    open_graph,
    open_sessions,
    pad_to_bucket,
    sample,
)
from service.runtime.trial import time_calls
from service.vision.cascade import CascadeSettings
from service.vision.resample import summed_area_table
from service.vision.views import View
from tests.support.folders import ROOT
from tests.support.processor import INT8, needs_exact_int8

CPU_ONLY = ["CPUExecutionProvider"]


@pytest.fixture(scope="module")
def manifest(models_dir: Path) -> Manifest:
    return load_manifest(models_dir)


def only(manifest: Manifest, *names: ModelName) -> Manifest:
    return manifest.model_copy(update={"models": {name: manifest.models[name] for name in names}})


class OpenAs(Protocol):
    def __call__(self, name: ModelName, provider: Provider = "cpu") -> ModelSession:
        """A real session on the CPU that is treated as one on another provider."""
        ...


@pytest.fixture(scope="module")
def open_as(models_dir: Path, manifest: Manifest) -> OpenAs:
    """Opens sessions over graphs that are each opened once."""

    @cache
    def graph(name: ModelName) -> onnxruntime.InferenceSession:
        spec = manifest.models[name]
        return open_graph(models_dir / spec.file, spec, "cpu", workers=1, intra_op_threads=1)

    def opened(name: ModelName, provider: Provider = "cpu") -> ModelSession:
        return ModelSession(graph(name), manifest.models[name], Placement(provider, "fp32"))

    return opened


def fields(caplog: pytest.LogCaptureFixture, message: str) -> dict[str, Any]:
    (record,) = [each for each in caplog.records if message in each.getMessage()]
    found: dict[str, Any] = record.fields  # type: ignore[attr-defined]
    return found


@needs_exact_int8
def test_this_machine_runs_8_bits_and_the_log_tells_why(
    models_dir: Path, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    opened = open_sessions(models_dir, manifest, SessionSettings(provider="cpu", workers=2))
    assert str(opened["embedder"].placement) == "cpu/int8"
    told = fields(caplog, "models loaded")
    assert {name: told[name] for name in ("pnet", "rnet", "onet", "embedder")} == {
        "pnet": "cpu/fp32",
        "rnet": "cpu/fp32",
        "onet": "cpu/fp32",
        "embedder": "cpu/int8",
    }
    assert told["reasons"]["embedder"] == "the fastest of 2"
    assert set(told["measured_ms"]) == {"embedder cpu/fp32", "embedder cpu/int8"}
    assert all(figure > 0 for figure in told["measured_ms"].values())
    assert "slower than fp32" in told["excluded"]["embedder cpu/fp16"]


@needs_exact_int8
def test_the_fastest_measured_placement_is_opened(
    models_dir: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine whose fp32 is the fastest, which is made up."""
    seen: list[set[str]] = []

    def times(calls: dict[Placement, Callable[[], object]], workers: int) -> dict[Placement, float]:
        seen.append({str(placement) for placement in calls})
        return {placement: len(placement.precision) / workers for placement in calls} | {
            Placement("cpu", "fp32"): 0.1
        }

    monkeypatch.setattr(sessions, "cpu_flags", lambda: {"avx_vnni"})
    monkeypatch.setattr(sessions, "time_calls", times)
    embedder = only(manifest, "embedder")
    opened = open_sessions(models_dir, embedder, SessionSettings(provider="cpu"))
    assert seen == [{"cpu/fp32", "cpu/int8"}]
    assert str(opened["embedder"].placement) == "cpu/fp32"


def test_a_precision_in_the_settings_is_taken_unmeasured(
    models_dir: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "time_calls", None)
    settings = SessionSettings(provider="cpu", precision="fp32")
    opened = open_sessions(models_dir, only(manifest, "embedder"), settings)
    assert str(opened["embedder"].placement) == "cpu/fp32"


@needs_exact_int8
def test_8_bits_on_a_cpu_that_saturates_are_run_with_a_warning(
    models_dir: Path,
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sessions, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    settings = SessionSettings(provider="cpu", precision="int8")
    opened = open_sessions(models_dir, only(manifest, "embedder"), settings)
    assert str(opened["embedder"].placement) == "cpu/int8"
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "embedder runs as cpu/int8" in warning.getMessage()
    assert "saturate" in warning.getMessage()


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here"
)
def test_cuda_asked_for_without_cuda_stops_the_start(models_dir: Path, manifest: Manifest) -> None:
    with pytest.raises(ModelError, match=r"inference\.provider is 'cuda'.*facette\[gpu\]"):
        open_sessions(models_dir, manifest, SessionSettings(provider="cuda"))


@pytest.fixture
def broken_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """ONNX Runtime as it behaves with a broken driver: offers CUDA, and quietly runs on the CPU."""
    asked: list[str] = []
    real = onnxruntime.InferenceSession

    def quietly_on_cpu(path: Path, options: object, providers: list[Any]) -> object:
        asked.append(f"{providers[0][0]} {path.name}")
        return real(path, options, providers=CPU_ONLY)

    offers = ["CUDAExecutionProvider", *CPU_ONLY]
    monkeypatch.setattr(sessions, "available_providers", lambda: offers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", quietly_on_cpu)
    return asked


def test_a_fallback_from_cuda_is_a_warning_with_what_to_check(
    models_dir: Path,
    manifest: Manifest,
    broken_cuda: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = SessionSettings(precision="fp32")
    opened = open_sessions(models_dir, only(manifest, "onet", "embedder"), settings)
    assert {str(session.placement) for session in opened.values()} == {"cpu/fp32"}
    told = fields(caplog, "cuda is offered but does not work")
    assert told["why"] == "onet.onnx started on CPUExecutionProvider instead"
    assert "nvidia-smi" in told["check"]
    assert (told["onet"], told["embedder"]) == ("cpu/fp32", "cpu/fp32")
    assert caplog.records[-1].levelno == logging.WARNING
    # Once is enough: the other models do not wait for a driver that is broken.
    assert [call for call in broken_cuda if call.startswith("CUDA")] == [
        "CUDAExecutionProvider onet.onnx"
    ]


@pytest.mark.usefixtures("broken_cuda")
def test_a_fallback_from_cuda_asked_for_by_name_stops_the_start(
    models_dir: Path, manifest: Manifest
) -> None:
    with pytest.raises(ModelError, match=r"is 'cuda', but pnet\.onnx started on CPU.*nvidia-smi"):
        open_sessions(models_dir, manifest, SessionSettings(provider="cuda"))


def test_a_provider_that_fails_in_its_first_call_is_left(
    models_dir: Path,
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As with a missing cuDNN: the session opens, and its first call raises."""
    real = onnxruntime.InferenceSession

    class Lame(real):  # type: ignore[misc, valid-type]
        def __init__(self, path: Path, options: object, providers: list[Any]) -> None:
            super().__init__(path, options, providers=CPU_ONLY)
            self._claims = providers[0][0]

        def get_providers(self) -> list[str]:
            return [self._claims]

        def run(self, *arguments: Any) -> Any:
            if self._claims == "CUDAExecutionProvider":
                raise RuntimeError("CUDNN_STATUS_NOT_INITIALIZED")
            return super().run(*arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Lame)
    monkeypatch.setattr(
        sessions, "available_providers", lambda: ["CUDAExecutionProvider", *CPU_ONLY]
    )
    opened = open_sessions(models_dir, only(manifest, "onet"), SessionSettings())
    assert str(opened["onet"].placement) == "cpu/fp32"
    assert "CUDNN_STATUS_NOT_INITIALIZED" in fields(caplog, "cuda is offered")["why"]


@pytest.mark.parametrize(
    ("rows", "bucket"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (33, 64)]
)
def test_batches_are_padded_to_powers_of_two(rows: int, bucket: int) -> None:
    batch = np.full((rows, 3, 2), 7, np.uint8)
    padded = pad_to_bucket(batch)
    assert (padded.shape, padded.dtype) == ((bucket, 3, 2), np.uint8)
    assert (padded[:rows] == 7).all()
    assert not padded[rows:].any()


@pytest.mark.parametrize("name", ["rnet", "onet", "embedder"])
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_padded_batch_gives_exactly_its_own_rows(
    open_as: OpenAs, manifest: Manifest, name: ModelName, rows: int
) -> None:
    """The code path of CUDA, run on the CPU: against one call without padding rows.

    In the same bucket, since the CPU's own sums depend on the size of a batch in the last bit.
    """
    plain, padding = (open_as(name, kind) for kind in ("cpu", "cuda"))
    images = sample(manifest.models[name], rows)
    expected = [output[:rows] for output in plain.run(pad_to_bucket(images))]
    found = padding.run(images)
    assert [output.shape for output in found] == [output.shape for output in plain.run(images)]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(plain.run(images), found, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("precision", ["fp32", INT8])
def test_the_latency_session_uses_the_threads_of_all_workers_and_gives_the_same_vectors(
    models_dir: Path,
    manifest: Manifest,
    precision: PrecisionSetting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []

    def noted(*args: Any, intra_op_threads: int, **kwargs: Any) -> Any:
        threads.append(intra_op_threads)
        return open_graph(*args, intra_op_threads=intra_op_threads, **kwargs)

    monkeypatch.setattr(sessions, "open_graph", noted)
    session = open_sessions(
        models_dir,
        only(manifest, "embedder"),
        SessionSettings(provider="cpu", precision=precision, workers=2),
    )["embedder"]
    assert threads == [1, 2]
    face = sample(session.spec, 1)
    usual, latency = session.run(face), session.run_for_latency(face)
    assert len(usual) == len(latency) == len(session.spec.outputs)
    for one, other in zip(usual, latency, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_outputs_come_by_name_in_the_order_asked_for(open_as: OpenAs, provider: Provider) -> None:
    session = open_as("embedder", provider)
    names = [output.name for output in session.spec.outputs]
    assert len(names) == 2
    faces = sample(session.spec, 2)
    every = dict(zip(names, session.run(faces), strict=True))
    for run in (session.run, session.run_for_latency):
        for wanted in ([names[1]], names[::-1]):
            found = run(faces, wanted)
            assert len(found) == len(wanted)
            for name, values in zip(wanted, found, strict=True):
                np.testing.assert_allclose(values, every[name], atol=2e-6)


def test_no_rows_give_no_rows_of_the_right_width(open_as: OpenAs) -> None:
    session = open_as("onet", "cuda")
    found = session.run(np.empty((0, 3, 48, 48), np.float32))
    assert [output.shape for output in found] == [(0, 4), (0, 10), (0,)]


def test_a_tile_is_not_padded(open_as: OpenAs, manifest: Manifest) -> None:
    plain, bound = (open_as("pnet", kind) for kind in ("cpu", "cuda"))
    tile = sample(manifest.models["pnet"], 1)[:, :, :97, :131]
    for one, other in zip(plain.run(tile), bound.run(tile), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_workers_call_at_once_while_times_are_taken() -> None:
    meeting = threading.Barrier(3, timeout=10)
    found = time_calls({"slow": meeting.wait, "fast": meeting.wait}, workers=3, budget_s=0)
    assert set(found) == {"slow", "fast"}


def test_a_call_that_takes_longer_is_found_to_take_longer() -> None:
    waiting = threading.Event()
    calls = {"long": lambda: waiting.wait(0.05), "short": lambda: waiting.wait(0.001)}
    found = time_calls(calls, workers=1, budget_s=0)
    assert found["long"] > found["short"]


class Recorder:
    """A session that notes the shapes it is called with; it claims to run on any provider."""

    def __init__(self, session: ModelSession, provider: Provider) -> None:
        self.spec = session.spec
        self.placement = Placement(provider, "fp32")
        self.shapes: list[tuple[int, ...]] = []
        self._session = session

    def run(
        self, image: np.ndarray[Any, Any], outputs: Sequence[str] | None = None
    ) -> list[np.ndarray[Any, Any]]:
        self.shapes.append(image.shape)
        return self._session.run(image, outputs)  # type: ignore[return-value]

    run_for_latency = run


@pytest.mark.parametrize(("provider", "faces"), [("cpu", 8), ("openvino", 8), ("cuda", 64)])
async def test_a_face_batch_suits_its_provider(
    open_as: OpenAs, provider: Provider, faces: int
) -> None:
    session = Recorder(open_as("embedder"), provider)
    session._session.run = lambda batch, _: [np.zeros((len(batch), 512), np.float32)]  # type: ignore[method-assign, assignment]
    pool = WorkerPool(1)
    embedder = FaceEmbedder(
        session,  # type: ignore[arg-type]
        StageFactory(pool),
    )
    await embedder.embed([np.zeros((160, 160, 3), np.uint8)] * 100, free_ticket())
    await pool.aclose()
    assert max(shape[0] for shape in session.shapes) == faces


async def test_an_embedder_gives_the_vectors_of_the_space_it_was_asked_for(open_as: OpenAs) -> None:
    session = open_as("embedder")
    default, compatible = session.spec.embeddings
    face = sample(session.spec, 1)
    pool = WorkerPool(1)
    for space, facts in ((None, default), (default.space, default), (compatible.space, compatible)):
        embedder = FaceEmbedder(session, StageFactory(pool), space)
        embedder.warm_up()
        assert embedder.facts == facts
        (found,) = await embedder.embed([face[0]], free_ticket())
        np.testing.assert_allclose(found, session.run(face, [facts.output])[0][0], atol=2e-6)
    await pool.aclose()


async def test_an_embedder_of_a_space_that_the_model_does_not_give_is_refused(
    open_as: OpenAs,
) -> None:
    session = open_as("embedder")
    pool = WorkerPool(1)
    with pytest.raises(ModelError, match="does not declare the embedding another/1"):
        FaceEmbedder(session, StageFactory(pool), "another/1")
    await pool.aclose()


@pytest.mark.parametrize(
    ("provider", "calls"), [("cpu", CPU_CALLS), ("openvino", CPU_CALLS), ("cuda", CUDA_CALLS)]
)
async def test_tiles_are_as_large_as_suits_the_provider(
    open_as: OpenAs, provider: Provider, calls: CallSizes
) -> None:
    pnet, rnet, onet = (Recorder(open_as(name), provider) for name in ("pnet", "rnet", "onet"))
    pool = WorkerPool(1)
    detector = CascadeDetector(
        pnet,  # type: ignore[arg-type]
        rnet,  # type: ignore[arg-type]
        onet,  # type: ignore[arg-type]
        CascadeSettings(),
        stages=StageFactory(pool),
        screens=Screens(),
    )
    grey = np.full((600, 600, 3), 128, np.uint8)
    await detector.detect(View.of(summed_area_table(grey)), free_ticket())
    await detector.drain()
    await pool.aclose()
    largest = max(max(shape[2:]) for shape in pnet.shapes)
    assert (largest > 300) == (calls.tile_side > 300)


def test_graphs_are_sampled_in_their_own_layout(manifest: Manifest) -> None:
    assert sample(manifest.models["embedder"], 3).shape == (3, 160, 160, 3)
    assert sample(manifest.models["pnet"], 1).shape == (1, 3, 160, 160)
    assert sample(manifest.models["onet"], 2).dtype == np.float32
    assert CPU_CALLS.tile_side == engine._FREE_SIDE


def test_onnx_runtime_reports_nothing_to_its_maker(tmp_path: Path, models_dir: Path) -> None:
    """It would keep an identifier of the device, and a database of events to send, in the home."""
    code = (
        "from pathlib import Path\n"
        "from service.runtime.manifest import load_manifest\n"
        "from service.runtime.sessions import open_graph\n"
        f"models = Path({str(models_dir)!r})\n"
        "spec = load_manifest(models).models['onet']\n"
        "open_graph(models / spec.file, spec, 'cpu', workers=1, intra_op_threads=1)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
    assert [path.name for path in tmp_path.rglob("*") if "onnxruntime" in path.name] == []
