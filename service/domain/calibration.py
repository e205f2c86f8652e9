"""Where the limit of a match should be in a tenant, by what people answered about doubtful pairs.

People are asked about pairs because of their distance. So their answers say how often a pair of
that distance is one person; they do not say how many strangers there are at that distance, since
the far ones are never asked about. A logistic regression on the logarithm of R, the share of
strangers within a distance (DistanceLimit.decades), is Platt's calibration of the similarity
("Probabilistic outputs for support vector machines", 1999): the similarity itself is the line with
the intercept 0 and the slope 1. The limit is where the line has the wanted certainty. Answers about
one person depend on each other, so its uncertainty is found by drawing people, not pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.domain.matching import LEAST_FACTOR, MOST_FACTOR

FEWEST_OF_A_KIND = 30
"""Pairs of one person, and as many of two people, that it takes to learn a limit."""
FEWEST_PEOPLE = 10
"""People whom the pairs must be about."""

_LN_10 = math.log(10)
# The slope that the similarity claims, and how far from it slopes are expected; the intercept is
# left free.
_EXPECTED = np.array([0.0, 1.0])
_PRECISIONS = np.array([10.0, 0.5]) ** -2
_LEAST_SLOPE = 0.2
_MOST_STEPS, _HALVINGS, _SMALL_STEP = 30, 30, 1e-4
_RESAMPLES, _RESAMPLES_OF_A_FOLD = 500, 200
_FOLDS = 10
_INTERVAL = (0.025, 0.975)
_Z = 1.959964  # of an interval of 95 %
# A pair far out, where people erred or two are twins, weighs no more than one as far as this.
_FARTHEST_DECADES = (-2.0, 3.0)
# Pairs farther out than nearly all others are no ground for a limit there.
_BORDER = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredPairs:
    """What people said about pairs.

    decades: float64 [n], of the distances, by the limit of a tenant whose factor is 1.
    same: bool [n], whether the pair is one person.
    people: int64 [n], whom a pair is about; pairs of equal numbers depend on each other.
    """

    decades: NDArray[np.float64]
    same: NDArray[np.bool_]
    people: NDArray[np.int64]

    @property
    def lacks(self) -> str:
        """What there is too little of to learn from, in words; empty where there is enough."""
        confirmed = int(np.count_nonzero(self.same))
        for number, fewest, noun in (
            (confirmed, FEWEST_OF_A_KIND, "confirmed pairs"),
            (len(self.same) - confirmed, FEWEST_OF_A_KIND, "rejected pairs"),
            (len(np.unique(self.people)), FEWEST_PEOPLE, "people that the pairs are about"),
        ):
            if number < fewest:
                return f"there are {number} {noun}, and it takes {fewest}"
        return ""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of pairs, with its interval of 95 % (Wilson's)."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """0 to 1; 0 of nothing."""
        return self.part / self.whole if self.whole else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper end; all of 0 to 1 where there are no pairs."""
        if not self.whole:
            return 0.0, 1.0
        share, spread = self.value, _Z**2 / self.whole
        middle = share + spread / 2
        half = _Z * math.sqrt(share * (1 - share) / self.whole + spread / (4 * self.whole))
        return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a limit makes of the pairs.

    false_joins: of the pairs within it those of two people. missed_joins: of the pairs of one
    person those beyond it.
    """

    false_joins: Share
    missed_joins: Share


@dataclass(frozen=True, slots=True)
class Calibration:
    """A factor of the share of strangers that the limit of a match admits, learned from pairs.

    before, after: the factor that the tenant has and the one that it should have; equal where the
        answers do not speak clearly against it.
    best, interval: the factor by the line alone, and the 95 % of it by drawing people.
    certainty: how likely a pair just at the present limit is one person, and its interval.
    outcome_before, outcome_after: after is counted with limits that were learned from other people
        than the pair's, so that it is no better than it will be.
    reaches: the factors between which there are answers; a limit is not learned beyond.
    """

    before: float
    after: float
    best: float
    interval: tuple[float, float]
    certainty: float
    certainty_interval: tuple[float, float]
    outcome_before: Outcome
    outcome_after: Outcome
    reaches: tuple[float, float]


def calibrate(pairs: AnsweredPairs, factor: float, sure: float) -> Calibration:
    """Learn a factor.

    The limit is loosened as far as it is sure that it may be, by the lower end of the interval:
    a false join is dearer than a question. It is tightened to the best estimate, where the interval
    has not the present one.

    Args:
        pairs: of which nothing is lacking.
        factor: of the tenant now.
        sure: how likely a pair just at the limit should be one person; above 0.5 and below 1.
    """
    now = math.log10(factor)
    rng = np.random.default_rng(0)  # the same answers give the same limit
    learned = _learn(pairs, now, sure, _RESAMPLES, rng)
    return Calibration(
        factor,
        factor if learned.limit == now else _factor(learned.limit),
        _factor(learned.best),
        (_factor(learned.interval[0]), _factor(learned.interval[1])),
        learned.certainty,
        learned.certainty_interval,
        _outcome(pairs, np.full(len(pairs.same), now)),
        _outcome(pairs, _limits_by_others(pairs, now, sure, rng)),
        (_factor(learned.reaches[0]), _factor(learned.reaches[1])),
    )


@dataclass(frozen=True, slots=True)
class _Learned:
    """Positions of limits, in decades."""

    limit: float
    best: float
    interval: tuple[float, float]
    certainty: float
    certainty_interval: tuple[float, float]
    reaches: tuple[float, float]


def _learn(
    pairs: AnsweredPairs, now: float, sure: float, resamples: int, rng: np.random.Generator
) -> _Learned:
    _, groups = np.unique(pairs.people, return_inverse=True)
    number = int(groups.max()) + 1
    drawn = rng.multinomial(number, np.full(number, 1 / number), size=resamples)
    line = _lines(pairs, np.ones((1, len(groups))), _EXPECTED)
    lines = np.concatenate([line, _lines(pairs, drawn[:, groups].astype(np.float64), line[0])])
    wanted = (lines[:, 0] - math.log(sure / (1 - sure))) / (lines[:, 1] * _LN_10)
    certain = 1 / (1 + np.exp(-(lines[:, 0] - lines[:, 1] * now * _LN_10)))
    low, high = np.quantile(wanted[1:], _INTERVAL).tolist()
    least, most = np.quantile(pairs.decades, (_BORDER, 1 - _BORDER)).tolist()
    reaches = min(least, now), max(most, now)
    limit = now
    if low > now:
        limit = min(low, reaches[1])
    elif high < now:
        limit = max(float(wanted[0]), reaches[0])
    return _Learned(
        limit,
        float(wanted[0]),
        (low, high),
        float(certain[0]),
        tuple(np.quantile(certain[1:], _INTERVAL).tolist()),
        reaches,
    )


def _lines(
    pairs: AnsweredPairs, weights: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intercepts and slopes of logistic regressions, most likely with their priors: [n, 2].

    Newton's method with steps that are halved until they help, for all rows of weights at once.

    Args:
        weights: [n, pairs], how often each pair counts.
        start: [2], where the search begins.
    """
    nearness = -_LN_10 * np.clip(pairs.decades, *_FARTHEST_DECADES)
    sign = np.where(pairs.same, 1.0, -1.0)
    lines = np.tile(start, (len(weights), 1))

    def loss(tried: NDArray[np.float64]) -> NDArray[np.float64]:
        at = tried[:, :1] + tried[:, 1:] * nearness
        penalty = (_PRECISIONS * (tried - _EXPECTED) ** 2).sum(axis=1) / 2
        lost: NDArray[np.float64] = np.einsum("np,np->n", weights, np.logaddexp(0, -sign * at))
        lost += penalty
        return lost

    lost = loss(lines)
    for _ in range(_MOST_STEPS):
        likely = 1 / (1 + np.exp(-(lines[:, :1] + lines[:, 1:] * nearness)))
        off = weights * (pairs.same - likely)
        steep = weights * likely * (1 - likely)
        slopes = np.stack([off.sum(axis=1), off @ nearness], axis=1)
        slopes -= _PRECISIONS * (lines - _EXPECTED)
        cross = steep @ nearness
        curves = np.empty((len(lines), 2, 2))
        curves[:, 0, 0] = steep.sum(axis=1) + _PRECISIONS[0]
        curves[:, 1, 1] = steep @ nearness**2 + _PRECISIONS[1]
        curves[:, 0, 1] = curves[:, 1, 0] = cross
        step = np.linalg.solve(curves, slopes[:, :, np.newaxis])[:, :, 0]
        if np.abs(step).max() < _SMALL_STEP:
            break
        for _ in range(_HALVINGS):
            worse = loss(lines + step) > lost
            if not worse.any():
                break
            step[worse] /= 2
        lines = lines + step
        lost = loss(lines)
    lines[:, 1] = np.maximum(lines[:, 1], _LEAST_SLOPE)
    return lines


def _limits_by_others(
    pairs: AnsweredPairs, now: float, sure: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """For each pair the limit that is learned without its people: float64 [n], decades."""
    people, groups = np.unique(pairs.people, return_inverse=True)
    folds = (rng.permutation(len(people)) % _FOLDS)[groups]
    limits = np.full(len(groups), now)
    for fold in range(_FOLDS):
        rest = folds != fold
        others = replace(
            pairs, decades=pairs.decades[rest], same=pairs.same[rest], people=pairs.people[rest]
        )
        if 0 < np.count_nonzero(others.same) < len(others.same):
            learned = _learn(others, now, sure, _RESAMPLES_OF_A_FOLD, rng)
            limits[~rest] = learned.limit
    return limits


def _outcome(pairs: AnsweredPairs, limits: NDArray[np.float64]) -> Outcome:
    within = pairs.decades <= limits
    return Outcome(
        Share(int(np.count_nonzero(within & ~pairs.same)), int(np.count_nonzero(within))),
        Share(int(np.count_nonzero(~within & pairs.same)), int(np.count_nonzero(pairs.same))),
    )


def _factor(decades: float) -> float:
    return float(min(max(10.0**decades, LEAST_FACTOR), MOST_FACTOR))
