"""`facette keys`: make, list, rotate and revoke access keys, and rotate the master secret."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from service.app.settings import DatabasePlace
from service.commands.place import connections_of, current_database
from service.domain.errors import ConfigError, KeysUnavailableError
from service.domain.keys import (
    OPERATOR,
    AccessKey,
    IssuedKey,
    KeyId,
    KeyPosition,
    MasterSecrets,
    NewKey,
    Scope,
)
from service.domain.types import TenantId
from service.store.access.keys import AccessKeys
from service.store.access.master import (
    ConfiguredMasterSecret,
    MasterSecretFile,
    MasterSecretPlace,
    NoMasterSecret,
)
from service.usecases.keys import ManageKeys

R = TypeVar("R")

_PAGE = 500


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """The database with the keys, and where the master secret comes from."""

    database: DatabasePlace
    master: MasterSecretPlace


def run_create(
    places: KeyPlaces,
    *,
    name: str,
    scopes: frozenset[Scope],
    tenant_id: TenantId | None,
    expires_in: timedelta | None,
) -> int:
    """Make a key, and print its text to standard output; the rest goes to standard error."""
    expires_at = None if expires_in is None else datetime.now(UTC) + expires_in
    new = NewKey(name, scopes, tenant_id, expires_at)
    issued = _with_keys(places, lambda keys: keys.create(OPERATOR, new))
    _print_once(issued, "was made")
    return 0


def run_list(places: KeyPlaces, *, tenant_id: TenantId | None, as_json: bool) -> int:
    """Print all keys, newest first, or those that are bound to a tenant."""

    async def collect(keys: ManageKeys) -> list[AccessKey]:
        found: list[AccessKey] = []
        after: KeyPosition | None = None
        while True:
            page = await keys.list_keys(OPERATOR, limit=_PAGE, after=after, tenant_id=tenant_id)
            found += page.keys
            after = page.following
            if after is None:
                return found

    found = _with_keys(places, collect, makes_secrets=False)
    try:
        masters = places.master.read()
    except KeysUnavailableError as error:
        masters = None
        print(f"facette: {error.message}", file=sys.stderr)
    now = datetime.now(UTC)
    states = [_state(key, masters, now) for key in found]
    listed = list(zip(found, states, strict=True))
    if as_json:
        print(json.dumps([_as_json(*each) for each in listed], ensure_ascii=False))
    else:
        print(_as_table([_HEAD, *(_row(*each) for each in listed)]))
    return 0


def run_rotate(places: KeyPlaces, key_id: KeyId, *, keep_former: timedelta) -> int:
    """Give a key a new secret, and print its text as `run_create` does."""
    issued = _with_keys(places, lambda keys: keys.rotate(OPERATOR, key_id, keep_former=keep_former))
    kept = f" for {_hours(keep_former)} more" if keep_former else " no more"
    _print_once(issued, f"has a new secret, and the former one is valid{kept}")
    return 0


def run_revoke(places: KeyPlaces, key_id: KeyId) -> int:
    """Make a key invalid for good."""
    key = _with_keys(places, lambda keys: keys.revoke(OPERATOR, key_id), makes_secrets=False)
    print(f"the key {key.key_id} ({key.name}) is revoked, in every process within five seconds")
    return 0


def run_rotate_master(places: KeyPlaces, *, keep: timedelta) -> int:
    """Replace the master secret in its file; keys that were made with it stay valid for a time.

    Raises:
        ConfigError: the master secret is a setting, which no command changes.
        KeysUnavailableError: there is no master secret.
    """
    master = places.master
    if isinstance(master, ConfiguredMasterSecret):
        raise ConfigError(
            "the master secret is a setting: give auth.former_master_secret the value of "
            "auth.master_secret, and auth.master_secret a new one (openssl rand -hex 32); reload "
            "every service on the database (SIGHUP), rotate the keys that `facette keys list` "
            "marks, and empty auth.former_master_secret"
        )
    if isinstance(master, NoMasterSecret):
        master.read()  # raises, and says what to set

    async def count() -> int:
        async with current_database(places.database) as connection:
            return sum((await AccessKeys(connections_of(connection)).valid_by_master()).values())

    keys = asyncio.run(count())
    master.ensure()
    master.rotate(keep)
    print(f"{master.path} has a new master secret, which running services use from now on")
    if keys:
        until = f"valid for {keep.days} days more" if keep else "not valid any more"
        print(
            f"{keys} keys were made with former ones, and are {until}: rotate those that `facette "
            "keys list` marks"
        )
    return 0


def _with_keys(
    places: KeyPlaces, act: Callable[[ManageKeys], Awaitable[R]], *, makes_secrets: bool = True
) -> R:
    """Do something with the keys of the database."""

    async def run() -> R:
        async with current_database(places.database) as connection:
            if makes_secrets and isinstance(places.master, MasterSecretFile):
                places.master.ensure()
            return await act(ManageKeys(AccessKeys(connections_of(connection)), places.master))

    return asyncio.run(run())


def _print_once(issued: IssuedKey, what: str) -> None:
    key = issued.key
    reach = "all tenants" if key.tenant_id is None else f"tenant {key.tenant_id!r}"
    print(
        f"the key {key.key_id} ({key.name}) {what}: {_scopes(key)}, {reach}, "
        f"{_until(key)}. It is shown this once:",
        file=sys.stderr,
    )
    print(issued.text)


_HEAD = ("id", "name", "scopes", "tenant", "state", "made", "expires", "last used")


def _row(key: AccessKey, state: str) -> tuple[str, ...]:
    return (
        key.key_id,
        key.name,
        _scopes(key),
        "*" if key.tenant_id is None else key.tenant_id,
        state,
        _time(key.created_at),
        _time(key.expires_at),
        _time(key.last_used_at),
    )


def _as_json(key: AccessKey, state: str) -> dict[str, object]:
    return {
        "id": key.key_id,
        "name": key.name,
        "scopes": _scopes(key).split(","),
        "tenant": key.tenant_id,
        "state": state,
        "created_at": _time(key.created_at),
        "expires_at": _time(key.expires_at) or None,
        "revoked_at": _time(key.revoked_at) or None,
        "last_used_at": _time(key.last_used_at) or None,
    }


def _state(key: AccessKey, masters: MasterSecrets | None, now: datetime) -> str:
    """What a key is good for; "rotate" for one that ends with a former master secret."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    if masters is None or masters.find(key.master_id, now) is None:
        return "dead"
    return "valid" if key.master_id == masters.current.master_id else "rotate"


def _as_table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _scopes(key: AccessKey) -> str:
    return ",".join(scope for scope in Scope if scope in key.scopes)


def _until(key: AccessKey) -> str:
    return "without end" if key.expires_at is None else f"until {_time(key.expires_at)}"


def _time(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:g} hours"
