"""Access keys: who may make, list, rotate and revoke which."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from service.domain.errors import ForbiddenError, IdempotencyError, NotFoundError, ParameterError
from service.domain.keys import (
    AccessKey,
    IssuedKey,
    KeyId,
    KeyPage,
    KeyPosition,
    NewKey,
    Principal,
    Scope,
    Seed,
    key_text,
    new_key_id,
    new_salt,
)
from service.domain.names import NAME_RULE, is_name
from service.domain.types import TenantId
from service.usecases.ports import KeyStore, MasterSecretSource

_KEPT = timedelta(days=1)


class ManageKeys:
    """Manages access keys for a caller with the scope admin.

    A caller that is bound to a tenant manages the keys that are bound to the same tenant; another
    key is not found. Nobody makes a key that may do more, or reaches further, than the caller.

    Each method raises ForbiddenError where the caller lacks the scope admin, and
    StoreUnavailableError where the database does not answer.

    Args:
        on_change: called with the id of a key that was changed, so that this process sees it at
            once; the others see it within five seconds.
    """

    def __init__(
        self,
        keys: KeyStore,
        secrets: MasterSecretSource,
        *,
        on_change: Callable[[KeyId], None] = lambda key_id: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._secrets = secrets
        self._on_change = on_change
        self._now = now

    async def list_keys(
        self,
        principal: Principal,
        *,
        limit: int,
        after: KeyPosition | None = None,
        tenant_id: TenantId | None = None,
    ) -> KeyPage:
        """Keys, newest first, with revoked and expired ones.

        Args:
            tenant_id: list only those that are bound to this tenant.

        Raises:
            NotFoundError: the caller does not reach the tenant.
        """
        principal.require(Scope.ADMIN)
        if tenant_id is not None:
            principal.require_tenant(tenant_id)
        return await self._keys.newest(tenant_id or principal.tenant_id, after, limit)

    async def get(self, principal: Principal, key_id: KeyId) -> AccessKey:
        """One key.

        Raises:
            NotFoundError: the caller has no such key.
        """
        principal.require(Scope.ADMIN)
        key = await self._keys.key(key_id)
        if not (principal.tenant_id is None or principal.tenant_id == key.tenant_id):
            raise NotFoundError("key")
        return key

    async def create(
        self, principal: Principal, new: NewKey, *, idempotency_key: str | None = None
    ) -> IssuedKey:
        """Make a key; its text is given this once.

        Args:
            idempotency_key: names the request: where the caller sends it again within a day, the
                key that was made is given again.

        Raises:
            IdempotencyError: it named a request for another key.
            ParameterError: the key would have a bad name, no scope, or a time that is over.
            ForbiddenError: it would have more scopes, or more tenants, than the caller has.
            KeysUnavailableError: there is no master secret.
        """
        principal.require(Scope.ADMIN)
        self._check(new)
        for scope in new.scopes:
            principal.require(scope)
        if principal.tenant_id is not None and principal.tenant_id != new.tenant_id:
            raise ForbiddenError("A key of one tenant makes keys of that tenant alone.")
        master = self._secrets.read().current
        attempt = 0
        while True:
            if idempotency_key is None:
                key_id, seed = new_key_id(), Seed(new_salt(), master.master_id)
            else:
                request = f"create {principal.key_id} {attempt} {idempotency_key}"
                key_id, seed = master.seed_of(request)
            key = await self._keys.insert(key_id, new, seed)
            if key is None and idempotency_key is not None:
                key = await self._made_before(key_id, new)
            if key is not None:
                self._on_change(key_id)
                return IssuedKey(key, key_text(key_id, master.secret_of(key_id, seed.salt)))
            attempt += 1  # the same request of an earlier day has this id

    async def _made_before(self, key_id: KeyId, new: NewKey) -> AccessKey | None:
        """The key that the same request made; None where that is longer ago than a day.

        Raises:
            IdempotencyError: the request asked for another key, or the key was changed since.
        """
        key = await self._keys.key(key_id)
        if self._now() - key.created_at > _KEPT:
            return None
        made = NewKey(key.name, key.scopes, key.tenant_id, key.expires_at)
        if made != new or key.revoked_at is not None:
            raise IdempotencyError
        return key

    async def revoke(self, principal: Principal, key_id: KeyId) -> AccessKey:
        """Make a key invalid for good, in every process within five seconds.

        Raises:
            NotFoundError: the caller has no such key.
        """
        await self.get(principal, key_id)
        key = await self._keys.revoke(key_id)
        self._on_change(key_id)
        return key

    async def rotate(
        self,
        principal: Principal,
        key_id: KeyId,
        *,
        keep_former: timedelta = timedelta(),
        idempotency_key: str | None = None,
    ) -> IssuedKey:
        """Give a key a new secret, which is given this once; id, scopes and times stay.

        Args:
            keep_former: how long the former secret stays valid beside the new one.
            idempotency_key: names the request: where it is sent again and the key has the secret
                that it made, that one is given again.

        Raises:
            NotFoundError: the caller has no such key, or it is revoked.
            KeysUnavailableError: there is no master secret.
        """
        key = await self.get(principal, key_id)
        master = self._secrets.read().current
        seed = Seed(new_salt(), master.master_id)
        if idempotency_key is not None:
            _, seed = master.seed_of(f"rotate {principal.key_id} {key_id} {idempotency_key}")
            if (await self._keys.seed(key_id)).salt == seed.salt and key.revoked_at is None:
                return IssuedKey(key, key_text(key_id, master.secret_of(key_id, seed.salt)))
        former_until = self._now() + keep_former if keep_former else None
        key = await self._keys.rotate(key_id, seed, former_until)
        self._on_change(key_id)
        return IssuedKey(key, key_text(key_id, master.secret_of(key_id, seed.salt)))

    def _check(self, new: NewKey) -> None:
        if not is_name(new.name):
            raise ParameterError("name", f"The name of a key must have {NAME_RULE}.")
        if new.tenant_id is not None and not is_name(new.tenant_id):
            raise ParameterError("tenant_id", f"A tenant's id must have {NAME_RULE}.")
        if not new.scopes:
            raise ParameterError("scopes", "A key needs at least one scope.")
        if new.expires_at is not None and new.expires_at <= self._now():
            raise ParameterError("expires_at", "The time at which a key expires must be to come.")
