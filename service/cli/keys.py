"""Arguments of `facette keys`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice

from service.cli.settings import quiet_config
from service.cli.values import ConfigPath, Days, DaysOrNone, Hours, KeyName, TenantName

if TYPE_CHECKING:
    from service.commands.keys import KeyPlaces
    from service.domain.keys import KeyId

_REACH = Group("Reach (one of these)", sort_key=1, validator=LimitedChoice(1, 1))


def create(
    *,
    name: str,
    scope: list[Literal["read", "write", "admin"]],
    tenant: Annotated[TenantName | None, Parameter(group=_REACH)] = None,
    all_tenants: Annotated[bool, Parameter(group=_REACH)] = False,
    expires_days: Days | None = None,
    config: ConfigPath,
) -> int:
    """Make a key, and print it this once.

    Args:
        name: what the key is for; it is shown in lists
        scope: what it may do; write contains read, and admin both. May be given several times
        tenant: the one tenant that it reaches
        all_tenants: it reaches every tenant
        expires_days: days until it expires; without, never
    """
    from service.commands import keys
    from service.domain.keys import Scope
    from service.domain.types import TenantId

    return keys.run_create(
        _places(config),
        name=name,
        scopes=frozenset(map(Scope, scope)),
        tenant_id=None if tenant is None else TenantId(tenant),
        expires_in=None if expires_days is None else timedelta(days=expires_days),
    )


def list_keys(*, tenant: TenantName | None = None, json: bool = False, config: ConfigPath) -> int:
    """List all keys, newest first.

    Args:
        tenant: only those that are bound to this tenant
        json: print one JSON array
    """
    from service.commands import keys
    from service.domain.types import TenantId

    tenant_id = None if tenant is None else TenantId(tenant)
    return keys.run_list(_places(config), tenant_id=tenant_id, as_json=json)


def rotate(key: KeyName, /, *, keep_hours: Hours = 0, config: ConfigPath) -> int:
    """Give a key a new secret, and print it this once; id, scopes and times stay.

    Args:
        key: the key's id, or the key itself
        keep_hours: hours for which the former secret stays valid, too
    """
    from service.commands import keys

    return keys.run_rotate(_places(config), _key_id(key), keep_former=timedelta(hours=keep_hours))


def revoke(key: KeyName, /, *, config: ConfigPath) -> int:
    """Make a key invalid for good.

    Args:
        key: the key's id, or the key itself
    """
    from service.commands import keys

    return keys.run_revoke(_places(config), _key_id(key))


def rotate_master(*, keep_days: DaysOrNone = 30, config: ConfigPath) -> int:
    """Replace the master secret, from which the secrets of keys are derived.

    Args:
        keep_days: days for which keys made with the former one stay valid; 0 = none
    """
    from service.commands import keys

    return keys.run_rotate_master(_places(config), keep=timedelta(days=keep_days))


def _places(config_path: Path) -> KeyPlaces:
    from service.app.settings import database_place, master_secret_place
    from service.commands.keys import KeyPlaces

    config = quiet_config(config_path)
    return KeyPlaces(database_place(config), master_secret_place(config))


def _key_id(text: str) -> KeyId:
    """A key id, alone or within a key."""
    from service.domain.keys import KeyId, KeyText

    key = KeyText.parse(text.encode(errors="replace"))
    return KeyId(text) if key is None else key.key_id
