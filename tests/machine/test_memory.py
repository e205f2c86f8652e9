"""What the garbage collector is spared, and what it still finds."""

from __future__ import annotations

import gc
import weakref

import pytest

from service.machine.memory import settle_heap


class Ring:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> object:
    """Leave the process as it was."""
    yield
    gc.unfreeze()


def test_what_lives_is_left_out_of_later_rounds_until_it_is_let_go() -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    settle_heap()
    assert not any(each is ring for each in gc.get_objects())
    del ring
    gc.collect()
    assert gone() is not None
    settle_heap()
    assert gone() is None
