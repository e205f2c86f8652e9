"""A failure that several callers are told of: the same for all, and an instance for each."""

from __future__ import annotations

import traceback

import pytest

from service.batching.failures import own_instance
from service.domain.errors import (
    DeadlineError,
    NotFoundError,
    OverloadedError,
    StoreUnavailableError,
)


class CountedError(Exception):
    """Takes other arguments than those that it hands on."""

    def __init__(self, first: int, *, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.second = second


class StubbornError(Exception):
    """Cannot be made of its arguments."""

    def __new__(cls, *, secret: str) -> StubbornError:
        return super().__new__(cls)

    def __init__(self, *, secret: str) -> None:
        super().__init__("no", "way")


def group() -> ExceptionGroup:
    return ExceptionGroup("several", [ValueError("one"), KeyError("two")])


def undecodable() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no start byte")


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (DeadlineError("too late"), {}),
        (NotFoundError("image"), {"kind": "image"}),
        (OverloadedError("full", retry_after_s=7), {"retry_after_s": 7}),
        (StoreUnavailableError("away", outcome_unknown=True), {"outcome_unknown": True}),
        (CountedError(1, second=2), {"second": 2}),
        (FileNotFoundError(2, "no such file", "name"), {"errno": 2, "filename": "name"}),
        (undecodable(), {"object": b"\xff", "reason": "no start byte"}),
        (group(), {"message": "several"}),
        (KeyboardInterrupt(), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_of_an_error_is_in_its_other_instance(
    error: BaseException, attributes: dict[str, object]
) -> None:
    copy = own_instance(error)
    assert copy is not error
    assert type(copy) is type(error)
    assert (str(copy), repr(copy), copy.args) == (str(error), repr(error), error.args)
    assert {name: getattr(copy, name) for name in attributes} == attributes


def test_cause_context_and_traceback_are_the_same_and_grow_apart() -> None:
    def fail() -> None:
        try:
            {}["missing"]
        except KeyError as error:
            raise CountedError(1, second=2) from error

    with pytest.raises(CountedError) as caught:
        fail()
    error = caught.value
    error.add_note("noted before")
    copy = own_instance(error)
    assert (copy.__cause__, copy.__context__) == (error.__cause__, error.__context__)
    assert copy.__suppress_context__
    assert traceback.format_exception(copy) == traceback.format_exception(error)
    before = traceback.format_exception(error)
    with pytest.raises(CountedError) as again:
        raise copy
    again.value.add_note("noted after")
    assert traceback.format_exception(error) == before


def test_an_error_that_cannot_be_made_again_is_not_lost() -> None:
    error = StubbornError(secret="x")
    assert own_instance(error) is error
