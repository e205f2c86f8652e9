"""What a search for people may ask."""

from __future__ import annotations

import pytest

from service.domain.errors import ParameterError
from service.domain.search import MAX_AMONG, MAX_PEOPLE, SearchOptions
from service.domain.types import ClusterId


@pytest.mark.parametrize(
    ("parameter", "options"),
    [
        ("limit", {"limit": 0}),
        ("limit", {"limit": MAX_PEOPLE + 1}),
        ("max_distance", {"max_distance": -0.01}),
        ("max_distance", {"max_distance": 2.01}),
        ("max_distance", {"max_distance": float("nan")}),
        ("among", {"among": (ClusterId("a"),) * (MAX_AMONG + 1)}),
    ],
)
def test_an_option_out_of_its_range_is_named(parameter: str, options: dict[str, object]) -> None:
    with pytest.raises(ParameterError) as refused:
        SearchOptions(**options)  # type: ignore[arg-type]
    assert refused.value.parameter == parameter


def test_every_option_may_be_at_its_bounds() -> None:
    for distance in (0.0, 2.0):
        SearchOptions(1, distance, among=())
    SearchOptions(MAX_PEOPLE, among=(ClusterId("a"),) * MAX_AMONG)
