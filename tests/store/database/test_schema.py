"""The migrations produce the schema that docs/schema.sql shows.

`UPDATE_SCHEMA=1 make test ARGS=tests/store/database/test_schema.py` writes the file again.
"""

from __future__ import annotations

import os
import subprocess

from service.store.database.database import Database, DatabaseSettings
from service.store.embedded.cluster import programs
from tests.support.folders import ROOT

SCHEMA = ROOT / "docs" / "schema.sql"
HEAD = "-- The schema, as the migrations in service/store/sql/migrations leave it (pg_dump 18).\n\n"
# Settings of the dump's own session, and a key that is drawn anew for each dump.
_OF_THE_DUMP = ("--", "SET ", "SELECT pg_catalog.set_config", "\\")


def _dumped(settings: DatabaseSettings) -> str:
    address = ["--host", settings.host, "--port", str(settings.port), "--username", settings.user]
    dump = subprocess.run(
        [programs() / "pg_dump", "--schema-only", "--no-owner", *address, settings.dbname],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line for line in dump.stdout.splitlines() if not line.startswith(_OF_THE_DUMP)]
    # The end of a statement of its own: within a function's body no empty line follows one.
    dumped = "\n".join(lines) + "\n\n"
    statements = [part.strip() for part in dumped.split(";\n\n") if part.strip()]
    return HEAD + ";\n\n".join(statements) + "\n"


async def test_the_migrations_produce_the_schema_that_is_checked_in(
    empty_database: DatabaseSettings,
) -> None:
    await (await Database.open(empty_database)).close()
    dumped = _dumped(empty_database)
    if os.environ.get("UPDATE_SCHEMA"):
        SCHEMA.write_text(dumped, encoding="utf-8")
    assert dumped == SCHEMA.read_text(encoding="utf-8")
