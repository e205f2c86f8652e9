"""Keys: what is a key, what it is derived from, what its holder may do, and when it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import ForbiddenError, NotFoundError
from service.domain.keys import (
    OPERATOR,
    AccessKey,
    KeyFault,
    KeyId,
    KeyText,
    KnownKey,
    MasterSecret,
    MasterSecrets,
    Principal,
    Scope,
    Seed,
    StoredKey,
    is_key_id,
    key_text,
    new_key_id,
    new_salt,
)
from service.domain.types import TenantId

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MASTER, OTHER_MASTER = MasterSecret(b"m" * 32), MasterSecret(b"o" * 32)
KEY_ID, SALT = KeyId("k" * 16), b"s" * 16


def stored(
    *seeds: Seed, expires_at: datetime | None = None, revoked_at: datetime | None = None
) -> StoredKey:
    key = AccessKey(
        KEY_ID,
        "name",
        frozenset({Scope.READ}),
        TenantId("anna"),
        MASTER.master_id,
        NOW - timedelta(days=1),
        expires_at,
        revoked_at,
    )
    return StoredKey(key, seeds or (Seed(SALT, MASTER.master_id),))


def known(row: StoredKey, *former: MasterSecret, now: datetime = NOW) -> KnownKey:
    return KnownKey(row, MasterSecrets(MASTER, former), now)


def secret(salt: bytes = SALT, master: MasterSecret = MASTER) -> bytes:
    return master.secret_of(KEY_ID, salt).encode()


def test_a_key_is_read_back_from_its_text() -> None:
    key_id = new_key_id()
    text = key_text(key_id, MASTER.secret_of(key_id, new_salt()))
    found = KeyText.parse(text.encode())
    assert found is not None
    assert is_key_id(found.key_id)
    assert key_text(found.key_id, found.secret.decode()) == text


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"fct_",
        b"fct__",
        b"a-token-for-tests",
        b"fct_" + b"k" * 16,
        b"fct_" + b"k" * 15 + b"_" + b"0" * 64,
        b"fct_" + b"k" * 16 + b"_" + b"0" * 63,
        b"fct_" + b"k" * 16 + b"_" + b"0" * 65,
        b"fct_" + b"K" * 16 + b"_" + b"0" * 64,
        b"fct_" + b"k" * 16 + b"_" + b"F" * 64,
        b"fct_" + b"k" * 16 + b"_" + b"0" * 64 + b"\n",
        b"\nfct_" + b"k" * 16 + b"_" + b"0" * 64,
        b"fct_" + b"k_" * 8 + b"_" + b"0" * 64,
        b"FCT_" + b"k" * 16 + b"_" + b"0" * 64,
        "fct_kkkkkkkkkkkkkkk\u0967_".encode() + b"0" * 64,
        bytes(range(256)),
        b"\x00" * 100_000,
        b"_" * 1_000_000,
    ],
    ids=range(18),
)
def test_another_text_is_no_key(text: bytes) -> None:
    assert KeyText.parse(text) is None


def test_texts_and_secrets_do_not_show_in_representations() -> None:
    found = KeyText.parse(f"fct_{KEY_ID}_{secret().decode()}".encode())
    seed = Seed(SALT, MASTER.master_id)
    shown = repr((found, MASTER, MasterSecrets(MASTER, (OTHER_MASTER,)), seed))
    assert secret().decode() not in shown
    assert "mmmm" not in shown
    assert "oooo" not in shown
    assert "ssss" not in shown


def test_the_secret_depends_on_master_secret_key_id_and_salt() -> None:
    secrets = {
        MASTER.secret_of(KEY_ID, SALT),
        OTHER_MASTER.secret_of(KEY_ID, SALT),
        MASTER.secret_of(KeyId("l" * 16), SALT),
        MASTER.secret_of(KEY_ID, b"t" * 16),
    }
    assert len(secrets) == 4
    assert all(len(each) == 64 for each in secrets)


def test_the_fingerprint_of_a_master_secret_is_no_secret_of_a_key() -> None:
    assert MASTER.master_id != OTHER_MASTER.master_id
    assert not MASTER.secret_of(KEY_ID, SALT).startswith(MASTER.master_id)


def test_a_key_accepts_its_secret_and_no_other() -> None:
    key = known(stored())
    assert key.fault(secret(), NOW.timestamp()) is None
    assert key.fault(secret(b"t" * 16), NOW.timestamp()) is KeyFault.WRONG_SECRET
    assert key.fault(b"0" * 64, NOW.timestamp()) is KeyFault.WRONG_SECRET
    assert key.fault(b"", NOW.timestamp()) is KeyFault.WRONG_SECRET


def test_a_key_ends_when_it_expires() -> None:
    key = known(stored(expires_at=NOW))
    assert key.fault(secret(), NOW.timestamp() - 0.001) is None
    assert key.fault(secret(), NOW.timestamp()) is KeyFault.EXPIRED


def test_a_revoked_key_is_refused() -> None:
    assert known(stored(revoked_at=NOW)).fault(secret(), NOW.timestamp()) is KeyFault.REVOKED


def test_the_former_secret_of_a_rotated_key_ends_at_its_time() -> None:
    until = NOW + timedelta(hours=1)
    former = Seed(b"f" * 16, MASTER.master_id, until)
    key = known(stored(Seed(SALT, MASTER.master_id), former))
    assert key.fault(secret(b"f" * 16), until.timestamp() - 1) is None
    assert key.fault(secret(b"f" * 16), until.timestamp()) is KeyFault.WRONG_SECRET
    assert key.fault(secret(), until.timestamp()) is None


def test_keys_of_a_former_master_secret_end_with_it() -> None:
    until = NOW + timedelta(hours=1)
    former = MasterSecret(OTHER_MASTER.value, until)
    row = stored(Seed(SALT, former.master_id))
    shown = secret(master=former)
    assert known(row, former).fault(shown, NOW.timestamp()) is None
    assert known(row, former).fault(shown, until.timestamp()) is KeyFault.WRONG_SECRET
    assert known(row, former, now=until).fault(shown, until.timestamp()) is KeyFault.MASTER_LOST


def test_without_its_master_secret_a_key_accepts_nothing() -> None:
    key = known(stored(Seed(SALT, OTHER_MASTER.master_id)))
    for shown in (secret(), secret(master=OTHER_MASTER), b"", b"0" * 64):
        assert key.fault(shown, NOW.timestamp()) is KeyFault.MASTER_LOST


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({Scope.READ}, {Scope.READ}),
        ({Scope.WRITE}, {Scope.READ, Scope.WRITE}),
        ({Scope.ADMIN}, {Scope.READ, Scope.WRITE, Scope.ADMIN}),
        ({Scope.READ, Scope.ADMIN}, {Scope.READ, Scope.WRITE, Scope.ADMIN}),
        (set(), set()),
    ],
)
def test_a_scope_contains_the_lower_ones(given: set[Scope], allowed: set[Scope]) -> None:
    principal = Principal(KEY_ID, None, frozenset(given))
    assert {scope for scope in Scope if principal.allows(scope)} == allowed
    assert principal.scopes == given
    for scope in set(Scope) - allowed:
        with pytest.raises(ForbiddenError) as refused:
            principal.require(scope)
        assert refused.value.code == "forbidden"


def test_a_caller_of_one_tenant_finds_no_other() -> None:
    principal = Principal(KEY_ID, TenantId("anna"), frozenset({Scope.ADMIN}))
    principal.require_tenant("anna")
    for other in ("berta", "Anna", "anna ", "", "ann", "*"):
        with pytest.raises(NotFoundError):
            principal.require_tenant(other)


def test_the_operator_reaches_every_tenant() -> None:
    OPERATOR.require_tenant("anna")
    OPERATOR.require(Scope.ADMIN)
