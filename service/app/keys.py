"""Access keys at start and reload: the master secret is made, and faults are logged."""

from __future__ import annotations

import asyncio
import logging

from service.domain.errors import KeysUnavailableError, StoreUnavailableError
from service.store.access.health import key_health
from service.store.access.keys import AccessKeys
from service.store.access.master import MasterSecretFile, MasterSecretPlace
from service.store.database.database import Database

_logger = logging.getLogger(__name__)


async def prepare_keys(database: Database, place: MasterSecretPlace) -> None:
    """Make the master secret where the service makes its own, and look whether the keys fit.

    The service runs without a master secret, too: the configured token needs none. So it does
    while the database does not answer, and then the keys are not looked at.
    """
    masters = None
    problem = ""
    try:
        if isinstance(place, MasterSecretFile):
            if await asyncio.to_thread(place.ensure):
                _logger.info("a master secret for access keys was made")
            _warn_of_readers(place)
        masters = place.read()
    except KeysUnavailableError as error:
        problem = error.message
    try:
        found = await key_health(AccessKeys(database.common), masters)
    except StoreUnavailableError:
        _logger.warning("the database does not answer: access keys are not looked at")
        return
    if problem and (found.valid or isinstance(place, MasterSecretFile)):
        _logger.error("access keys cannot be used: %s", problem)
    elif found.dead:
        _logger.error(
            "access keys cannot be used, because the master secret that they were made with is "
            "gone: restore it from a backup, or rotate them",
            extra={"fields": {"keys": found.dead}},
        )


def _warn_of_readers(place: MasterSecretFile) -> None:
    facts = place.facts()
    if facts is not None and not facts.is_private:
        _logger.warning(
            "other accounts have access to the master secret: chmod 600",
            extra={"fields": {"file": str(facts.path), "mode": f"{facts.mode:04o}"}},
        )
