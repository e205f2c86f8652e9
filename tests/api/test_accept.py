"""Which media type answers a request, by its Accept header."""

from __future__ import annotations

import time

import pytest

from service.api.accept import preferred

JSON, OCTETS = "application/json", "application/octet-stream"
OFFERS = (JSON, OCTETS)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (OCTETS, OCTETS),
        ("Application/Octet-Stream", OCTETS),
        # a type that is not wanted
        (f"{OCTETS};q=0", JSON),
        (f"{OCTETS};q=0, */*", JSON),
        (f"{OCTETS};q=0.000, {JSON};q=0.001", JSON),
        (f"{JSON};q=0", JSON),  # accepts nothing that is offered
        (f"{JSON};q=0, */*", OCTETS),
        (f"{JSON};q=0, application/*;q=0.1", OCTETS),
        # types that only look like it
        (f"x{OCTETS}", JSON),
        (f"{OCTETS}2", JSON),
        (f'text/plain;note="{OCTETS}"', JSON),
        (f'text/plain;note=", {OCTETS}, "', JSON),
        (f"{OCTETS};version=1", JSON),
        # weights
        ("text/html, application/json;q=0.5", JSON),
        ("text/html, application/octet-stream;q=0.5", OCTETS),
        (f"{OCTETS};q=0.5, {JSON}", JSON),
        (f"{OCTETS};q=0.5, {JSON};q=0.4", OCTETS),
        (f"{OCTETS};Q=0.3 , {JSON} ; q=0.4", JSON),
        # specific before general, wherever they stand
        (f"*/*;q=0.9, application/*;q=0.1, {OCTETS};q=0.5", OCTETS),
        (f"application/*, {OCTETS};q=0.1", JSON),
        (f"{OCTETS}, */*", OCTETS),
        (f"*/*, {OCTETS}", OCTETS),
        # named with equal weights: the first
        (f"{OCTETS}, {JSON}", OCTETS),
        (f"{JSON}, {OCTETS}", JSON),
        # malformed elements are as if absent
        ("garbage", JSON),
        ("/, ;q=1, a/b/c, */json, =", JSON),
        (f"garbage, {OCTETS}", OCTETS),
        (f"{OCTETS};q=2", JSON),
        (f"{OCTETS};q=0.1234", JSON),
        (f"{OCTETS};q", JSON),
        (f"{OCTETS};q=-1, {JSON};q=nan", JSON),
        (f',,, {OCTETS},, "', OCTETS),
        ('"\\', JSON),
        (f"{OCTETS};;q=0.7;", OCTETS),
    ],
)
def test_the_type_with_the_highest_weight_answers(accept: str, expected: str) -> None:
    assert preferred(accept, OFFERS) == expected


@pytest.mark.parametrize(
    "text",
    ['"' * 60_000, '\\",' * 20_000, ";" * 60_000, "a/b;q=1," * 8_000],
    ids=["quotes", "escapes", "semicolons", "ranges"],
)
def test_long_headers_take_no_long_time(text: str) -> None:
    began = time.process_time()
    assert preferred(text, OFFERS) == JSON
    assert time.process_time() - began < 1.0
