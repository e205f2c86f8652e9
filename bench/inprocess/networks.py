"""The networks as the service calls them, on one thread of the CPU, with the work of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from bench.common.harness import MODELS, Sessions, embedders
from bench.inprocess import operations
from bench.inprocess.operations import Work
from service.analysis.detector import CPU_CALLS
from service.analysis.screens import open_screens
from service.runtime.manifest import MANIFEST_NAME, Manifest, load_manifest
from service.runtime.sessions import ModelSession, Pixels, SessionSettings, open_sessions, sample
from service.vision.resample import summed_area_table
from service.vision.rnet_screen import RnetScreen, RnetScreenWeights
from service.vision.screen import Screen, ScreenWeights
from service.vision.screening import read_weights
from service.vision.views import View

Kind = Literal["int8", "float32"]

# P-Net's cells in a call, and the side of a cell and of its screen's tile, in pixels.
_CELLS, _CELL_SIDE, _TILE_SIDE = 64, 12, 256
# Crops in a call of R-Net's screen, and their side in the photo, in pixels.
_SCREENED, _WINDOW_SIDE = 64, 36
_FACES = (1, 8)
# CPUs convert fp16 to float32.
_KINDS: Mapping[str, Kind] = {"int8": "int8", "fp32": "float32", "fp16": "float32"}
_ONE_THREAD = SessionSettings(provider="cpu", workers=1, intra_op_threads=1)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network and one call of it.

    key: of the network, as in `photo_work.count`; `embedder int8` and the like for FaceNet.
    name: for people. item: what it takes, `items` of them in a call. kind: of its arithmetic.
    work, call: of all items of a call.
    padded: multiply-adds that the instructions do, over those that count.
    """

    key: str
    name: str
    item: str
    items: int
    kind: Kind
    work: Work
    call: Callable[[], object]
    padded: float = 1.0

    @property
    def label(self) -> str:
        """The name with the size of a call."""
        return f"{self.name}, {self.items} {self.item}{'s' * (self.items > 1)}"


def all_networks() -> list[Network]:
    """Those of the cascade with the screens that this machine runs, FaceNet, and SFace if exported.

    FaceNet is there in every precision of the manifest, and SFace in fp32.
    """
    manifest = load_manifest(MODELS)
    models = open_sessions(MODELS, manifest, _ONE_THREAD)
    cells = np.random.default_rng(0).uniform(0, 255, (_CELLS, 3, _CELL_SIDE, _CELL_SIDE))
    rnet, onet = models["rnet"], models["onet"]
    return [
        _of_session("pnet", "P-Net fp32", "cell", models["pnet"], cells.astype(np.float32)),
        *_screens(manifest, models),
        _of_session("rnet", "R-Net fp32", "crop", rnet, sample(rnet.spec, CPU_CALLS.rnet_crops)),
        _of_session("onet", "O-Net fp32", "crop", onet, sample(onet.spec, CPU_CALLS.onet_crops)),
        *_embedders("embedder", "FaceNet", MODELS),
        *_embedders("sface", "SFace", MODELS / "sface", ("fp32",)),
    ]


def _of_session(
    key: str,
    name: str,
    item: str,
    session: ModelSession,
    pixels: Pixels,
    precision: str = "fp32",
    folder: Path = MODELS,
) -> Network:
    return Network(
        key,
        name,
        item,
        len(pixels),
        _KINDS[precision],
        operations.of_file(folder / session.spec.file, pixels.shape),
        partial(session.run, pixels),
    )


def _embedders(
    key: str, name: str, folder: Path, precisions: tuple[str, ...] = ("int8", "fp32", "fp16")
) -> list[Network]:
    if not (folder / MANIFEST_NAME).is_file():
        return []
    found = embedders(_ONE_THREAD, folder)
    return [
        _of_session(
            *(f"{key} {precision}", f"{name} {precision}", "face", found[precision]),
            *(sample(found[precision].spec, faces), precision, folder),
        )
        for precision in precisions
        if precision in found
        for faces in _FACES
    ]


def _screens(manifest: Manifest, models: Sessions) -> list[Network]:
    screens = open_screens(MODELS, manifest, models)
    found = []
    if screens.pnet is not None and manifest.screen is not None:
        weights = read_weights(ScreenWeights, MODELS / manifest.screen.file)
        found.append(_pnet_screen(screens.pnet, weights))
    if screens.rnet is not None and manifest.rnet_screen is not None:
        rnet_weights = read_weights(RnetScreenWeights, MODELS / manifest.rnet_screen.file)
        found.append(_rnet_screen(screens.rnet, rnet_weights))
    return found


def _pnet_screen(screen: Screen, weights: ScreenWeights) -> Network:
    return Network(
        *("pnet_screen", "P-Net's screen int8", "tile", 1, "int8"),
        operations.pnet_screen(weights, _TILE_SIDE, _TILE_SIDE),
        partial(screen.logits, _noise(_TILE_SIDE)),
        operations.padded(operations.pnet_screen_layers(_TILE_SIDE, _TILE_SIDE), weights),
    )


def _rnet_screen(screen: RnetScreen, weights: RnetScreenWeights) -> Network:
    across = int(np.sqrt(_SCREENED))
    view = View.of(summed_area_table(_noise(across * _WINDOW_SIDE)))
    corners = np.indices((across, across)).reshape(2, -1).T * _WINDOW_SIDE
    windows = np.concatenate([corners, corners + _WINDOW_SIDE], axis=1).astype(np.int32)
    return Network(
        *("rnet_screen", "R-Net's screen int8", "crop", len(windows), "int8"),
        operations.rnet_screen(weights, len(windows)),
        partial(screen.logits, view, windows),
        operations.padded(operations.rnet_screen_layers(), weights),
    )


def _noise(side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8, endpoint=True)
