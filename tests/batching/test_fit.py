"""The online fit of durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.fit import LinearFit


def fitted(*points: tuple[float, float], decay: float = 0.02) -> LinearFit:
    fit = LinearFit(decay)
    for size, seconds in points:
        fit.observe(size, seconds)
    return fit


@given(slope=st.floats(0, 10), intercept=st.floats(0, 10))
def test_a_line_is_found_again(slope: float, intercept: float) -> None:
    fit = fitted(*((n, slope * n + intercept) for n in (1, 8, 3, 5, 2)))
    assert fit.predict(20) == pytest.approx(slope * 20 + intercept, rel=1e-3, abs=1e-6)


def test_without_observations_nothing_is_predicted() -> None:
    assert not LinearFit().observed
    assert LinearFit().predict(8) == 0.0


def test_one_size_alone_is_taken_as_proportional() -> None:
    assert fitted((4, 0.2), (4, 0.2)).predict(8) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), min_size=1, max_size=20))
def test_no_prediction_is_negative_and_none_falls_with_size(
    points: list[tuple[float, float]],
) -> None:
    fit = fitted(*points)
    assert fit.predict(0) >= 0
    assert fit.predict(1) <= fit.predict(64)


def test_what_is_recent_counts_more() -> None:
    fit = fitted(*[(1, 1.0), (2, 2.0)] * 50, *[(1, 3.0), (2, 6.0)] * 200)
    assert fit.predict(1) == pytest.approx(3.0, rel=0.05)
