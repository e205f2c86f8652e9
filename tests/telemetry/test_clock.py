"""The stage clock takes each duration once, whatever comes of the stage."""

from __future__ import annotations

import re

import pytest

from service.telemetry import Metrics, StageClock


def _count(metrics: Metrics, stage: str) -> float | None:
    return metrics.registry.get_sample_value("facette_stage_seconds_count", {"stage": stage})


def test_a_stage_is_told_in_the_header_and_in_the_metrics() -> None:
    metrics = Metrics()
    clock = StageClock(metrics)
    with clock.stage("decode"):
        pass
    told = re.fullmatch(r"decode;dur=(\d+\.\d\d)", clock.server_timing())
    assert told is not None
    total = metrics.registry.get_sample_value("facette_stage_seconds_sum", {"stage": "decode"})
    assert total == clock.seconds["decode"]
    assert float(told[1]) == pytest.approx(total * 1e3, abs=0.0051)


def test_a_stage_entered_again_adds_up_in_the_header() -> None:
    metrics = Metrics()
    clock = StageClock(metrics)
    for _ in range(3):
        with clock.stage("detect"):
            pass
    assert list(clock.seconds) == ["detect"]
    assert _count(metrics, "detect") == 3
    total = metrics.registry.get_sample_value("facette_stage_seconds_sum", {"stage": "detect"})
    assert total == pytest.approx(clock.seconds["detect"])


def test_stages_are_told_in_the_order_they_began_to_end() -> None:
    clock = StageClock()
    for name in ("queue", "decode", "embed"):
        with clock.stage(name):
            pass
    names = [part.split(";")[0] for part in clock.server_timing().split(", ")]
    assert names == ["queue", "decode", "embed"]


def test_a_stage_that_fails_is_timed_and_its_error_goes_on() -> None:
    metrics = Metrics()
    clock = StageClock(metrics)
    with pytest.raises(ValueError, match="broken"), clock.stage("decode"):
        raise ValueError("broken")
    assert _count(metrics, "decode") == 1
    assert "decode" in clock.seconds


def test_a_request_without_stages_has_an_empty_header() -> None:
    assert StageClock().server_timing() == ""
