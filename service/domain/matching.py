"""Which cluster each face of a photo joins: pure rules over measured vectors.

A face joins a person and not a neighbour. What is compared is the sum of a cluster's vectors, so
that one face that looks like somebody else's cannot join two people; and a comparison counts for
less where both faces look like very many people's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.types import ClusterDistance, ClusterId, Embedding, ModelSpace

# A cluster's sum counts as if so many more faces pointed nowhere, per face: one face says less of a
# person than many. Of two-covariance models (Brummer and de Villiers, "The speaker partitioning
# problem", Odyssey 2010), in which a mean is shrunk by its uncertainty, this is the cosine.
EVIDENCE = 0.2
# A face joins no cluster that has no face within the largest distance and so much more. So the
# nearest faces show every cluster that may be joined.
REACH_BEYOND_LIMIT = 0.14
# Bad pictures of strangers are nearer to one another than good ones. So fewer strangers may be
# within the limit of a face of low quality: this part of the usual share where nobody is matched
# against it, and more by and by, up to a score that is so much higher.
_DOUBTED_FMR = 0.05
_DOUBTED_ABOVE = 0.2
_FARTHEST = 2.0


@dataclass(frozen=True, slots=True)
class FalseMatchCurve:
    """How often two strangers are within a distance of one another.

    distances: ascending, two or more. rates: the share of pairs of strangers within each of them,
    above 0 and ascending.
    """

    distances: tuple[float, ...]
    rates: tuple[float, ...]

    def distance(self, rate: float) -> float:
        """The largest distance at which no more than a share of strangers match.

        Between two points the logarithm of the rate is linear. Below the lowest rate that was
        measured it goes on as it falls over the last decade: that part is a model, and not a
        measurement. Above the highest rate it is the largest distance of the curve.
        """
        logs = [math.log10(each) for each in self.rates]
        wanted = math.log10(rate)
        if wanted >= logs[0]:
            return float(np.interp(wanted, logs, self.distances))
        decade = next((n for n, log in enumerate(logs) if log >= logs[0] + 1), len(logs) - 1)
        slope = (self.distances[decade] - self.distances[0]) / (logs[decade] - logs[0])
        return max(0.0, self.distances[0] + (wanted - logs[0]) * slope)


@dataclass(frozen=True, slots=True)
class DistanceLimit:
    """The largest distance at which a face joins a cluster.

    Attributes:
        max_distance: always this, where there is no curve.
        curve: of the embedding; None where none was measured.
        max_fmr: no more than this share of strangers is within the limit.
        max_wrong_joins: with N people in a tenant, the chance that a stranger is within the limit
            of one of them, 1 - (1 - FMR)^N, is no more than this. So the limit falls as a tenant
            grows. 1 for a limit that stays.
    """

    max_distance: float
    curve: FalseMatchCurve | None = None
    max_fmr: float = 1.0
    max_wrong_joins: float = 1.0

    def at(self, people: int, doubt: float = 0.0) -> float:
        """The limit in a tenant of so many people.

        Args:
            doubt: how bad the picture of the face is, 0 to 1; where there is a curve, it is to be
                nearer.
        """
        if self.curve is None:
            return self.max_distance
        return self.curve.distance(self.rate_at(people) * _DOUBTED_FMR**doubt)

    def rate_at(self, people: int) -> float:
        """The share of strangers that may be within the limit in a tenant of so many people."""
        if self.max_wrong_joins >= 1:
            return self.max_fmr
        chance = -math.expm1(math.log1p(-self.max_wrong_joins) / max(1, people))
        return min(self.max_fmr, chance)


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Where faces lie dense: what a vector is like on average, as seen from many places.

    Where a network knows few people of a kind, it puts them close together, and a distance between
    two of them says little. So scores are normalised by a cohort, as in speaker recognition
    (Auckenthaler, Carey and Lloyd-Thomas, Digital Signal Processing 10, 2000); here it is not made
    of people, but of means over groups of them.

    Attributes:
        centres: float32 [k, dimension], unit vectors.
        temperature: of the soft maximum over the centres' cosines.
        typical: what that is on average, which makes the density of an average face 0.
        weight: how much of the mean density of both sides is added to a distance.
    """

    centres: NDArray[np.float32]
    temperature: float
    typical: float
    weight: float

    def density(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """How dense it is around each of some unit vectors; 0 on average, up to some 0.2.

        Args:
            vectors: float64 [n, dimension].

        Returns:
            float64 [n].
        """
        cosines = vectors @ self.centres.T.astype(np.float64)
        heat = np.log(np.mean(np.exp(cosines / self.temperature), axis=1))
        density: NDArray[np.float64] = self.temperature * heat - self.typical
        return density


@dataclass(frozen=True, slots=True, eq=False)
class MatchRule:
    """How far a face is from a cluster, and how far it may be.

    The distance to a cluster of one face is the cosine distance of both vectors, plus `weight`
    times the mean of their densities where there is a cohort. With more faces it is that to the
    direction of their sum, and falls a little as they become more: 1 - c sqrt(1 + E) / sqrt(1 + E n
    / |s|^2), where s is the sum of n unit vectors, c the cosine to it and E `EVIDENCE`.
    """

    limit: DistanceLimit
    cohort: Cohort | None = None

    def distances(
        self, embedding: Embedding, sums: NDArray[np.float64], counts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How far a face is from each of some clusters.

        Args:
            embedding: float32 [dimension], a unit vector.
            sums: float64 [n, dimension], the sums of the clusters' unit vectors.
            counts: float64 [n], how many vectors each is the sum of.

        Returns:
            float64 [n]; most are between 0 and 2.
        """
        probe = embedding.astype(np.float64)
        squares = np.einsum("nd,nd->n", sums, sums)
        scale = np.sqrt((1 + EVIDENCE) / (squares + EVIDENCE * counts))
        distances: NDArray[np.float64] = 1 - (sums @ probe) * scale
        if self.cohort is None:
            return distances
        lengths = np.maximum(np.sqrt(squares), 1e-12)
        both = np.concatenate([probe[np.newaxis], sums / lengths[:, np.newaxis]])
        density = self.cohort.density(both)
        shifted: NDArray[np.float64] = (
            distances + self.cohort.weight * (density[0] + density[1:]) / 2
        )
        return shifted

    def distance_to_face(self, embedding: Embedding, distance: float) -> float:
        """How far a face is from a near one: around both it is as dense as around the first.

        Args:
            embedding: float32 [dimension], a unit vector.
            distance: the cosine distance of both.
        """
        if self.cohort is None:
            return distance
        density = self.cohort.density(embedding.astype(np.float64)[np.newaxis])
        return distance + self.cohort.weight * float(density[0])


def doubt_of(score: float, min_score: float) -> float:
    """How much a face's quality tells against a match: 0 for a good one, 1 for a bad one.

    Args:
        score: of the face's quality. min_score: others are matched against faces from there on.
    """
    return min(1.0, max(0.0, (min_score + _DOUBTED_ABOVE - score) / _DOUBTED_ABOVE))


def fixed_rule(max_distance: float) -> MatchRule:
    """The rule with one largest distance for tenants of all sizes, and no cohort."""
    return MatchRule(DistanceLimit(max_distance))


def reach_of(limit: float) -> float:
    """The largest cosine distance to the nearest face of a cluster that a face may join."""
    return min(_FARTHEST, limit + REACH_BEYOND_LIMIT)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterQuery:
    """What is asked for before the faces of a photo are stored: the clusters they may join.

    doubts: how bad the picture of each face is, 0 to 1; empty where all are good.
    """

    embeddings: tuple[Embedding, ...]
    space: ModelSpace
    rule: MatchRule
    doubts: tuple[float, ...] = ()

    def limits(self, people: int) -> tuple[float, ...]:
        """For each face the largest distance to a cluster in a tenant of so many people."""
        doubts = self.doubts or (0.0,) * len(self.embeddings)
        return tuple(self.rule.limit.at(people, doubt) for doubt in doubts)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The clusters that the faces of a photo may join.

    max_distances: for each face the largest distance at which it does, in this tenant, now.
    of_faces: for each face its clusters, nearest first.
    """

    max_distances: tuple[float, ...]
    of_faces: tuple[tuple[ClusterDistance, ...], ...]


def assign_clusters(
    candidates: Sequence[Sequence[ClusterDistance]], max_distances: Sequence[float]
) -> list[ClusterDistance | None]:
    """Give each face of one photo the nearest cluster that no other face of it took.

    One photo shows a person once, so a cluster takes at most one of its faces. Pairs are decided
    nearest first, over the whole photo: the face that fits a cluster best gets it, and the other
    goes to its next best. A face left without a cluster at or under its largest distance gets
    None, which means that it opens a new one.

    Args:
        candidates: for each face its nearest clusters. The rule is exact when each face lists at
            least as many clusters as the photo has faces, or all within its largest distance.
        max_distances: for each face the largest distance that still means "the same person".
    """
    pairs = sorted(
        (candidate.distance, face, position)
        for face, (options, limit) in enumerate(zip(candidates, max_distances, strict=True))
        for position, candidate in enumerate(options)
        if candidate.distance <= limit
    )
    chosen: list[ClusterDistance | None] = [None] * len(candidates)
    taken: set[ClusterId] = set()
    for _, face, position in pairs:
        candidate = candidates[face][position]
        if chosen[face] is None and candidate.cluster_id not in taken:
            chosen[face] = candidate
            taken.add(candidate.cluster_id)
    return chosen
