"""`facette keys`, while the service runs and while it does not, and the doctor's word on keys."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from service.domain.keys import is_key_id
from service.store.access.master import MASTER_FILE
from service.store.embedded.server import EmbeddedAddress, embedded_server, running_server
from tests.support.command import facette
from tests.support.databases import ask
from tests.support.folders import open_folder
from tests.support.keys import keys, make_key
from tests.support.live import end
from tests.support.service import TOKEN, ServiceProcess, lay_database

ENVIRONMENT = {"FACETTE_AUTH_TOKEN": TOKEN}


@pytest.fixture
def stopped() -> Iterator[Path]:
    """A folder with a database whose server does not run: each command starts and stops one."""
    with open_folder() as found:
        lay_database(found / "data")
        yield found


@pytest.fixture(scope="module")
def _running() -> Iterator[tuple[Path, EmbeddedAddress]]:
    """A folder with a database whose server runs, as beside a service."""
    with open_folder() as found:
        lay_database(found / "data")
        with embedded_server(found / "data") as address:
            yield found, address


@pytest.fixture
def folder(_running: tuple[Path, EmbeddedAddress]) -> Path:
    """The folder of a running database, without a key and without a master secret."""
    found, address = _running
    ask(address, "DELETE FROM access_key")
    (found / "data" / MASTER_FILE).unlink(missing_ok=True)
    return found


def run(folder: Path, *arguments: str, status: int = 0, **settings: str) -> tuple[str, str]:
    done = facette(folder, "keys", *arguments, environment={**ENVIRONMENT, **settings})
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def create(folder: Path, *arguments: str, **settings: str) -> str:
    given = arguments or ("--name", "app", "--scope", "write", "--tenant", "acme")
    output, _ = run(folder, "create", *given, **settings)
    (key,) = output.splitlines()
    return key


def listed(folder: Path, *arguments: str) -> list[dict[str, object]]:
    output, _ = run(folder, "list", "--json", *arguments)
    found: list[dict[str, object]] = json.loads(output)
    return found


def id_of(key: str) -> str:
    return key.split("_")[1]


def doctor(folder: Path) -> dict[str, str]:
    done = facette(folder, "doctor", "--json", environment=ENVIRONMENT)
    findings = json.loads(done.stdout)["findings"]
    (found,) = [each for each in findings if each["check"] == "keys"]
    return found


def test_a_key_is_printed_alone_and_listed_without_its_secret(folder: Path) -> None:
    arguments = ("--name", "Zürich", "--scope", "read", "--scope", "write", "--tenant", "acme")
    output, said = run(folder, "create", *arguments, "--expires-days", "3")
    key = output.strip()
    assert re.fullmatch(r"fct_[a-z0-9]{16}_[0-9a-f]{64}", key)
    assert is_key_id(id_of(key))
    assert key not in said
    (found,) = listed(folder)
    assert (found["id"], found["name"], found["tenant"]) == (id_of(key), "Zürich", "acme")
    assert (found["scopes"], found["state"]) == (["read", "write"], "valid")
    assert found["expires_at"] is not None
    table, _ = run(folder, "list")
    assert id_of(key) in table
    assert key.split("_")[2] not in table + json.dumps(found)


def test_keys_are_made_while_no_service_runs_and_the_database_is_stopped_again(
    stopped: Path,
) -> None:
    key = create(stopped)
    assert [each["id"] for each in listed(stopped)] == [id_of(key)]
    output, _ = run(stopped, "rotate-master")
    assert "1 keys" in output
    assert running_server(stopped / "data") is None


def test_lists_are_of_all_keys_or_of_a_tenant(folder: Path) -> None:
    one = create(folder)
    every = create(folder, "--name", "all", "--scope", "admin", "--all-tenants")
    assert [each["id"] for each in listed(folder)] == [id_of(every), id_of(one)]
    assert [each["id"] for each in listed(folder, "--tenant", "acme")] == [id_of(one)]
    assert [each["tenant"] for each in listed(folder)] == [None, "acme"]


def test_a_rotated_key_has_another_secret_and_a_revoked_one_has_none(folder: Path) -> None:
    key = create(folder)
    output, _ = run(folder, "rotate", id_of(key), "--keep-hours", "2")
    rotated = output.strip()
    assert rotated != key
    assert id_of(rotated) == id_of(key)
    run(folder, "revoke", rotated)  # the key itself names it, too
    assert [each["state"] for each in listed(folder)] == ["revoked"]
    _, said = run(folder, "rotate", id_of(key), status=2)
    assert "no such key" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("create",),
        ("create", "--name", "a", "--scope", "read"),
        ("create", "--name", "a", "--scope", "root", "--all-tenants"),
        ("create", "--name", "a", "--scope", "read", "--all-tenants", "--tenant", "b"),
        ("create", "--name", "a", "--scope", "read", "--tenant", ""),
        ("create", "--name", "a", "--scope", "read", "--all-tenants", "--expires-days", "0"),
        ("create", "--name", "a", "--scope", "read", "--all-tenants", "--expires-days", "9" * 99),
        ("create", "--name", "a\x00b", "--scope", "read", "--all-tenants"),
        ("create", "--name", "", "--scope", "read", "--all-tenants"),
        ("rotate", "x"),
        ("rotate", "a" * 16, "--keep-hours", "-1"),
        ("revoke", "a" * 16),
        ("revoke", "\udcff"),
        ("rotate-master", "--keep-days", "soon"),
    ],
    ids=range(14),
)
def test_a_bad_argument_is_refused_and_nothing_is_made(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    output, said = run(folder, *arguments, status=2)
    assert said
    assert not output
    assert listed(folder) == []


def test_the_master_secret_is_made_once_and_private(folder: Path) -> None:
    create(folder)
    path = folder / "data" / MASTER_FILE
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    create(folder)
    assert path.read_bytes() == before


def test_keys_of_a_former_master_secret_are_marked_until_they_are_rotated(folder: Path) -> None:
    key = create(folder)
    output, _ = run(folder, "rotate-master", "--keep-days", "7")
    assert "1 keys" in output
    assert [each["state"] for each in listed(folder)] == ["rotate"]
    assert doctor(folder)["verdict"] == "ok"
    run(folder, "rotate", id_of(key))
    assert [each["state"] for each in listed(folder)] == ["valid"]
    run(folder, "rotate-master", "--keep-days", "0")
    assert [each["state"] for each in listed(folder)] == ["dead"]
    found = doctor(folder)
    assert found["verdict"] == "wrong"
    assert "1 of 1 access keys cannot be used" in found["text"]


def test_a_master_secret_of_the_settings_is_rotated_there(folder: Path) -> None:
    settings = {"FACETTE_AUTH_MASTER_SECRET": "s" * 32}
    create(folder, **settings)
    assert not (folder / "data" / MASTER_FILE).exists()
    _, said = run(folder, "rotate-master", status=2, **settings)
    assert "auth.former_master_secret" in said


def test_an_external_database_without_the_setting_has_no_keys_and_the_error_says_what_to_set(
    folder: Path,
) -> None:
    create(folder)
    address = running_server(folder / "data")
    assert address is not None
    settings = {
        "FACETTE_DATABASE_HOST": address.socket_dir,
        "FACETTE_DATABASE_DBNAME": address.dbname,
        "FACETTE_DATABASE_USER": address.user,
    }
    for arguments in (
        ("create", "--name", "a", "--scope", "read", "--all-tenants"),
        ("rotate-master",),
    ):
        _, said = run(folder, *arguments, status=2, **settings)
        assert "auth.master_secret" in said
    create(folder, **settings, FACETTE_AUTH_MASTER_SECRET="s" * 32)


def test_the_doctor_says_when_the_master_secret_is_lost(folder: Path) -> None:
    create(folder)
    assert doctor(folder)["verdict"] == "ok"
    (folder / "data" / MASTER_FILE).unlink()
    found = doctor(folder)
    assert found["verdict"] == "wrong"
    assert "1 access keys cannot be used" in found["text"]
    assert MASTER_FILE in found["advice"]
    create(folder)  # with a new secret
    found = doctor(folder)
    assert "1 of 2 access keys cannot be used" in found["text"]


def test_the_doctor_says_when_others_can_read_the_master_secret(folder: Path) -> None:
    create(folder)
    (folder / "data" / MASTER_FILE).chmod(0o644)
    found = doctor(folder)
    assert found["verdict"] == "wrong"
    assert "0644" in found["text"]
    assert found["advice"].startswith("chmod 600")


def test_a_database_without_keys_needs_no_master_secret(folder: Path) -> None:
    assert doctor(folder)["verdict"] == "ok"
    (folder / "data" / MASTER_FILE).touch(0o600)
    found = doctor(folder)
    assert found["verdict"] == "note"
    assert "damaged" in found["text"]


def test_a_damaged_master_secret_is_said_and_not_replaced(folder: Path) -> None:
    create(folder)
    path = folder / "data" / MASTER_FILE
    path.write_text("{")
    for arguments in (
        ("create", "--name", "a", "--scope", "read", "--all-tenants"),
        ("rotate-master",),
    ):
        _, said = run(folder, *arguments, status=2)
        assert "damaged" in said
    assert path.read_text() == "{"


def test_keys_made_while_the_service_runs_are_valid_at_once(
    service_folder: Path, models_dir: Path
) -> None:
    service = ServiceProcess(service_folder, models_dir)
    try:
        service.start()
        key = make_key(service, "read", tenant="acme")
        ask = {"tenant_id": "acme"}
        url = f"{service.url}/review-pending-list"
        assert httpx.get(url, params=ask, headers={"x-api-key": key}).status_code == 200
        assert keys(service, "rotate-master", "--keep-days", "0").returncode == 0
        made = make_key(service, "read", tenant="acme")
        assert httpx.get(url, params=ask, headers={"x-api-key": made}).status_code == 200
        assert service.stop() == 0
        assert "Traceback" not in service.log
    finally:
        end(service)
