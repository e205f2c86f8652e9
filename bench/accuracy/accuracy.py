"""Accuracy: rates over pairs, clusters after joining one by one, and clusters of the service.

Three configurations are measured: compatible mode, which is facenet-pytorch's, the default, and the
other embedder. Rates over all pairs and over 24 orders of joining come from the vectors of the test
half of the people, on which no parameter was chosen. For the last table twelve clients send the
photos of that half to the service. Parity counts the faces of facenet-pytorch that compatible mode
finds again.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import hard_photos, parity
from bench.accuracy.hard_photos import HardPhotos
from bench.accuracy.joining import Clustering, join_one_by_one, judge
from bench.accuracy.people import (
    LabelledFace,
    Labels,
    PairDistances,
    Vectors,
    embed,
    find_faces,
    open_embedder,
)
from bench.accuracy.population import Halves, pairs_of
from bench.accuracy.served_people import insert_people
from bench.common.harness import (
    MODELS,
    compatible_settings,
    default_settings,
    running_analyzer,
    sessions,
)
from bench.common.harness import describe as describe_models
from bench.common.photos import faces_folder, people_folder, photo_paths
from bench.common.result import Effort, Result
from service.domain.matching import MatchRule
from service.runtime.manifest import EmbeddingFacts
from service.runtime.matching import match_rule
from service.runtime.sessions import SessionSettings

ORDERS = 24
_PARITY = Path(__file__).parents[1] / "results" / "accuracy.md"
_QUICK_PEOPLE = 60
_RATES = (1e-3, 1e-4, 1e-5)
_FIXED = 0.5
_WORKERS = 2


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to compare faces: an embedder's space, its vectors and its rule."""

    name: str
    models: Path
    facts: EmbeddingFacts
    vectors: Vectors
    qualities: NDArray[np.float64]
    rule: MatchRule


async def run(effort: Effort) -> Result:
    """Measure everything that the photos at hand allow.

    Raises:
        SystemExit: there are no photos of people.
    """
    if not people_folder().is_dir():
        raise SystemExit("no people: set LFW_DIR to a folder with one folder of photos a person")
    people = photo_paths(people_folder())
    if effort.quick:
        people = dict(list(people.items())[:_QUICK_PEOPLE])
    faces = await find_faces(people)
    labels = np.array([face.person for face in faces], np.int64)
    reported = Halves.of(labels).reported_on
    chosen = [face for face, use in zip(faces, reported, strict=True) if use]
    labels = labels[reported]
    ways = [await _open(*each, chosen) for each in _ways()]
    orders = 2 if effort.quick else ORDERS
    pairs = {way.name: pairs_of(way.vectors, labels, way.rule.cohort) for way in ways}
    joined = {way.name: _in_orders(way, labels, orders) for way in ways}
    served = {
        way.name: await insert_people(way.models, way.name == _COMPATIBLE, chosen, labels)
        for way in ways
    }
    ratios = _ratios(pairs, joined)
    details: dict[str, Any] = {
        "tables": {
            "pairs": _pairs_table(pairs),
            "joining": _joining_table(joined, orders),
            "served": _served_table(served),
        },
        "joined": {name: list(map(dataclasses.asdict, found)) for name, found in joined.items()},
        "served": {name: dataclasses.asdict(found) for name, found in served.items()},
    }
    folder = faces_folder()
    if (folder / "reference.json").is_file():
        reference = parity.load_reference(folder)
        details["parity"] = await parity.measure(folder, reference)
        if not effort.quick:
            _PARITY.write_text(parity.render_table(details["parity"]), encoding="utf-8")
        ratios["photos_with_the_same_faces"] = details["parity"]["summary"][
            "photos_with_the_same_faces"
        ] / len(reference)
        hard = {}
        for way in ways:
            settings = compatible_settings() if way.name == _COMPATIBLE else default_settings()
            async with running_analyzer(settings, way.models, way.facts.space) as analyzer:
                hard[way.name] = await hard_photos.measure(
                    folder, reference, analyzer, way.rule, quick=effort.quick
                )
        details["tables"]["shared"] = _shared_table(hard, ways)
    settings = default_settings()
    return Result(
        unit="",
        rates={},
        compared={},
        other_ratios=ratios,
        details=details,
        configuration=describe_models(settings, sessions(settings)),
        notes=[
            (
                f"{len(faces)} labelled faces of {len(people)} people; reported are the "
                f"{len(labels)} of {len(np.unique(labels))} people at odd places in the order of "
                "their names. Centre, cohort and every constant of the rule come from the others."
            ),
            (
                f"Joining: {orders} random orders of all photos into one tenant; precision and "
                "recall over pairs of labelled faces."
            ),
        ],
    )


_COMPATIBLE = "FaceNet, compatible"


def _ways() -> list[tuple[str, Path, int]]:
    """Name, models and number of the embedding; SFace where it was exported."""
    ways = [(_COMPATIBLE, MODELS, 1), ("FaceNet", MODELS, 0)]
    if (MODELS / "sface" / "manifest.json").is_file():
        ways.append(("SFace", MODELS / "sface", 0))
    return ways


async def _open(name: str, models: Path, number: int, faces: Sequence[LabelledFace]) -> Way:
    session = open_embedder(models, SessionSettings())
    facts = session.spec.embeddings[number]
    qualities = np.array([face.quality for face in faces])
    vectors = await embed(session, faces, facts)
    return Way(name, models, facts, vectors, qualities, match_rule(facts))


def _shared_table(found: Mapping[str, HardPhotos], ways: Sequence[Way]) -> dict[str, Any]:
    rows = []
    for way in ways:
        hard = found[way.name]
        pairs = hard.pairs
        told = sum(d < min(pairs.strangers) for d in pairs.same_person) + len(pairs.strangers)
        rows.append(
            [
                way.name,
                f"{told} of {len(pairs.same_person) + len(pairs.strangers)}",
                f"{max(pairs.same_person):.3f} / {min(pairs.strangers):.3f}",
                *(
                    f"{max(cut.same_person):.3f} / {min(cut.strangers):.3f}"
                    for cut in hard.cut.values()
                ),
                f"{hard.cut_to_box} of {hard.reference_faces}",
                f"{hard.upside_down} of {hard.reference_faces}",
                f"{hard.look_alikes:+.3f} ({hard.look_alikes_joined} of {hard_photos.ORDERS})",
            ]
        )
    return {
        "head": [
            "shared photos",
            "pairs told apart",
            "farthest friend / nearest stranger",
            *(f"the same, {share:.0%} of a face cut off" for share in hard_photos.CUTS),
            "faces found when the photo is cut to them",
            "faces found upside down",
            "nearest look-alikes beyond the limit (orders that join them)",
        ],
        "rows": rows,
    }


def _in_orders(way: Way, people: Labels, orders: int) -> list[Clustering]:
    with ProcessPoolExecutor(_WORKERS) as pool:
        return list(
            pool.map(_in_order, *zip(*((way, people, n) for n in range(orders)), strict=True))
        )


def _in_order(way: Way, people: Labels, seed: int) -> Clustering:
    order = np.random.default_rng(seed).permutation(len(people))
    return judge(join_one_by_one(way.vectors, way.qualities, order, way.rule), people)


def _ratios(
    pairs: Mapping[str, PairDistances], joined: Mapping[str, Sequence[Clustering]]
) -> dict[str, float]:
    found = {}
    for name, each in pairs.items():
        key = name.lower().replace(", ", "_")
        found[f"{key}_tpr_at_fmr_1e-4"] = each.hits(each.distance(1e-4))
        found[f"{key}_precision"] = statistics.fmean(c.precision for c in joined[name])
        found[f"{key}_recall"] = statistics.fmean(c.recall for c in joined[name])
    return found


def _pairs_table(pairs: Mapping[str, PairDistances]) -> dict[str, Any]:
    rows = []
    for name, each in pairs.items():
        error, at = each.equal_error()
        hits = [f"{each.hits(limit):.3f} ({limit:.3f})" for limit in map(each.distance, _RATES)]
        rows.append([name, f"{error:.2%} ({at:.3f})", *hits, f"{each.rate(_FIXED):.1e}"])
    head = ["all pairs", "EER (at)", *(f"TPR at FMR {rate:.0e} (at)" for rate in _RATES)]
    return {"head": [*head, f"FMR at {_FIXED}"], "rows": rows}


def _joining_table(joined: Mapping[str, Sequence[Clustering]], orders: int) -> dict[str, Any]:
    rows = []
    for name, found in joined.items():
        precision, recall = ([getattr(c, key) for c in found] for key in ("precision", "recall"))
        rows.append(
            [
                name,
                f"{statistics.fmean(precision):.4f} ({min(precision):.4f})",
                f"{statistics.fmean(recall):.4f} ({min(recall):.4f})",
                f"{statistics.fmean(c.clusters for c in found):.0f}",
                str(max(c.most_people for c in found)),
                f"{statistics.fmean(c.crowded for c in found):.2f}",
            ]
        )
    return {
        "head": [
            f"{orders} orders",
            "precision (worst)",
            "recall (worst)",
            "clusters",
            "most people in one",
            "clusters of three people or more",
        ],
        "rows": rows,
    }


def _served_table(served: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        [
            name,
            f"{found.clustering.precision:.4f}",
            f"{found.clustering.recall:.4f}",
            str(found.clustering.clusters),
            str(found.clustering.most_people),
            str(found.unmatchable),
            f"{found.photos_per_s:.1f}",
        ]
        for name, found in served.items()
    ]
    return {
        "head": [
            "through the service, 12 clients",
            "precision",
            "recall",
            "clusters",
            "most people in one",
            "faces nobody is matched against",
            "photos/s",
        ],
        "rows": rows,
    }
