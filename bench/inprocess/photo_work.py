"""The work that photos make for each network of the cascade, counted in a real detection."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common.harness import MODELS, Pixels, running_detector
from bench.inprocess import operations
from service.analysis.analyzer import AnalysisSettings
from service.analysis.screens import Screens, open_screens
from service.runtime.manifest import Manifest, ModelName, ModelSpec, check_file, load_manifest
from service.runtime.providers import Placement
from service.runtime.sessions import ModelSession, open_graph
from service.runtime.sessions import Pixels as Input
from service.vision.rnet_screen import RnetScreen, RnetScreenWeights
from service.vision.screen import Screen, ScreenWeights
from service.vision.screening import Margin, read_weights
from service.vision.views import View

_CASCADE: tuple[ModelName, ...] = ("pnet", "rnet", "onet")


@dataclass(frozen=True, slots=True)
class Share:
    """What all photos together take of a network: items, and their multiply-adds."""

    items: int
    multiply_adds: int


async def count(settings: AnalysisSettings, photos: Sequence[Pixels]) -> Mapping[str, Share]:
    """Detect the faces of photos on the CPU: the share of each network, by its key.

    The keys are `pnet`, `rnet` and `onet`, and `pnet_screen` and `rnet_screen` where the machine
    can run them. Items are cells of P-Net, tiles of its screen, and crops.
    """
    manifest = load_manifest(MODELS)
    models = {name: _counting(manifest, name) for name in _CASCADE}
    found = open_screens(MODELS, manifest, models) if settings.screen else Screens()
    pnet = rnet = None
    if found.pnet is not None and manifest.screen is not None:
        weights = read_weights(ScreenWeights, MODELS / manifest.screen.file)
        pnet = _CountingScreen(weights, found.pnet.margin)
    if found.rnet is not None and manifest.rnet_screen is not None:
        rnet_weights = read_weights(RnetScreenWeights, MODELS / manifest.rnet_screen.file)
        rnet = _CountingRnetScreen(rnet_weights, found.rnet.margin)
    # One worker, so that nothing is counted at once.
    alone = dataclasses.replace(settings, workers=1)
    async with running_detector(alone, models, Screens(pnet, rnet)) as detect:
        for pixels in photos:
            await detect(pixels)
    shares: dict[str, Share] = {name: session.share() for name, session in models.items()}
    if pnet is not None:
        shares["pnet_screen"] = pnet.share
    if rnet is not None:
        shares["rnet_screen"] = rnet.share
    return shares


def _counting(manifest: Manifest, name: ModelName) -> _CountingSession:
    spec = manifest.models[name]
    path = check_file(MODELS, spec)
    graph = open_graph(path, spec, "cpu", workers=1, intra_op_threads=1)
    return _CountingSession(graph, spec, path)


class _CountingSession(ModelSession):
    """A session that counts the shapes of its inputs."""

    def __init__(self, graph: Any, spec: ModelSpec, path: Path) -> None:
        super().__init__(graph, spec, Placement("cpu", "fp32"))
        self._path = path
        self._shapes: Counter[tuple[int, ...]] = Counter()

    def run(self, image: Input, outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        self._shapes[image.shape[1:]] += len(image)
        return super().run(image, outputs)

    def share(self) -> Share:
        """What the inputs so far took."""
        return Share(
            self._shapes.total(),
            sum(n * _multiply_adds(self._path, shape) for shape, n in self._shapes.items()),
        )


@cache
def _multiply_adds(path: Path, shape: tuple[int, ...]) -> int:
    return operations.of_file(path, (1, *shape)).multiply_adds


class _CountingScreen(Screen):
    """P-Net's screen; it counts its tiles."""

    def __init__(self, weights: ScreenWeights, margin: Margin) -> None:
        super().__init__(weights, margin)
        self.share = Share(0, 0)

    def places(
        self, view: View, tiles: NDArray[np.int32], limits: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        multiply_adds = self.share.multiply_adds
        for _, _, top, bottom, left, right in tiles.tolist():
            layers = operations.pnet_screen_layers(bottom - top, right - left)
            multiply_adds += sum(layer.multiply_adds for layer in layers)
        self.share = Share(self.share.items + len(tiles), multiply_adds)
        return super().places(view, tiles, limits)


class _CountingRnetScreen(RnetScreen):
    """R-Net's screen; it counts its crops."""

    def __init__(self, weights: RnetScreenWeights, margin: Margin) -> None:
        super().__init__(weights, margin)
        self.share = Share(0, 0)

    def logits(self, view: View, windows: NDArray[np.int32]) -> NDArray[np.float32]:
        crops = self.share.items + len(windows)
        layers = operations.rnet_screen_layers()
        self.share = Share(crops, crops * sum(layer.multiply_adds for layer in layers))
        return super().logits(view, windows)
