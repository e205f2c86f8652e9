"""Followers of changes: they end when they are told to, and read what happened in order."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from bench.common.crowd import crowd, id_of, load
from service.domain.people import Person, PersonEdit
from service.domain.types import FaceId, ImageId, TenantId
from service.store.database.database import Database
from service.store.face.changes import DatabaseChangeFeed
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.usecases.people import People

TENANT = TenantId("tenant")


@pytest.fixture
async def filled(database: Database) -> Database:
    """A tenant with some people, whose photos all have one perceptual hash."""
    async with database.maintenance() as owner:
        await load(owner, TENANT, crowd(60, seed=1))
    return database


async def test_followers_end_where_what_allowed_them_was_exchanged(filled: Database) -> None:
    feed = DatabaseChangeFeed(filled)

    async def follow(begun: asyncio.Event) -> None:
        async with aclosing(feed.follow(TENANT, 0)) as batches:
            async for _ in batches:
                begun.set()

    people = People(Repository(filled, SearchSettings()))
    await people.create(TENANT, PersonEdit(label="A"), [])
    begun = [asyncio.Event() for _ in range(2)]
    following = [asyncio.create_task(follow(each)) for each in begun]
    for each in begun:
        await each.wait()
    feed.end_followers()
    async with asyncio.timeout(60):  # else they would go on for ever
        await asyncio.gather(*following)
    assert feed.followers() == 0
    async with aclosing(feed.follow(TENANT, 0)) as again:
        assert [change.kind for change in await anext(again)] == ["person.created"]


async def test_statements_do_not_grow_with_the_faces_of_a_request(filled: Database) -> None:
    """A writer holds the lock of its tenant: it must not go through a thousand faces one by one."""
    people = People(Repository(filled, SearchSettings()))
    asked: list[str] = []
    async with filled._connection() as connection:
        pool_size = filled._pool.get_size()
        connection.add_query_logger(lambda record: asked.append(record.query))
    assert pool_size == 1  # each transaction takes this connection

    async def statements(faces: list[int]) -> int:
        asked.clear()
        ids = [FaceId(str(id_of(number))) for number in faces]
        made = await people.create(TENANT, PersonEdit(), ids)
        count = len(asked)
        assert isinstance(made, Person)
        assert made.faces == len(faces)
        return count

    await statements([0, 1])  # the driver learns the types
    few = await statements([50, 51])
    assert await statements(list(range(2, 42))) == few
    image = ImageId(str(id_of(0)))
    await people.near_copies(TENANT, image, 0, 2)
    asked.clear()
    assert len(await people.near_copies(TENANT, image, 0, 2)) == 2
    few = len(asked)
    asked.clear()
    assert len(await people.near_copies(TENANT, image, 0, 50)) == 50
    assert len(asked) == few
