"""The screen computes what it was exported to compute, and hides nothing from P-Net."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from export.graphs import networks
from export.precisions import eight_bits
from export.precisions import screen as exported
from export.verification import photos
from service.analysis.scan import FullScanner, ScreenedScanner
from service.analysis.screens import SCREEN_FLAGS
from service.machine.cpu import cpu_flags
from service.runtime.manifest import Manifest, load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.vision.pyramid import Cells, cut_into_tiles, pyramid_levels
from service.vision.resample import summed_area_table
from service.vision.screen import Screen, ScreenWeights
from service.vision.screening import Margin, read_weights
from service.vision.views import View

THRESHOLD = 0.6
needs_vnni = pytest.mark.skipif(
    not cpu_flags() >= SCREEN_FLAGS, reason="the processor has no AVX512-VNNI: nothing is screened"
)


@pytest.fixture(scope="module")
def manifest(models_dir: Path) -> Manifest:
    return load_manifest(models_dir)


@pytest.fixture(scope="module")
def pnet(models_dir: Path, manifest: Manifest) -> ModelSession:
    return open_sessions(models_dir, manifest, SessionSettings(provider="cpu"))["pnet"]


@pytest.fixture(scope="module")
def weights(models_dir: Path, manifest: Manifest) -> ScreenWeights:
    assert manifest.screen is not None
    return read_weights(ScreenWeights, models_dir / manifest.screen.file)


@pytest.fixture(scope="module")
def screen(weights: ScreenWeights, manifest: Manifest) -> Screen:
    assert manifest.screen is not None
    return Screen(weights, Margin(manifest.screen.margin, manifest.screen.threshold))


def noise(rows: int, columns: int) -> NDArray[np.uint8]:
    return np.random.default_rng(rows * columns).integers(0, 256, (rows, columns, 3), np.uint8)


def logits(screen: Screen, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return screen.logits(picture)


def prepared(picture: NDArray[np.uint8]) -> View:
    return View.of(summed_area_table(picture))


@needs_vnni
@pytest.mark.parametrize("columns", [12, 13, 14, 15, 16, 17, 18, 19, 45, 160])
@pytest.mark.parametrize("rows", [12, 13, 14, 37, 100])
def test_the_kernel_computes_what_the_export_measured(
    screen: Screen, weights: ScreenWeights, rows: int, columns: int
) -> None:
    picture = noise(rows, columns)
    found, wanted = logits(screen, picture), exported.emulate(weights, picture)
    assert found.shape == wanted.shape
    # float32 against float64: now and then a value falls on the next byte.
    assert np.quantile(np.abs(found - wanted), 0.99) < 1e-4
    assert np.abs(found - wanted).max() < 0.2


@needs_vnni
def test_a_smaller_tile_after_a_larger_one_sees_nothing_of_it(screen: Screen) -> None:
    small = logits(screen, noise(30, 41))
    logits(screen, noise(200, 200))
    np.testing.assert_array_equal(logits(screen, noise(30, 41)), small)


@needs_vnni
def test_threads_do_not_disturb_each_other(screen: Screen) -> None:
    pictures = [noise(40 + n, 60 + 3 * n) for n in range(8)] * 10
    alone = [logits(screen, picture) for picture in pictures]
    with ThreadPoolExecutor(4) as executor:
        together = list(executor.map(lambda picture: logits(screen, picture), pictures))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_vnni
@pytest.mark.parametrize("turned", [0, 90])
def test_places_are_those_within_the_margin_of_the_threshold(
    weights: ScreenWeights, turned: int
) -> None:
    picture = noise(60, 81)
    view = View.of(summed_area_table(picture), turned=turned)
    whole = np.ascontiguousarray(np.rot90(picture, -turned // 90))
    # In whole pixels, so that the means are the pixels.
    parts = [(0, 60, 0, 60), (20, 49, 7, 58)]
    tiles = np.array([(view.height, view.width, *part) for part in parts], np.int32)
    for margin in (0.0, 3.0):
        screen = Screen(weights, Margin(margin, THRESHOLD))
        least = np.float32(np.log(0.6 / 0.4) - margin)
        wanted = [
            np.argwhere(screen.logits(whole[top:bottom, left:right]) >= least)
            for top, bottom, left, right in parts
        ]
        limits = np.array([len(each) for each in wanted])
        places, crowded = screen.places(view, tiles, limits)
        assert not crowded.any()
        for number, each in enumerate(wanted):
            np.testing.assert_array_equal(places[places[:, 0] == number, 1:], each)
    limits[0] -= 1
    places, crowded = screen.places(view, tiles, limits)
    np.testing.assert_array_equal(crowded, [True, False])
    np.testing.assert_array_equal(places[:, 1:], wanted[1])
    assert len(wanted[0]) > len(wanted[1]) > 0


def in_order(cells: Cells) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    order = np.lexsort(cells.places.T[::-1])
    return cells.places[order], cells.scores[order], cells.regression[order]


def assert_same_cells(pnet: ModelSession, screen: Screen, picture: NDArray[np.uint8]) -> int:
    photo = prepared(picture)
    levels = pyramid_levels(photo.width, photo.height, 20, 0.709)
    full = FullScanner(pnet, THRESHOLD, 160)
    screened = ScreenedScanner(pnet, THRESHOLD, screen)
    wanted = in_order(full.find(photo, levels, cut_into_tiles(levels, full.tile_side)))
    found = in_order(screened.find(photo, levels, cut_into_tiles(levels, screened.tile_side)))
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
    np.testing.assert_allclose(found[2], wanted[2], atol=1e-5)
    return len(wanted[0])


@needs_vnni
@pytest.mark.parametrize("cut", [(0, 0), (1, 0), (0, 1), (3, 5)])
def test_a_screened_photo_gives_the_cells_of_an_unscreened_one(
    pnet: ModelSession, screen: Screen, portraits: list[Path], cut: tuple[int, int]
) -> None:
    for path in portraits:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        picture = np.ascontiguousarray(image[cut[0] :, cut[1] :], dtype=np.uint8)
        assert assert_same_cells(pnet, screen, picture) > 20


@needs_vnni
@pytest.mark.parametrize("one_of", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_the_reference_photos_give_the_same_cells_screened(
    pnet: ModelSession, screen: Screen, faces_dir: Path, one_of: int
) -> None:
    cells = 0
    for path in sorted(faces_dir.glob("*.jpg"))[::one_of]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert image is not None
        scale = min(1.0, 800 / max(image.shape[:2]))
        picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cells += assert_same_cells(pnet, screen, np.ascontiguousarray(picture, dtype=np.uint8))
    assert cells > 10_000 / one_of


@needs_vnni
def test_without_a_margin_cells_are_lost(
    pnet: ModelSession, weights: ScreenWeights, portraits: list[Path]
) -> None:
    image = cv2.imread(str(portraits[0]), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    with pytest.raises(AssertionError):
        assert_same_cells(
            pnet, Screen(weights, Margin(-4.0, THRESHOLD)), np.asarray(image, dtype=np.uint8)
        )


class CountingSession:
    """P-Net, and how many pixels it was shown."""

    def __init__(self, session: ModelSession) -> None:
        self.spec, self.placement, self.pixels = session.spec, session.placement, 0
        self._session = session

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self.pixels += image.shape[0] * image.shape[2] * image.shape[3]
        return self._session.run(image)


@needs_vnni
def test_a_photo_full_of_near_faces_costs_little_more_than_unscreened(
    pnet: ModelSession, weights: ScreenWeights
) -> None:
    picture = noise(300, 400)
    photo = prepared(picture)
    levels = pyramid_levels(photo.width, photo.height, 20, 0.709)
    counting = CountingSession(pnet)
    # A margin that lets every cell through stands for a photo made for it.
    screen = Screen(weights, Margin(1e6, THRESHOLD))
    scanner = ScreenedScanner(counting, THRESHOLD, screen)  # type: ignore[arg-type]
    tiles = cut_into_tiles(levels, scanner.tile_side)
    found = scanner.find(photo, levels, tiles)
    assert counting.pixels < 1.5 * sum(tile.pixels for tile in tiles)
    wanted = FullScanner(pnet, THRESHOLD, 160).find(photo, levels, cut_into_tiles(levels, 160))
    np.testing.assert_array_equal(in_order(found)[0], in_order(wanted)[0])


@needs_vnni
def test_a_flat_picture_has_no_cells(pnet: ModelSession, screen: Screen) -> None:
    assert assert_same_cells(pnet, screen, np.full((70, 90, 3), 128, np.uint8)) == 0


def test_the_exported_file_is_the_same_in_every_run(models_dir: Path, manifest: Manifest) -> None:
    assert manifest.screen is not None
    made = eight_bits.to_bytes(exported.quantize(networks.mtcnn_stage("pnet")))
    assert made == (models_dir / manifest.screen.file).read_bytes()


@pytest.mark.slow
def test_the_manifest_says_what_is_measured(weights: ScreenWeights, manifest: Manifest) -> None:
    assert manifest.screen is not None
    network = networks.mtcnn_stage("pnet")
    found = exported.measure(
        network, weights, photos.find(), manifest.screen.file, manifest.screen.sha256
    )
    assert eight_bits.objection(found) is None
    if found.inputs == manifest.screen.inputs:
        assert found.passing_cells == manifest.screen.passing_cells
        assert found.worst_shortfall == pytest.approx(manifest.screen.worst_shortfall, abs=0.01)


def test_a_screen_that_would_lose_cells_is_not_offered(
    weights: ScreenWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACES_DIR", "/nowhere")  # the two portraits show it as well
    spoilt = dataclasses.replace(weights, head=weights.head - np.float32(0.05))
    found = exported.measure(networks.mtcnn_stage("pnet"), spoilt, photos.find(), "x", "y")
    assert "below the threshold" in (eight_bits.objection(found) or "")


def test_without_photos_none_is_offered(
    weights: ScreenWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACES_DIR", "/nowhere")
    monkeypatch.setattr(photos, "_PORTRAITS", ())
    found = exported.measure(networks.mtcnn_stage("pnet"), weights, photos.find(), "x", "y")
    assert eight_bits.objection(found) == "no photograph was at hand to measure it on"


def test_without_photos_the_recorded_file_is_offered(
    weights: ScreenWeights, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest.screen is not None
    monkeypatch.setenv("FACES_DIR", "/nowhere")
    monkeypatch.setattr(photos, "_PORTRAITS", ())
    found = exported.measure(
        networks.mtcnn_stage("pnet"),
        weights,
        photos.find(),
        manifest.screen.file,
        manifest.screen.sha256,
    )
    assert eight_bits.objection(found) is None
    assert found.inputs.startswith("recorded")
