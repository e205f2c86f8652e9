"""Pictures in memory are bounded in bytes and in age, and those of tenants are apart."""

from __future__ import annotations

import asyncio

from service.domain.types import ImageId, TenantId
from service.usecases.shown import ShownPictures

TENANT, OTHER = TenantId("tenant"), TenantId("other")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_oldest_pictures_make_room_for_the_newest() -> None:
    shown = ShownPictures(max_bytes=1000)
    for number in range(5):
        shown.keep(TENANT, ImageId(str(number)), "tag", bytes([number]) * 300)
    kept = [shown.take(TENANT, ImageId(str(number)), "tag") for number in range(5)]
    assert kept == [None, None, *(bytes([number]) * 300 for number in (2, 3, 4))]
    assert shown.size_bytes == 900
    shown.keep(TENANT, ImageId("4"), "tag", b"shorter")
    assert shown.size_bytes == 607
    shown.keep(TENANT, ImageId("4"), "larger than all", bytes(1001))
    assert shown.size_bytes == 0


async def test_a_picture_of_one_tenant_is_none_of_another_and_none_under_another_tag() -> None:
    shown = ShownPictures()
    shown.keep(TENANT, ImageId("1"), "tag", b"mine")
    assert shown.take(OTHER, ImageId("1"), "tag") is None
    assert shown.take(TENANT, ImageId("1"), "another") is None
    shown.keep(OTHER, ImageId("1"), "tag", b"theirs")
    shown.forget(OTHER, ImageId("1"))
    shown.forget(OTHER, ImageId("2"))
    assert shown.take(TENANT, ImageId("1"), "tag") == b"mine"
    assert (shown.take(OTHER, ImageId("1"), "tag"), shown.size_bytes) == (None, 4)


async def test_a_picture_is_kept_for_its_time_and_not_longer_by_being_shown() -> None:
    clock = Clock()
    shown = ShownPictures(max_age_s=60, clock=clock)
    shown.keep(TENANT, ImageId("1"), "tag", b"first")
    clock.now = 30
    shown.keep(TENANT, ImageId("1"), "other size", b"second")
    shown.keep(TENANT, ImageId("2"), "tag", b"third")
    clock.now = 59.9
    shown.expire()
    assert shown.take(TENANT, ImageId("1"), "tag") == b"first"
    clock.now = 60
    assert shown.take(TENANT, ImageId("1"), "tag") is None
    shown.expire()
    assert shown.size_bytes == len(b"third")
    clock.now = 90
    shown.expire()
    assert shown.size_bytes == 0


async def test_pictures_that_nobody_asks_for_again_leave_the_memory() -> None:
    shown = ShownPictures(max_age_s=0.02)
    shown.keep(TENANT, ImageId("1"), "tag", b"first")
    await asyncio.sleep(0.01)
    shown.keep(TENANT, ImageId("2"), "tag", b"second")
    async with asyncio.timeout(60):
        while shown.size_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
