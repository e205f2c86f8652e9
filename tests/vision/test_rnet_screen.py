"""R-Net's screen computes what it was exported to compute, and hides nothing from R-Net."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from export.graphs import networks
from export.precisions import eight_bits
from export.precisions import rnet_screen as exported
from export.verification import photos
from service.analysis.detector import CascadeDetector
from service.analysis.screens import SCREEN_FLAGS, Screens
from service.analysis.stages import StageFactory
from service.batching import WorkerPool, free_ticket
from service.machine.cpu import cpu_flags
from service.runtime.manifest import Manifest, ModelName, load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.vision.cascade import CascadeSettings, Detections
from service.vision.resample import summed_area_table
from service.vision.rnet_screen import RnetScreen, RnetScreenWeights
from service.vision.screening import Margin, read_weights
from service.vision.views import View

THRESHOLD = 0.7
Pixels = NDArray[np.uint8]
Sessions = dict[ModelName, ModelSession]
needs_vnni = pytest.mark.skipif(
    not cpu_flags() >= SCREEN_FLAGS, reason="the processor has no AVX512-VNNI: nothing is screened"
)


@pytest.fixture(scope="module")
def manifest(models_dir: Path) -> Manifest:
    return load_manifest(models_dir)


@pytest.fixture(scope="module")
def sessions(models_dir: Path, manifest: Manifest) -> Sessions:
    return open_sessions(models_dir, manifest, SessionSettings(provider="cpu", precision="fp32"))


@pytest.fixture(scope="module")
def weights(models_dir: Path, manifest: Manifest) -> RnetScreenWeights:
    assert manifest.rnet_screen is not None
    return read_weights(RnetScreenWeights, models_dir / manifest.rnet_screen.file)


@pytest.fixture(scope="module")
def screen(weights: RnetScreenWeights, manifest: Manifest) -> RnetScreen:
    assert manifest.rnet_screen is not None
    spec = manifest.rnet_screen
    return RnetScreen(weights, Margin(spec.margin, spec.threshold))


@pytest.fixture(scope="module")
def crops(portraits: list[Path]) -> Pixels:
    """Windows of two photos: uint8 [n, 24, 24, 3]."""
    found = []
    for path in portraits:
        picture = read(path)
        for side in (24, 60, 160):
            for top in range(0, picture.shape[0] - side, 90):
                for left in range(0, picture.shape[1] - side, 90):
                    window = picture[top : top + side, left : left + side]
                    found.append(cv2.resize(window, (24, 24), interpolation=cv2.INTER_AREA))
    return np.asarray(found, dtype=np.uint8)


def read(path: Path, long_side: int = 1000) -> Pixels:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    scale = min(1.0, long_side / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small, dtype=np.uint8)


def photos_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def side_by_side(crops: Pixels) -> tuple[View, NDArray[np.int32]]:
    """A picture of crops, one below the other, and the window of each."""
    view = View.of(summed_area_table(crops.reshape(-1, 24, 3)))
    tops = 24 * np.arange(len(crops))
    zeros = np.zeros_like(tops)
    return view, np.stack([tops, zeros, tops + 24, zeros + 24], axis=1).astype(np.int32)


def logits(screen: RnetScreen, crops: Pixels) -> NDArray[np.float32]:
    return screen.logits(*side_by_side(crops))


@needs_vnni
@pytest.mark.parametrize("number", [1, 7, 64])
def test_the_kernel_computes_what_the_export_measured(
    screen: RnetScreen, weights: RnetScreenWeights, crops: Pixels, number: int
) -> None:
    noise = np.random.default_rng(number).integers(0, 256, (number, 24, 24, 3), np.uint8)
    for shown in (noise, crops[:number], np.zeros_like(noise), np.full_like(noise, 255)):
        found, wanted = logits(screen, shown), exported.emulate(weights, shown)
        assert found.shape == (number,)
        # float32 against float64: now and then a value falls on the next byte.
        assert np.median(np.abs(found - wanted)) < 1e-3
        assert np.abs(found - wanted).max() < 0.2


@needs_vnni
def test_threads_do_not_disturb_each_other(screen: RnetScreen, crops: Pixels) -> None:
    parts = [crops[n : n + 1 + n % 9] for n in range(0, 100, 2)] * 3
    alone = [logits(screen, part) for part in parts]
    with ThreadPoolExecutor(4) as executor:
        together = list(executor.map(lambda part: logits(screen, part), parts))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_vnni
def test_a_crop_may_pass_within_the_margin_of_the_threshold(
    weights: RnetScreenWeights, crops: Pixels
) -> None:
    found = logits(RnetScreen(weights, Margin(0.0, THRESHOLD)), crops)
    for margin in (0.0, 3.0):
        may_pass = RnetScreen(weights, Margin(margin, THRESHOLD)).may_pass(*side_by_side(crops))
        least = np.float32(np.log(0.7 / 0.3) - margin)
        np.testing.assert_array_equal(may_pass, found >= least)
        assert 0 < (found >= least).sum() < len(crops)


class Counting:
    """A network, and how many images it was shown."""

    def __init__(self, session: ModelSession) -> None:
        self.spec, self.placement, self.images = session.spec, session.placement, 0
        self._session = session

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self.images += len(image)
        return self._session.run(image)


async def detect(
    sessions: Sessions,
    screens: Screens,
    pictures: Sequence[Pixels],
    settings: CascadeSettings | None = None,
) -> tuple[list[Detections], int]:
    """The faces of each picture, and how many crops R-Net judged."""
    pool, rnet = WorkerPool(1), Counting(sessions["rnet"])
    detector = CascadeDetector(
        sessions["pnet"],
        rnet,  # type: ignore[arg-type]
        sessions["onet"],
        settings or CascadeSettings(),
        stages=StageFactory(pool),
        screens=screens,
    )
    found = [
        await detector.detect(View.of(summed_area_table(picture)), free_ticket())
        for picture in pictures
    ]
    await detector.drain()
    await pool.aclose()
    return found, rnet.images


def assert_same(found: list[Detections], wanted: list[Detections]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.landmarks, other.landmarks, rtol=1e-5, atol=1e-2)


@needs_vnni
@pytest.mark.parametrize("one_of", [4, pytest.param(1, marks=pytest.mark.slow)])
async def test_the_reference_photos_give_the_same_faces_screened(
    sessions: Sessions, screen: RnetScreen, faces_dir: Path, one_of: int
) -> None:
    pictures = [read(path) for path in photos_of(faces_dir)[::one_of]]
    found, judged = await detect(sessions, Screens(rnet=screen), pictures)
    wanted, all_crops = await detect(sessions, Screens(), pictures)
    assert_same(found, wanted)
    assert sum(len(each.scores) for each in wanted) > 60 / one_of
    assert judged < all_crops / 3


@needs_vnni
async def test_cut_photos_give_the_same_faces_screened(
    sessions: Sessions, screen: RnetScreen, portraits: list[Path]
) -> None:
    pictures = [read(path)[cut:, cut // 2 :] for path in portraits for cut in (0, 1, 5)]
    pictures = [np.ascontiguousarray(picture) for picture in pictures]
    found, _ = await detect(sessions, Screens(rnet=screen), pictures)
    wanted, _ = await detect(sessions, Screens(), pictures)
    assert_same(found, wanted)
    assert all(len(each.scores) for each in wanted)


@needs_vnni
async def test_without_a_margin_faces_are_lost(
    sessions: Sessions, weights: RnetScreenWeights, portraits: list[Path]
) -> None:
    screens = Screens(rnet=RnetScreen(weights, Margin(-20.0, THRESHOLD)))
    found, judged = await detect(sessions, screens, [read(portraits[0])])
    assert len(found[0].scores) == 0
    assert judged == 0


@needs_vnni
@pytest.mark.parametrize(("threshold", "is_screened"), [(0.95, True), (0.5, False)])
async def test_another_threshold_gives_the_same_faces_screened(
    sessions: Sessions,
    screen: RnetScreen,
    portraits: list[Path],
    threshold: float,
    is_screened: bool,
) -> None:
    """Nothing is known of crops between a lower threshold and the one of the measurement."""
    settings = CascadeSettings(thresholds=(0.6, threshold, threshold))
    pictures = [read(path) for path in portraits]
    found, judged = await detect(sessions, Screens(rnet=screen), pictures, settings)
    wanted, all_crops = await detect(sessions, Screens(), pictures, settings)
    assert_same(found, wanted)
    assert all(len(each.scores) for each in wanted)
    assert (judged < all_crops) == is_screened


@needs_vnni
async def test_a_picture_without_candidates_has_no_faces(
    sessions: Sessions, screen: RnetScreen
) -> None:
    flat = np.full((90, 120, 3), 128, np.uint8)
    found, judged = await detect(sessions, Screens(rnet=screen), [flat])
    assert (len(found[0].scores), judged) == (0, 0)


def test_the_exported_file_is_the_same_in_every_run(models_dir: Path, manifest: Manifest) -> None:
    assert manifest.rnet_screen is not None
    made = eight_bits.to_bytes(exported.quantize(networks.mtcnn_stage("rnet")))
    assert made == (models_dir / manifest.rnet_screen.file).read_bytes()


@pytest.mark.slow
def test_the_manifest_says_what_is_measured(weights: RnetScreenWeights, manifest: Manifest) -> None:
    assert manifest.rnet_screen is not None
    found = measured(weights, manifest.rnet_screen.sha256)
    assert eight_bits.objection(found) is None
    if found.inputs == manifest.rnet_screen.inputs:
        assert found.passing_cells == manifest.rnet_screen.passing_cells
        assert found.worst_shortfall == pytest.approx(
            manifest.rnet_screen.worst_shortfall, abs=0.01
        )


def measured(weights: RnetScreenWeights, sha256: str) -> exported.ScreenSpec:
    pnet, rnet = networks.mtcnn_stage("pnet"), networks.mtcnn_stage("rnet")
    return exported.measure(pnet, rnet, weights, photos.find(), "rnet-screen.npz", sha256)


def test_a_screen_that_would_lose_crops_is_not_offered(
    weights: RnetScreenWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACES_DIR", "/nowhere")  # the two portraits show it as well
    bias = np.zeros_like(weights.head)
    bias[-1] = 3.0
    spoilt = dataclasses.replace(weights, head=weights.head - bias)
    assert "below the threshold" in (eight_bits.objection(measured(spoilt, "y")) or "")


def test_without_photos_the_recorded_file_is_offered(
    weights: RnetScreenWeights, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest.rnet_screen is not None
    monkeypatch.setenv("FACES_DIR", "/nowhere")
    monkeypatch.setattr(photos, "_PORTRAITS", ())
    other = measured(weights, "another")
    assert eight_bits.objection(other) == "no photograph was at hand to measure it on"
    found = measured(weights, manifest.rnet_screen.sha256)
    assert eight_bits.objection(found) is None
    assert found.inputs.startswith("recorded")
