"""The doctor's check of access keys: the master secret is there, is private, and fits the keys."""

from __future__ import annotations

import asyncpg

from service.commands.place import connections_of
from service.commands.report import Report
from service.domain.errors import KeysUnavailableError
from service.store.access.health import key_health
from service.store.access.keys import AccessKeys
from service.store.access.master import MasterSecretFile, MasterSecretPlace


async def check_keys(
    report: Report, connection: asyncpg.Connection, place: MasterSecretPlace
) -> None:
    """Check that every valid key can be used, and that no other account reads the master secret."""
    before = len(report.findings)
    masters, problem = None, ""
    try:
        masters = place.read()
    except KeysUnavailableError as error:
        problem = error.message
    found = await key_health(AccessKeys(connections_of(connection)), masters)
    facts = place.facts() if isinstance(place, MasterSecretFile) else None
    if problem and found.valid:
        report.wrong(
            "keys", f"{found.valid} access keys cannot be used. {problem}", _restore(place)
        )
    elif problem and facts is not None:
        report.note("keys", f"there are no access keys. {problem}")
    elif found.dead:
        report.wrong(
            "keys",
            f"{found.dead} of {found.valid} access keys cannot be used: the master secret that "
            "they were made with is gone",
            _restore(place),
        )
    if facts is not None and not facts.is_private:
        report.wrong(
            "keys",
            f"other accounts have access to the master secret (mode {facts.mode:04o})",
            f"chmod 600 {facts.path}",
        )
    fit = f"{found.valid} access keys fit the master secret"
    report.ok_unless_found("keys", before, fit if found.valid else "there are no access keys")


def _restore(place: MasterSecretPlace) -> str:
    where = (
        f"restore {place.path} from a backup"
        if isinstance(place, MasterSecretFile)
        else "set auth.master_secret to its former value"
    )
    return f"{where}, or rotate each of them with `facette keys rotate`"
