"""Facts about the access keys of a database and the master secret, for start and doctor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from service.domain.keys import MasterSecrets
from service.store.access.keys import AccessKeys


@dataclass(frozen=True, slots=True)
class KeyHealth:
    """Numbers of keys that are neither revoked nor expired.

    dead: those that nobody can use, because the master secret that they were made with is gone.
    """

    valid: int
    dead: int


async def key_health(keys: AccessKeys, masters: MasterSecrets | None) -> KeyHealth:
    """Count the keys that the master secrets fit.

    Args:
        masters: None where there is no master secret.
    """
    counts = await keys.valid_by_master()
    now = datetime.now(UTC)
    dead = sum(
        count
        for master_id, count in counts.items()
        if masters is None or masters.find(master_id, now) is None
    )
    return KeyHealth(sum(counts.values()), dead)
