"""Faces joined one by one in one tenant by the match rule, and the quality of the clusters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.accuracy.people import GOOD_QUALITY, Labels, Vectors
from service.domain.matching import MatchRule, doubt_of, reach_of

# As `service.store.face.search` takes them into account.
_NEAREST = (32, 256)


@dataclass(frozen=True, slots=True)
class Clustering:
    """Agreement of clusters with people, over pairs of faces.

    precision: the share of pairs in one cluster that are of one person. recall: the share of one
    person's pairs that are in one cluster. clusters; most_people: in one cluster;
    crowded: clusters with three people or more.
    """

    precision: float
    recall: float
    clusters: int
    most_people: int
    crowded: int


def judge(clusters: NDArray[np.int64], people: Labels) -> Clustering:
    """Compare clusters, int64 [n], with people, int64 [n]."""
    both = _pairs(Counter(zip(clusters.tolist(), people.tolist(), strict=True)))
    together = _pairs(Counter(clusters.tolist()))
    members: dict[int, set[int]] = {}
    for cluster, person in zip(clusters.tolist(), people.tolist(), strict=True):
        members.setdefault(cluster, set()).add(person)
    counts = [len(each) for each in members.values()]
    return Clustering(
        both / together if together else 1.0,
        both / _pairs(Counter(people.tolist())),
        len(members),
        max(counts),
        sum(count >= 3 for count in counts),
    )


def join_one_by_one(
    vectors: Vectors, qualities: NDArray[np.float64], order: NDArray[np.int64], rule: MatchRule
) -> NDArray[np.int64]:
    """The cluster of each face, int64 [n], after they were inserted in an order into one tenant.

    This does on arrays what the store does in SQL: the clusters of the nearest faces within
    reach are measured by the rule, and the nearest one is joined if it is within the limit. Every
    photo has one face.

    Args:
        vectors: float32 [n, dimension], unit vectors.
        qualities: float64 [n], their scores.
        order: int64 [m], faces in any order, each once; the others are in cluster -1.
    """
    stored = vectors.astype(np.float16).astype(np.float32)
    seen = np.empty_like(stored)
    sums = np.zeros((len(vectors), vectors.shape[1]))
    counts = np.zeros(len(vectors))
    cluster_seen = np.empty(len(vectors), np.int64)
    cluster_of = np.full(len(vectors), -1, np.int64)
    clusters = compared = 0
    for face in order:
        probe = stored[face]
        limit = rule.limit.at(clusters, doubt_of(qualities[face], GOOD_QUALITY))
        chosen = clusters
        distances = 1 - seen[:compared] @ probe
        near = np.flatnonzero(distances <= reach_of(limit))
        if len(near):
            near = near[np.argsort(distances[near], kind="stable")]
            for most in _NEAREST:
                candidates = np.unique(cluster_seen[near[:most]])
                if len(candidates) == 1:
                    break
            measured = rule.distances(probe, sums[candidates], counts[candidates])
            best = int(np.argmin(measured))
            if measured[best] <= limit:
                chosen = int(candidates[best])
        clusters += chosen == clusters
        cluster_of[face] = chosen
        if qualities[face] >= GOOD_QUALITY:
            seen[compared], cluster_seen[compared] = probe, chosen
            sums[chosen] += probe
            counts[chosen] += 1
            compared += 1
    return cluster_of


def _pairs(counts: Counter[int] | Counter[tuple[int, int]]) -> int:
    return sum(count * (count - 1) // 2 for count in counts.values())
