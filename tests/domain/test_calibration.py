"""The limit that is learned from answers: right where the truth is known, and careful where not."""

from __future__ import annotations

import numpy as np
import pytest

from service.domain.calibration import AnsweredPairs, Share, calibrate

# A pair at the limit of factor 1 is one person with this chance, by shift in decades.
NINETEEN = np.log10(19)


def answers(shift: float, number: int, seed: int = 1, people: int = 0) -> AnsweredPairs:
    """Answers where the share of one person is 1 / (1 + 10 ** (decades - shift))."""
    rng = np.random.default_rng(seed)
    decades = rng.uniform(-1, 2, number)
    same = rng.random(number) < 1 / (1 + 10 ** (decades - shift))
    return AnsweredPairs(decades, same, rng.integers(0, people or number // 3, number))


@pytest.mark.parametrize("shift", [0.5, NINETEEN, 2.5])
def test_a_known_truth_is_within_the_interval_and_moves_the_limit(shift: float) -> None:
    truth = 10 ** (shift - NINETEEN)
    found = calibrate(answers(shift, 600), 1.0, 0.95)
    assert found.interval[0] < truth < found.interval[1]
    assert found.interval[1] < 4 * found.interval[0]
    if shift == NINETEEN:  # as the limit already is
        assert found.after == found.before
        assert found.certainty_interval[0] < 0.95 < found.certainty_interval[1]
    elif truth < 1:
        assert found.after == found.best < 1
        assert found.certainty_interval[1] < 0.95
        assert found.outcome_after.false_joins.value < found.outcome_before.false_joins.value
    else:
        assert 1 < found.after == found.interval[0] < found.best
        assert found.outcome_after.missed_joins.value < found.outcome_before.missed_joins.value
        assert found.outcome_after.false_joins.interval[1] < 0.05


def test_a_limit_is_not_learned_beyond_the_answers() -> None:
    found = calibrate(answers(-0.5, 400), 1.0, 0.95)
    assert found.best < found.reaches[0] == found.after < 1
    beyond = answers(1.28, 400)
    beyond = AnsweredPairs(np.abs(beyond.decades) + 0.3, beyond.same, beyond.people)
    assert calibrate(beyond, 1.0, 0.999).after == 1.0  # nobody was asked about nearer pairs


def test_a_second_calibration_changes_nothing() -> None:
    said = answers(0.5, 300)
    first = calibrate(said, 1.0, 0.95)
    again = calibrate(said, first.after, 0.95)
    assert again.after == again.before == first.after


def test_answers_about_few_people_say_less() -> None:
    many, few = (calibrate(answers(0.5, 300, people=each), 1.0, 0.95) for each in (300, 10))
    repeated = answers(0.5, 60, people=20)
    alike = AnsweredPairs(*(np.tile(each, 5) for each in (repeated.decades, repeated.same,
                                                          repeated.people)))  # fmt: skip
    wide, narrow = (np.ptp(np.log(calibrate(each, 1.0, 0.95).interval)) for each in
                    (alike, answers(0.5, 300)))  # fmt: skip
    assert wide > 1.5 * narrow
    assert np.isfinite([*many.interval, *few.interval]).all()


def test_answers_without_a_mistake_are_no_proof_of_all() -> None:
    """Where distance tells people apart without error, a line is as steep as one expects."""
    decades = np.linspace(-1, 2, 120)
    found = calibrate(AnsweredPairs(decades, decades < 0.8, np.arange(120)), 1.0, 0.95)
    assert 1 < found.after < 10**0.8
    assert found.outcome_after.false_joins.part == 0
    assert found.outcome_after.false_joins.interval[1] > 0


@pytest.mark.parametrize(
    ("same", "different", "people", "lacking"),
    [
        (29, 90, 50, "29 confirmed pairs"),
        (90, 29, 50, "29 rejected pairs"),
        (30, 30, 9, "9 people"),
        (30, 30, 10, ""),
    ],
)
def test_too_little_is_said_to_be_so(same: int, different: int, people: int, lacking: str) -> None:
    number = same + different
    pairs = AnsweredPairs(np.zeros(number), np.arange(number) < same, np.arange(number) % people)
    assert pairs.lacks.startswith(f"there are {lacking}") if lacking else not pairs.lacks


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(0, 20, 0.0, 0.1611), (10, 20, 0.2993, 0.7007), (20, 20, 0.8389, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_of_a_share_is_wilsons(part: int, whole: int, low: float, high: float) -> None:
    assert Share(part, whole).interval == pytest.approx((low, high), abs=1e-4)
