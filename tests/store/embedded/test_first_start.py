"""The first start of an embedded database: in odd folders, and after an interrupted one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.domain.errors import ConfigError
from service.store.database.database import Database, DatabaseSettings
from service.store.embedded.account import server_environment
from service.store.embedded.server import EmbeddedAddress, embedded_server, running_server
from service.store.embedded.settings import EmbeddedSettings
from tests.support.databases import ask
from tests.support.folders import open_folder
from tests.support.service import lay_database

SMALL = EmbeddedSettings(shared_buffers_mb=128)
# What a shell, a list of PostgreSQL, a URL or a format would read as something else.
ODD = "a b'\"`id`$(id)$HOME%s%20,;&|\\#é\udcff"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder / ODD


def test_a_folder_may_have_any_name_and_an_interrupted_start_is_repeated(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    (cluster / "initdb.unfinished").mkdir(parents=True)
    (cluster / "initdb.unfinished" / "PG_VERSION").write_text("18\n")
    with embedded_server(data_dir, SMALL) as address:
        assert ask(address, "SELECT datlocale FROM pg_database WHERE datname = 'postgres'") == (
            "C.UTF-8"
        )
        assert running_server(data_dir) == address
        ask(address, "CREATE TABLE kept AS SELECT 7 AS number")
    # As if the machine had stopped while the files of the new cluster were moved into place.
    finished = cluster / "initdb.finished"
    finished.mkdir()
    for name in ("PG_VERSION", "global", "pg_wal"):
        (cluster / name).rename(finished / name)
    # An earlier release took them from the environment of its first start.
    path = cluster / "postgresql.conf"
    text = re.sub(r"(?m)^(lc_\w+ = )\S+", r"\1'C.no_SUCH'", path.read_text())
    assert text.count("no_SUCH") == 4
    path.write_text(text)
    with embedded_server(data_dir, SMALL) as address:
        assert ask(address, "SELECT number FROM kept") == 7
        assert ask(address, "SHOW lc_messages") == "C"
    assert not finished.exists()


def test_what_an_interrupted_start_of_an_earlier_release_left_is_named(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("18\n")
    with (
        pytest.raises(ConfigError, match="is incomplete, since its creation was interrupted"),
        embedded_server(data_dir, SMALL),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("line\nbreak", "has a line break"),
        ("/".join(["long"] * 240), "is too long for PostgreSQL"),
        ("n" * 300, "cannot be created: File name too long"),
        ("file", "is no folder"),
    ],
)
def test_a_path_that_cannot_work_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=reason), embedded_server(tmp_path / name, SMALL):
        pass
    assert not list(tmp_path.rglob("PG_VERSION"))


def test_what_the_shell_says_of_a_server_that_it_cannot_launch_is_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.embedded.server._BETWEEN_ATTEMPTS_S", 0.01)
    lay_database(data_dir)
    log = data_dir / "postgres" / "log"
    log.mkdir()
    with pytest.raises(ConfigError, match=r"log: .*directory"), embedded_server(data_dir, SMALL):
        pass
    shutil.rmtree(log)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}),
        ({"PATH": ""}, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}),
        (
            {
                "PATH": "/opt",
                "LD_LIBRARY_PATH": "/lib",
                "LC_ALL": "de_DE",
                "TZ": "x",
                "PGPORT": "1",
            },
            {"PATH": "/opt:/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": "/lib"},
        ),
    ],
)
def test_postgresql_gets_a_fixed_locale_and_time_zone(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    assert server_environment(environment) == {**expected, "LC_ALL": "C", "TZ": "UTC"}


async def test_a_connection_does_not_depend_on_the_environment(
    postgres: EmbeddedAddress, empty_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGSSLMODE": "rubbish",
        "PGSSLNEGOTIATION": "direct",
        "PGTARGETSESSIONATTRS": "standby",
        "PGGSSLIB": "rubbish",
        "PGPASSFILE": "/dev/null/none",
        "PGSERVICE": "none",
        "PGHOST": "/nowhere",
        "PGPORT": "x",
        "PGUSER": "nobody",
    }.items():
        monkeypatch.setenv(name, value)
    settings = DatabaseSettings(
        postgres.socket_dir,
        postgres.port,
        empty_database.dbname,
        postgres.user,
        "",
        *(2, 10.0, 30.0),
        embedded=True,
    )
    database = await Database.open(settings)
    await database.ping()
    await database.close()
