"""Who may make, see, rotate and revoke which key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import (
    ForbiddenError,
    KeysUnavailableError,
    NotFoundError,
    ParameterError,
)
from service.domain.keys import OPERATOR, KeyId, KeyText, NewKey, Principal, Scope
from service.domain.types import TenantId
from service.store.access.keys import AccessKeys
from service.store.access.master import ConfiguredMasterSecret, NoMasterSecret
from service.store.database.database import Database
from service.usecases.keys import ManageKeys

ANNA, BERTA = TenantId("anna"), TenantId("berta")
ADMIN = frozenset({Scope.ADMIN})
ANNAS = Principal(KeyId("a" * 16), ANNA, ADMIN)
HOUR = timedelta(hours=1)


def new(
    tenant: TenantId | None = ANNA,
    scopes: frozenset[Scope] = frozenset({Scope.READ}),
    name: str = "a key",
    expires_at: datetime | None = None,
) -> NewKey:
    return NewKey(name, scopes, tenant, expires_at)


@pytest.fixture
def keys(database: Database) -> ManageKeys:
    return ManageKeys(AccessKeys(database.common), ConfiguredMasterSecret("s" * 32))


@pytest.mark.parametrize("scopes", [set(), {Scope.READ}, {Scope.WRITE}])
async def test_without_the_scope_admin_nothing_can_be_done(
    keys: ManageKeys, scopes: set[Scope]
) -> None:
    key_id = (await keys.create(OPERATOR, new())).key.key_id
    caller = Principal(KeyId("c" * 16), None, frozenset(scopes))
    for act in (
        keys.list_keys(caller, limit=1),
        keys.get(caller, key_id),
        keys.create(caller, new()),
        keys.revoke(caller, key_id),
        keys.rotate(caller, key_id),
    ):
        with pytest.raises(ForbiddenError):
            await act


async def test_an_admin_of_one_tenant_finds_the_keys_of_that_tenant_alone(
    keys: ManageKeys,
) -> None:
    own = (await keys.create(ANNAS, new())).key
    others = [
        (await keys.create(OPERATOR, new(BERTA))).key,
        (await keys.create(OPERATOR, new(None))).key,
    ]
    assert (await keys.list_keys(ANNAS, limit=10)).keys == (own,)
    assert (await keys.list_keys(ANNAS, limit=10, tenant_id=ANNA)).keys == (own,)
    assert len((await keys.list_keys(OPERATOR, limit=10)).keys) == 3
    assert (await keys.list_keys(OPERATOR, limit=10, tenant_id=BERTA)).keys == (others[0],)
    with pytest.raises(NotFoundError):
        await keys.list_keys(ANNAS, limit=10, tenant_id=BERTA)
    for other in others:
        for act in (
            keys.get(ANNAS, other.key_id),
            keys.revoke(ANNAS, other.key_id),
            keys.rotate(ANNAS, other.key_id),
        ):
            with pytest.raises(NotFoundError):
                await act
        assert await keys.get(OPERATOR, other.key_id) == other
    assert (await keys.revoke(ANNAS, own.key_id)).revoked_at is not None


@pytest.mark.parametrize("tenant", [BERTA, None])
async def test_nobody_makes_a_key_that_reaches_further(
    keys: ManageKeys, tenant: TenantId | None
) -> None:
    with pytest.raises(ForbiddenError):
        await keys.create(ANNAS, new(tenant))
    assert (await keys.list_keys(OPERATOR, limit=1)).keys == ()


async def test_a_key_is_shown_once_and_its_text_names_it(keys: ManageKeys) -> None:
    issued = await keys.create(OPERATOR, new(scopes=ADMIN))
    text = KeyText.parse(issued.text.encode())
    assert text is not None
    assert text.key_id == issued.key.key_id
    assert issued.text not in repr(issued)
    assert text.secret.decode() not in repr(await keys.get(OPERATOR, text.key_id))


async def test_a_rotation_gives_the_same_key_another_secret(keys: ManageKeys) -> None:
    issued = await keys.create(OPERATOR, new())
    rotated = await keys.rotate(OPERATOR, issued.key.key_id, keep_former=HOUR)
    assert rotated.key == issued.key
    assert rotated.text != issued.text
    await keys.revoke(OPERATOR, issued.key.key_id)
    with pytest.raises(NotFoundError):
        await keys.rotate(OPERATOR, issued.key.key_id)


@pytest.mark.parametrize(
    ("wrong", "parameter"),
    [
        (new(name=""), "name"),
        (new(name=" "), "name"),
        (new(name="a\x00b"), "name"),
        (new(name="a\ud800"), "name"),
        (new(name="x" * 129), "name"),
        (new(name="x" * 1_000_000), "name"),
        (new(TenantId("u\u0308")), "tenant_id"),
        (new(scopes=frozenset()), "scopes"),
        (new(expires_at=datetime.now(UTC) - HOUR), "expires_at"),
    ],
    ids=range(9),
)
async def test_what_is_no_key_is_not_made(keys: ManageKeys, wrong: NewKey, parameter: str) -> None:
    with pytest.raises(ParameterError) as refused:
        await keys.create(OPERATOR, wrong)
    assert refused.value.parameter == parameter
    assert (await keys.list_keys(OPERATOR, limit=1)).keys == ()


async def test_without_a_master_secret_keys_can_be_revoked_and_not_made(
    keys: ManageKeys, database: Database
) -> None:
    issued = await keys.create(OPERATOR, new())
    without = ManageKeys(AccessKeys(database.common), NoMasterSecret())
    for act in (without.create(OPERATOR, new()), without.rotate(OPERATOR, issued.key.key_id)):
        with pytest.raises(KeysUnavailableError):
            await act
    assert (await without.revoke(OPERATOR, issued.key.key_id)).revoked_at is not None
