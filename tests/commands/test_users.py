"""Commands of users against a service: people are listed, named, searched for and compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess

import httpx2 as httpx
import pytest

from bench.common.server import TOKEN, ServiceProcess
from service.commands.statuses import Status
from tests.support.calls import Photos
from tests.support.command import facette


class User:
    """A user with photos, whose commands speak to one tenant."""

    def __init__(self, service: ServiceProcess, tenant: str, folder: Path) -> None:
        self._tenant = tenant
        self._folder = folder
        self._environment = {
            "FACETTE_URL": service.url,
            "FACETTE_KEY": TOKEN,
            "XDG_STATE_HOME": str(folder / "state"),
            "PATH": "/usr/bin",
        }

    def run(self, *words: str, status: int = Status.DONE, **more: str) -> CompletedProcess[str]:
        """A command that must end with this status."""
        tenant = () if words[0] == "compare" else ("--tenant", self._tenant)
        environment = {**self._environment, **more}
        done = facette(self._folder, *words, *tenant, environment=environment)
        assert done.returncode == status, done.stderr
        return done

    def json(self, *words: str, status: int = Status.DONE) -> list[dict[str, object]]:
        """What a command prints as JSON lines."""
        output = self.run(*words, "--json", status=status).stdout
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def user(service: ServiceProcess, tenant: str, photos: Photos, tmp_path: Path) -> User:
    """A user whose tenant has both portraits."""
    for name in ("astronaut", "hopper", "both", "nobody"):
        (tmp_path / f"{name}.jpg").write_bytes(getattr(photos, name))
    found = User(service, tenant, tmp_path)
    done = found.run("ingest", "astronaut.jpg", "both.jpg", "hopper.jpg")
    assert "3 photos stored, with 4 faces" in done.stdout
    assert f"facette people list --tenant {tenant}" in done.stdout
    return found


def test_people_get_names_and_are_found_by_them(user: User) -> None:
    first, second = user.json("people", "list")
    assert (first["face_count"], second["face_count"]) == (2, 2)
    (searched,) = user.json("search", "astronaut.jpg", "--limit", "1")
    (face,) = searched["faces"]  # type: ignore[misc]
    (match,) = face["matches"]
    assert match["is_match"]
    user.run("people", "rename", match["person_id"], "Eileen")
    assert "Eileen" in user.run("search", "astronaut.jpg").stdout
    assert match["person_id"] in user.run("people", "show", "eileen").stdout
    assert [each["label"] for each in user.json("people", "list", "--labelled")] == ["Eileen"]
    other = next(each["id"] for each in (first, second) if each["id"] != match["person_id"])
    user.run("people", "rename", str(other), "Eileen")
    several = user.run("people", "show", "Eileen", status=Status.INCOMPLETE)
    assert str(other) in several.stderr
    merged = user.run("people", "merge", str(other), match["person_id"])
    assert "Eileen has 4 faces on 3 images now" in merged.stdout
    gone = user.run("people", "show", str(other), status=Status.INCOMPLETE)
    assert f"merged into {match['person_id']}" in gone.stderr
    nobody = user.run("people", "show", "Grace", status=Status.INCOMPLETE)
    assert "facette people list" in nobody.stderr


def test_photos_are_compared_and_a_photo_without_a_face_is_said_to_be_one(user: User) -> None:
    (compared,) = user.json("compare", "astronaut.jpg", "both.jpg")
    pairs = compared["pairs"]
    assert sorted(pair["verdict"] for pair in pairs) == ["different", "same"]  # type: ignore[attr-defined]
    assert "same" in user.run("compare", "astronaut.jpg", "both.jpg").stdout
    for words in (("compare", "hopper.jpg", "nobody.jpg"), ("search", "nobody.jpg")):
        done = user.run(*words, status=Status.INCOMPLETE)
        assert "there is no face on nobody.jpg\n  -> " in done.stderr


def test_tables_fit_a_terminal_and_lose_nothing_in_a_pipe(user: User) -> None:
    person = user.json("people", "list", "--limit", "1")[0]["id"]
    label = "A very long label, which no table of eighty columns has room for " * 2
    user.run("people", "rename", str(person), label)
    piped = user.run("people", "list")
    assert label.strip() in piped.stdout
    assert "\x1b" not in piped.stdout
    coloured = user.run("people", "list", FORCE_COLOR="1", COLUMNS="80", TERM="xterm")
    assert "\x1b[1m" in coloured.stdout
    shown = user.run("people", "list", FORCE_COLOR="1", NO_COLOR="1", COLUMNS="80", TERM="xterm")
    lines = re.sub(r"\x1b\[1?m|\x1b\[0m", "", shown.stdout).splitlines()  # bold is no colour
    assert max(map(len, lines)) <= 80
    assert str(person) in shown.stdout
    assert "\u2026" in shown.stdout


def test_a_key_that_is_wrong_or_a_service_that_is_gone_has_a_status_of_its_own(
    user: User, client: httpx.Client, tenant: str
) -> None:
    wrong = user.run("people", "list", status=Status.REFUSED, FACETTE_KEY="nothing")
    assert "facette token" in wrong.stderr
    made = client.post("/v1/keys", json={"name": "reader", "scopes": ["read"], "tenant_id": tenant})
    reader = made.json()["key"]
    refused = user.run("people", "rename", "x", "y", status=Status.INCOMPLETE, FACETTE_KEY=reader)
    assert "nobody is called" in refused.stderr
    refused = user.run("ingest", "nobody.jpg", status=Status.REFUSED, FACETTE_KEY=reader)
    assert "--scope write" in refused.stderr
    gone = user.run("people", "list", status=Status.UNREACHABLE, FACETTE_URL="http://127.0.0.1:9")
    assert "facette serve" in gone.stderr
