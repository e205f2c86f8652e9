"""Rows of keys: made, listed page by page, rotated, revoked, and what the table refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from service.domain.errors import NotFoundError
from service.domain.keys import (
    AccessKey,
    KeyId,
    KeyPosition,
    NewKey,
    Scope,
    Seed,
    new_key_id,
    new_salt,
)
from service.domain.types import TenantId
from service.store.access.keys import AccessKeys
from service.store.database.database import Database
from service.store.database.statements import SQL

ANNA, BERTA = TenantId("anna"), TenantId("berta")
READ = frozenset({Scope.READ})
UNKNOWN = KeyId("0" * 16)


@pytest.fixture
def keys(database: Database) -> AccessKeys:
    return AccessKeys(database.common)


async def make(keys: AccessKeys, tenant: TenantId | None = None, name: str = "a key") -> AccessKey:
    return await keys.insert(new_key_id(), NewKey(name, READ, tenant), Seed(new_salt(), "m" * 16))


async def test_a_key_is_read_as_it_was_made(keys: AccessKeys) -> None:
    expires_at = datetime(2040, 1, 2, 3, 4, tzinfo=UTC)
    new = NewKey("Zürich 東京", frozenset({Scope.READ, Scope.ADMIN}), ANNA, expires_at)
    key_id, seed = new_key_id(), Seed(new_salt(), "0123456789abcdef")
    made = await keys.insert(key_id, new, seed)
    assert (made.name, made.scopes, made.tenant_id) == (new.name, new.scopes, ANNA)
    assert (made.expires_at, made.revoked_at, made.last_used_at) == (expires_at, None, None)
    found = await keys.by_id([key_id, UNKNOWN])
    assert set(found) == {key_id}
    assert found[key_id].key == made == await keys.key(key_id)
    assert found[key_id].seeds == (seed,)


async def test_pages_have_every_key_once_newest_first(keys: AccessKeys) -> None:
    made = [await make(keys, tenant, f"{number}") for number in range(5) for tenant in (ANNA, None)]
    for tenant, expected in ((None, made), (ANNA, made[::2]), (BERTA, [])):
        listed: list[AccessKey] = []
        after: KeyPosition | None = None
        while True:
            page = await keys.newest(tenant, after, 3)
            assert len(page.keys) <= 3
            listed += page.keys
            if (after := page.following) is None:
                break
        assert listed == expected[::-1]


async def test_keys_made_between_pages_do_not_shift_them(keys: AccessKeys) -> None:
    made = [await make(keys) for _ in range(4)]
    first = await keys.newest(None, None, 2)
    await make(keys)
    second = await keys.newest(None, first.following, 2)
    assert [*first.keys, *second.keys] == made[::-1]
    assert second.following is None


async def test_keys_of_one_moment_are_listed_once_each(
    keys: AccessKeys, database: Database
) -> None:
    made = {(await make(keys)).key_id for _ in range(5)}
    async with database.maintenance() as owner:
        await owner.execute("UPDATE access_key SET created_at = '2030-01-01'")
    listed: list[KeyId] = []
    after: KeyPosition | None = None
    while len(listed) < 5:
        page = await keys.newest(None, after, 2)
        listed += [key.key_id for key in page.keys]
        after = page.following
    assert set(listed) == made
    assert len(listed) == 5


async def test_a_rotation_keeps_id_and_facts_and_the_former_seed_for_a_time(
    keys: AccessKeys,
) -> None:
    made = await make(keys, ANNA)
    (former,) = (await keys.by_id([made.key_id]))[made.key_id].seeds
    until = datetime(2040, 1, 1, tzinfo=UTC)
    seed = Seed(new_salt(), "n" * 16)
    rotated = await keys.rotate(made.key_id, seed, until)
    assert (rotated.key_id, rotated.name, rotated.tenant_id) == (made.key_id, made.name, ANNA)
    stored = (await keys.by_id([made.key_id]))[made.key_id]
    assert stored.seeds == (seed, Seed(former.salt, former.master_id, until))
    again = Seed(new_salt(), "n" * 16)
    await keys.rotate(made.key_id, again, None)
    assert (await keys.by_id([made.key_id]))[made.key_id].seeds == (again,)


async def test_revoking_again_keeps_the_first_time_and_ends_rotation(keys: AccessKeys) -> None:
    made = await make(keys)
    first = await keys.revoke(made.key_id)
    assert first.revoked_at is not None
    assert (await keys.revoke(made.key_id)).revoked_at == first.revoked_at
    with pytest.raises(NotFoundError):
        await keys.rotate(made.key_id, Seed(new_salt(), "m" * 16), None)


async def test_an_id_without_a_key_is_not_found(keys: AccessKeys) -> None:
    for act in (
        keys.key(UNKNOWN),
        keys.revoke(UNKNOWN),
        keys.rotate(UNKNOWN, Seed(new_salt(), "m" * 16), None),
    ):
        with pytest.raises(NotFoundError):
            await act


async def test_an_hour_of_use_never_goes_back(keys: AccessKeys) -> None:
    made, other = await make(keys), await make(keys)
    hour = datetime(2030, 1, 1, 12, tzinfo=UTC)
    await keys.note_uses({made.key_id: hour, UNKNOWN: hour})
    await keys.note_uses({made.key_id: hour - timedelta(hours=1)})
    assert (await keys.key(made.key_id)).last_used_at == hour
    assert (await keys.key(other.key_id)).last_used_at is None


async def test_valid_keys_are_counted_by_their_master_secret(keys: AccessKeys) -> None:
    await make(keys)
    await keys.revoke((await make(keys)).key_id)
    over = datetime.now(UTC) - timedelta(seconds=1)
    await keys.insert(new_key_id(), NewKey("x", READ, None, over), Seed(new_salt(), "m" * 16))
    await keys.insert(new_key_id(), NewKey("x", READ, None), Seed(new_salt(), "n" * 16))
    assert await keys.valid_by_master() == {"m" * 16: 1, "n" * 16: 1}


async def test_the_services_role_deletes_no_key(keys: AccessKeys, database: Database) -> None:
    await make(keys)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.common() as connection:
            await connection.execute("DELETE FROM access_key")


@pytest.mark.parametrize(
    "change",
    [
        "scopes = '{}'",
        "scopes = '{read,root}'",
        "scopes = '{{read},{write}}'",
        "key_id = 'short'",
        "key_id = 'K234567890123456'",
        "salt = '\\x00'",
        "name = ''",
        "bound_tenant = ''",
        "former_salt = salt",
    ],
)
async def test_the_table_refuses_what_is_no_key(
    keys: AccessKeys, database: Database, change: str
) -> None:
    await make(keys)
    async with database.maintenance() as owner:
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute(f"UPDATE access_key SET {change}")


@pytest.mark.parametrize("tenant", [None, ANNA])
async def test_a_page_of_many_keys_is_read_from_an_index(
    database: Database, tenant: TenantId | None
) -> None:
    async with database.maintenance() as owner:
        await owner.execute(
            "INSERT INTO access_key (key_id, bound_tenant, name, scopes, salt, master_id, "
            "created_at) SELECT lpad(n::text, 16, '0'), CASE WHEN n % 2 = 0 THEN 'anna' END, 'k', "
            "'{read}', '\\x00112233445566778899aabbccddeeff', 'm', "
            "timestamptz '2020-01-01' + n * interval '1 second' "
            "FROM generate_series(1, 20000) AS n"
        )
        await owner.execute("ANALYZE access_key")
        name = "newest_keys" if tenant is None else "newest_keys_of_tenant"
        given = [datetime(2020, 1, 1, 2, tzinfo=UTC), "z", 50, *([tenant] if tenant else [])]
        rows = await owner.fetch(f"EXPLAIN {SQL[name]}", *given)
    plan = "\n".join(row[0] for row in rows)
    assert "Index Scan using access_key_newest" in plan, plan
    assert "Sort" not in plan, plan
