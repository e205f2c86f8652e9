"""The match rule: which cluster each face of a photo joins.

A face joins a person, not a neighbour: it is compared with the sum of the vectors of a cluster, so
one face that resembles another person cannot join two people. A small distance counts for less
between faces that resemble many people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.domain.asking import chance_of_a_stranger, chance_of_one_person
from service.domain.types import ClusterDistance, ClusterId, Doubt, Embedding, ModelSpace

F = TypeVar("F", np.float32, np.float64)

# Strength of the evidence of one face: one says less about a person than many. The cosine is that
# of a two-covariance model, which shrinks a mean by its uncertainty (Brummer and de Villiers, "The
# speaker partitioning problem", Odyssey 2010).
EVIDENCE = 0.2
# A face joins only clusters with a face within its largest distance plus this. So the search for
# nearest faces returns every cluster that it may join.
REACH_BEYOND_LIMIT = 0.14
# Bad images of strangers are closer than good ones, so the limit of a face of low quality admits a
# smaller share of strangers: this fraction of the usual share at the lowest matchable score, rising
# to all of it over the following range of scores.
_DOUBTED_FMR = 0.05
_DOUBTED_ABOVE = 0.2
_FARTHEST = 2.0
# Without a curve: the decades by which the share of strangers falls from the limit to distance 0.
_DECADES_WITHIN_LIMIT = 6.0
_LEAST_LIMIT = 1e-6
LEAST_FACTOR, MOST_FACTOR = 1e-4, 1e4
"""Bounds of a tenant's factor of the share of strangers that its limit admits."""
# A match is asked about below this similarity, and a cluster that a face did not join above that.
_WEAK_SIMILARITY = 0.75
_LEAST_SIMILARITY = 0.1
_MOST_DECADES = 300.0  # more are no floating-point number


@dataclass(frozen=True, slots=True)
class FalseMatchCurve:
    """The rate of false matches by distance.

    distances: ascending, two or more. rates: for each, the share of pairs of strangers within it,
    above 0 and ascending.
    """

    distances: tuple[float, ...]
    rates: tuple[float, ...]

    def distance(self, rate: float) -> float:
        """The largest distance with at most this rate of false matches.

        The logarithm of the rate is interpolated linearly. Below the lowest measured rate the slope
        of the last decade continues: that part is a model, not a measurement. Above the highest
        rate the result is the largest distance of the curve.
        """
        logs = [math.log10(each) for each in self.rates]
        wanted = math.log10(rate)
        if wanted >= logs[0]:
            return float(np.interp(wanted, logs, self.distances))
        decade = _first_decade(logs)
        slope = (self.distances[decade] - self.distances[0]) / (logs[decade] - logs[0])
        return max(0.0, self.distances[0] + (wanted - logs[0]) * slope)

    def log_rate(self, distance: float) -> float:
        """The decimal logarithm of the rate of false matches within any distance, also below 0.

        It is interpolated linearly. Beyond either end of the curve the slope of the decade at that
        end continues, so that the result ascends where the rate itself is 0 or 1: it is there to
        compare distances, not to count strangers.
        """
        logs = [math.log10(each) for each in self.rates]
        if distance < self.distances[0]:
            near, far, end = 0, _first_decade(logs), 0
        elif distance > self.distances[-1]:
            near, far, end = _last_decade(logs), len(logs) - 1, -1
        else:
            return float(np.interp(distance, self.distances, logs))
        slope = (logs[far] - logs[near]) / (self.distances[far] - self.distances[near])
        return logs[end] + (distance - self.distances[end]) * slope


def _first_decade(logs: Sequence[float]) -> int:
    """The position at which the first decade of a curve ends."""
    return next((n for n, log in enumerate(logs) if log >= logs[0] + 1), len(logs) - 1)


def _last_decade(logs: Sequence[float]) -> int:
    """The position at which the last decade of a curve begins."""
    return next((n for n in range(len(logs) - 1, 0, -1) if logs[n] <= logs[-1] - 1), 0)


@dataclass(frozen=True, slots=True)
class DistanceLimit:
    """The largest distance at which a face joins a cluster.

    Attributes:
        max_distance: the limit when there is no curve.
        curve: of the embedding; None when none was measured.
        max_fmr: bound of the share of strangers within the limit.
        max_wrong_joins: bound of the chance that a stranger is within the limit of any of the N
            people of a tenant, 1 - (1 - FMR)^N; the limit falls as the tenant grows. 1 disables it.
    """

    max_distance: float
    curve: FalseMatchCurve | None = None
    max_fmr: float = 1.0
    max_wrong_joins: float = 1.0

    def at(self, people: int, doubt: float = 0.0, factor: float = 1.0) -> float:
        """The limit in a tenant with this number of people.

        Args:
            doubt: 0 to 1, of a face of low quality: with a curve, its limit is smaller.
            factor: of the tenant; so many times the usual share of strangers is admitted.
        """
        if self.curve is None:
            decades = math.log10(factor) / _DECADES_WITHIN_LIMIT
            return min(_FARTHEST, max(0.0, self.max_distance * (1 + decades)))
        return self.curve.distance(self.rate_at(people) * _DOUBTED_FMR**doubt * factor)

    def similarity(self, distance: float, limit: float) -> float:
        """How similar two faces at a distance are: 0 to 1, falling with the distance.

        With R the share of strangers' pairs within a distance (FalseMatchCurve.log_rate), the
        similarity is R(limit) / (R(limit) + R(distance)). It is a logistic function of log R: 0.5
        at the limit, 10/11 where a tenth as many strangers are as near, 1/11 where ten times as
        many are. Without a curve R is taken to grow tenfold over each sixth of the limit, about as
        the curves of measured models do.

        Args:
            limit: the largest distance of a match, whose similarity is 0.5.
        """
        decades = self.decades(distance, limit)
        return float(1 / (1 + 10 ** min(max(decades, -_MOST_DECADES), _MOST_DECADES)))

    def decades(self, distance: float, limit: float) -> float:
        """The decimal logarithm of R(distance) / R(limit), as `similarity` takes R; 0 at the limit.

        As a power of ten it is the factor by which `at` has the distance for its limit.
        """
        if self.curve is None:
            return (distance - limit) * _DECADES_WITHIN_LIMIT / max(limit, _LEAST_LIMIT)
        return self.curve.log_rate(distance) - self.curve.log_rate(limit)

    def rate_at(self, people: int) -> float:
        """The share of strangers that the limit admits in a tenant with this number of people."""
        if self.max_wrong_joins >= 1:
            return self.max_fmr
        chance = -math.expm1(math.log1p(-self.max_wrong_joins) / max(1, people))
        return min(self.max_fmr, chance)


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """A cohort that measures how dense the space is around a vector.

    A network places people of a kind that it has seen rarely close together, where a distance says
    little. So distances are normalised by a cohort, as in speaker recognition (Auckenthaler, Carey
    and Lloyd-Thomas, Digital Signal Processing 10, 2000); its members are means over groups of
    people.

    Attributes:
        centres: float32 [k, dimension], unit vectors.
        temperature: of the soft maximum over the cosines to the centres.
        typical: the mean of that maximum; it makes the density of an average face 0.
        weight: factor of the mean density of both sides, which is added to a distance.
    """

    centres: NDArray[np.float32]
    temperature: float
    typical: float
    weight: float

    def density(self, vectors: NDArray[F]) -> NDArray[F]:
        """The density around unit vectors: 0 on average, up to about 0.2.

        Args:
            vectors: float64 or float32 [n, dimension].

        Returns:
            [n], in the precision of the vectors.
        """
        cosines = vectors @ self.centres.T.astype(vectors.dtype, copy=False)
        heat = np.log(np.mean(np.exp(cosines / self.temperature), axis=1))
        density: NDArray[F] = self.temperature * heat - self.typical
        return density


@dataclass(frozen=True, slots=True, eq=False)
class MatchRule:
    """The distance of a face to a cluster, and its limit.

    The distance to a cluster of one face is the cosine distance of both vectors, plus, with a
    cohort, `weight` times the mean of their densities. The distance to a cluster of more faces is
    the one to the direction of their sum; it decreases a little with their number:
    1 - c sqrt(1 + E) / sqrt(1 + E n / |s|^2), where s is the sum of n unit vectors, c the cosine to
    it and E `EVIDENCE`.
    """

    limit: DistanceLimit
    cohort: Cohort | None = None

    def distances(self, embedding: Embedding, sums: NDArray[F], counts: NDArray[F]) -> NDArray[F]:
        """The distances of a face to clusters.

        Args:
            embedding: float32 [dimension], a unit vector.
            sums: [n, dimension], the sums of the clusters' unit vectors: float64, or float32 where
                only the order of the distances matters.
            counts: [n], the number of vectors in each sum, in the same precision.

        Returns:
            [n], in that precision; most are between 0 and 2.
        """
        probe = embedding.astype(sums.dtype, copy=False)
        squares = np.einsum("nd,nd->n", sums, sums)
        distances: NDArray[F] = 1 - (sums @ probe) * _scale(squares, counts)
        if self.cohort is None:
            return distances
        lengths = np.maximum(np.sqrt(squares), 1e-12)
        both = np.concatenate([probe[np.newaxis], sums / lengths[:, np.newaxis]])
        density = self.cohort.density(both)
        shifted: NDArray[F] = distances + self.cohort.weight * (density[0] + density[1:]) / 2
        return shifted

    def all_distances(
        self, embeddings: NDArray[F], sums: NDArray[F], counts: NDArray[F]
    ) -> NDArray[F]:
        """The distances of many faces to many clusters, the same ones as `distances` gives.

        Args:
            embeddings: [m, dimension], unit vectors.
            sums, counts: as in `distances`.

        Returns:
            [m, n], in the precision of the arguments.
        """
        squares = np.einsum("nd,nd->n", sums, sums)
        distances: NDArray[F] = 1 - (embeddings @ sums.T) * _scale(squares, counts)
        if self.cohort is None:
            return distances
        lengths = np.maximum(np.sqrt(squares), 1e-12)
        density = self.cohort.density(sums / lengths[:, np.newaxis])
        own = self.cohort.density(embeddings)
        distances += self.cohort.weight / 2 * (own[:, np.newaxis] + density)
        return distances

    def distances_between(
        self,
        total: NDArray[np.float64],
        count: float,
        sums: NDArray[np.float64],
        counts: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """The distances of a cluster to others: by the mean cosine of all pairs of their faces.

        Each side is shrunk by its uncertainty, as the cluster is in `distances`, which this is for
        a cluster of one face.

        Args:
            total: [dimension], the sum of the cluster's unit vectors. count: their number.
            sums: [n, dimension], those of the others. counts: [n], their numbers.

        Returns:
            [n].
        """
        length = max(float(np.linalg.norm(total)), 1e-12)
        shrunk = length * math.sqrt((1 + EVIDENCE) / (length**2 + EVIDENCE * count))
        squares = np.einsum("nd,nd->n", sums, sums)
        cosines = sums @ (total / length)
        distances: NDArray[np.float64] = 1 - cosines * _scale(squares, counts) * shrunk
        if self.cohort is None:
            return distances
        lengths = np.maximum(np.sqrt(squares), 1e-12)
        both = np.concatenate([(total / length)[np.newaxis], sums / lengths[:, np.newaxis]])
        density = self.cohort.density(both)
        shifted: NDArray[np.float64] = (
            distances + self.cohort.weight * (density[0] + density[1:]) / 2
        )
        return shifted

    def distance_to_face(self, embedding: Embedding, distance: float) -> float:
        """The distance to a near face whose density is taken to be that of the embedding.

        Args:
            embedding: float32 [dimension], a unit vector.
            distance: the cosine distance of both faces.
        """
        if self.cohort is None:
            return distance
        density = self.cohort.density(embedding.astype(np.float64)[np.newaxis])
        return distance + self.cohort.weight * float(density[0])

    def doubt(
        self, match: ClusterDistance | None, near: Sequence[ClusterDistance], limit: float
    ) -> Doubt | None:
        """What a person may be asked about a face: whether a weak match is right, or a near miss.

        Args:
            match: the cluster that the face joins; None where it opens one.
            near: the clusters of its neighbourhood, nearest first.
            limit: the largest distance of a match.
        """
        if match is None:
            if not near or near[0].distance <= limit:  # the cluster has another face of the photo
                return None
            similarity = self.limit.similarity(near[0].distance, limit)
            if similarity < _LEAST_SIMILARITY:
                return None
            miss = near[0]
            chance = chance_of_one_person(similarity, 1, miss.faces)
            return Doubt(miss.cluster_id, miss.distance, None, similarity, miss.faces, chance)
        similarity = self.limit.similarity(match.distance, limit)
        if similarity >= _WEAK_SIMILARITY:
            return None
        other = next((each for each in near if each.cluster_id != match.cluster_id), None)
        return Doubt(
            None if other is None else other.cluster_id,
            match.distance,
            None if other is None else other.distance,
            similarity,
            match.faces,
            chance_of_a_stranger(similarity, match.faces),
        )


def _scale(squares: NDArray[F], counts: NDArray[F]) -> NDArray[F]:
    """Factors of the cosines' numerators, for sums of `counts` vectors with squared lengths."""
    scale: NDArray[F] = np.sqrt((1 + EVIDENCE) / (squares + EVIDENCE * counts))
    return scale


def as_stored(embedding: Embedding) -> Embedding:
    """An embedding as the database keeps it, rounded to half precision: float32 [dimension]."""
    stored: Embedding = np.asarray(embedding, np.float16).astype(np.float32)
    return stored


def doubt_of(score: float, min_score: float) -> float:
    """The doubt of a face, by its quality: 0 for a good face, 1 for a bad one.

    Args:
        score: of the quality of the face. min_score: the lowest score of a matchable face.
    """
    return min(1.0, max(0.0, (min_score + _DOUBTED_ABOVE - score) / _DOUBTED_ABOVE))


def fixed_rule(max_distance: float) -> MatchRule:
    """A rule with one limit for tenants of all sizes, and without a cohort."""
    return MatchRule(DistanceLimit(max_distance))


def reach_of(limit: float) -> float:
    """The largest cosine distance to the nearest face of a cluster within the limit."""
    return min(_FARTHEST, limit + REACH_BEYOND_LIMIT)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterQuery:
    """The query for the clusters that the faces of a photo may join.

    doubts: of each face, 0 to 1; empty when all are 0.
    """

    embeddings: tuple[Embedding, ...]
    space: ModelSpace
    rule: MatchRule
    doubts: tuple[float, ...] = ()

    def limits(self, people: int, factor: float) -> tuple[float, ...]:
        """The limit of each face in a tenant with this number of people and this factor."""
        doubts = self.doubts or (0.0,) * len(self.embeddings)
        return tuple(self.rule.limit.at(people, doubt, factor) for doubt in doubts)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The clusters that the faces of a photo may join.

    max_distances: the limit of each face in this tenant at this moment.
    of_faces: the clusters of each face, nearest first.
    """

    max_distances: tuple[float, ...]
    of_faces: tuple[tuple[ClusterDistance, ...], ...]


def assign_clusters(
    candidates: Sequence[Sequence[ClusterDistance]], max_distances: Sequence[float]
) -> list[ClusterDistance | None]:
    """Assign each face of one photo to its nearest free cluster.

    One photo shows a person once, so a cluster takes at most one of its faces. Pairs of face and
    cluster are decided by ascending distance: the closest face gets the cluster, and another face
    goes to its next best one. A face without a cluster within its limit gets None: it opens a new
    cluster.

    Args:
        candidates: for each face its nearest clusters. The rule is exact when each face lists at
            least as many clusters as the photo has faces, or all within its largest distance.
        max_distances: the limit of each face.
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
