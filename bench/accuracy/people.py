"""Labelled people: their photos, the vectors of their faces, and the distances of all pairs.

Photos lie in a folder for each person, as those of Labeled Faces in the Wild do (Huang, Ramesh,
Berg and Learned-Miller, University of Massachusetts, 2007); the label means the face nearest to the
centre. Parameters are chosen on one half of the people, those at even places in the order of their
names; results are reported on the other half.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.common.harness import by_threads, default_settings, running_analyzer
from service.batching import free_ticket
from service.config.sections import QualityConfig
from service.domain.types import Detection, FacePlace
from service.runtime.manifest import EmbeddingFacts, ModelSpec, load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.telemetry import StageClock
from service.vision.crop import cut_face
from service.vision.decode import decode
from service.vision.formats.base import DecodeLimits

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

_CHECKOUT = Path(__file__).resolve().parents[2]
_PHOTOS_AT_ONCE = 8
_CALL_FACES = 8
# Distances are counted in bins of this width.
_BIN = 5e-4
_LOWEST, _HIGHEST = -1.0, 3.0
_BINS = round((_HIGHEST - _LOWEST) / _BIN)


GOOD_QUALITY = QualityConfig().min_for_matching
"""Others are matched against faces from this quality on, by default."""


@dataclass(frozen=True, slots=True)
class LabelledFace:
    """The labelled face of one photo: its person, by the place of the name, its box and quality."""

    path: Path
    person: int
    detection: Detection
    turned: int
    quality: float

    @property
    def place(self) -> FacePlace:
        """Box and landmarks, for cutting it out."""
        return FacePlace(self.detection.box, self.detection.landmarks)


async def find_faces(people: Mapping[str, Sequence[Path]]) -> list[LabelledFace]:
    """The labelled face of each photo in which the service finds one by default."""
    waiting = asyncio.Semaphore(_PHOTOS_AT_ONCE)
    async with running_analyzer(default_settings()) as analyzer:

        async def find(path: Path, person: int) -> LabelledFace | None:
            async with waiting:
                read = partial(asyncio.to_thread, path.read_bytes)
                found = await analyzer.detect(read, StageClock(), free_ticket())
            if not found.faces:
                return None
            middle = (found.width / 2, found.height / 2)
            nearest = min(found.faces, key=lambda face: _off(face.detection, middle))
            score = nearest.quality.score
            return LabelledFace(path, person, nearest.detection, found.turned, score)

        faces = await asyncio.gather(
            *(find(path, n) for n, paths in enumerate(people.values()) for path in paths)
        )
    return [face for face in faces if face is not None]


def _off(face: Detection, middle: tuple[float, float]) -> float:
    box = face.box
    return ((box.x1 + box.x2) / 2 - middle[0]) ** 2 + ((box.y1 + box.y2) / 2 - middle[1]) ** 2


def open_embedder(models: Path, settings: SessionSettings) -> ModelSession:
    """The embedder of a folder of models, as the service runs it."""
    manifest = load_manifest(models)
    alone = manifest.model_copy(update={"models": {"embedder": manifest.models["embedder"]}})
    return open_sessions(models, alone, settings)["embedder"]


async def embed(
    session: ModelSession,
    faces: Sequence[LabelledFace],
    facts: EmbeddingFacts,
    *,
    output: str | None = None,
) -> Vectors:
    """The vectors of faces: float32 [n, dimension], unit vectors.

    Args:
        facts: the space, with its crop.
        output: of the embedder; None for that of `facts`.
    """
    wanted = [output or facts.output]
    vectors = np.zeros((len(faces), facts.dimension), np.float32)

    def work(start: int) -> None:
        some = faces[start : start + _CALL_FACES]
        crops = []
        for face in some:
            photo = decode(face.path.read_bytes(), DecodeLimits(), hashed=False)
            place = face.place.scaled(1 / photo.shrink)
            crop = cut_face(photo.pixels, place, facts.crop, face.turned)
            assert crop is not None
            crops.append(crop)
        vectors[start : start + len(some)] = session.run(np.stack(crops), wanted)[0]

    await by_threads(range(0, len(faces), _CALL_FACES), work, 2)
    return vectors


def spec_of(models: Path) -> ModelSpec:
    """The manifest's entry of the embedder."""
    return load_manifest(models).models["embedder"]


@dataclass(frozen=True, slots=True, eq=False)
class PairDistances:
    """Numbers of pairs of faces by distance.

    same, strangers: int64 [bins], numbers of pairs by distance. groups: int64 [g, g, bins], those
    of strangers by the groups that their people are in, each pair once: people are drawn into
    groups, so that what each group contributes shows how sure a rate is.
    """

    same: NDArray[np.int64]
    strangers: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def of(
        cls, vectors: Vectors, people: Labels, excess: NDArray[np.float64] | None = None
    ) -> PairDistances:
        """All pairs of some faces.

        Args:
            vectors: float32 [n, dimension], unit vectors.
            people: int64 [n].
            excess: float64 [n], added to a distance for each of its two faces.
        """
        count = 20
        more = np.zeros(len(vectors)) if excess is None else excess
        group_of = np.random.default_rng(0).permutation(int(people.max()) + 1)[people] % count
        order = np.argsort(group_of, kind="stable")
        vectors, people, more = vectors[order], people[order], more[order]
        group_of = group_of[order]
        same = np.zeros(_BINS, np.int64)
        groups = np.zeros((count, count, _BINS), np.int64)
        bounds = np.searchsorted(group_of, np.arange(count + 1))
        for a in range(count):
            rows = slice(bounds[a], bounds[a + 1])
            for b in range(a, count):
                columns = slice(bounds[b], bounds[b + 1])
                distances = 1 - vectors[rows] @ vectors[columns].T
                distances = distances + (more[rows, np.newaxis] + more[columns])
                once = (
                    np.ones(distances.shape, bool)
                    if a != b
                    else np.triu(np.ones(distances.shape, bool), 1)
                )
                alike = people[rows, np.newaxis] == people[columns]
                same += _counted(distances[once & alike])
                groups[a, b] = _counted(distances[once & ~alike])
        return cls(same, groups.sum(axis=(0, 1)), groups)

    def rate(self, distance: float) -> float:
        """The share of strangers' pairs within a distance (FMR)."""
        return float(self.strangers[: _bin(distance)].sum() / self.strangers.sum())

    def hits(self, distance: float) -> float:
        """The share of one person's pairs within a distance (TPR)."""
        return float(self.same[: _bin(distance)].sum() / self.same.sum())

    def distance(self, rate: float) -> float:
        """The largest distance at which no more than this share of strangers' pairs match."""
        shares = np.cumsum(self.strangers) / self.strangers.sum()
        return float(_LOWEST + np.searchsorted(shares, rate, side="right") * _BIN)

    def equal_error(self) -> tuple[float, float]:
        """The error rate at which both kinds of error are equally frequent, and its distance."""
        misses = 1 - np.cumsum(self.same) / self.same.sum()
        matches = np.cumsum(self.strangers) / self.strangers.sum()
        at = int(np.argmin(np.abs(misses - matches)))
        return float((misses[at] + matches[at]) / 2), _LOWEST + (at + 1) * _BIN

    def band(self, distance: float) -> tuple[float, float]:
        """The 95 % band of the FMR: by leaving out one group of people after another.

        A jackknife over groups of people, on the logarithm of the rate, since pairs that share a
        person are not independent. Where hardly any pair matches, the band of a Poisson number is
        wider, and is taken.
        """
        end = _bin(distance)
        within, all_pairs = self.groups[:, :, :end].sum(axis=2), self.groups.sum(axis=2)
        count, pairs = int(within.sum()), int(all_pairs.sum())
        left_out = []
        for group in range(len(within)):
            kept = np.arange(len(within)) != group
            matched = within[np.ix_(kept, kept)].sum()
            left_out.append(np.log((matched + 0.5) / all_pairs[np.ix_(kept, kept)].sum()))
        n = len(left_out)
        spread = np.sqrt((n - 1) / n * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
        low, high = poisson_band(count)
        rate = count / pairs
        return (
            min(low / pairs, rate * float(np.exp(-1.96 * spread))),
            max(high / pairs, rate * float(np.exp(1.96 * spread))),
        )


def poisson_band(count: int) -> tuple[float, float]:
    """The 95 % band of a mean by a number that was counted, after Wilson and Hilferty."""
    low = 0.0 if not count else count * (1 - 1 / (9 * count) - 1.96 / (3 * count**0.5)) ** 3
    above = count + 1
    return low, above * (1 - 1 / (9 * above) + 1.96 / (3 * above**0.5)) ** 3


def _bin(distance: float) -> int:
    return int(np.clip(round((distance - _LOWEST) / _BIN), 0, _BINS))


def _counted(distances: NDArray[np.floating]) -> NDArray[np.int64]:
    bins = np.clip(((distances - _LOWEST) / _BIN).astype(np.int64), 0, _BINS - 1)
    return np.bincount(bins, minlength=_BINS)
