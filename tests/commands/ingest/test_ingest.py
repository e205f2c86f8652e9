"""`facette ingest` against a service: stopped, killed, resumed; nothing twice, nothing missing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import pytest

from bench.common.server import TOKEN, ServiceProcess
from service.commands.statuses import Status
from tests.support.calls import Photos, decode, encode
from tests.support.command import facette
from tests.support.folders import ROOT
from tests.support.live import wait_until

PHOTOS = 30


@pytest.fixture
def album(photos: Photos, tmp_path: Path) -> Path:
    """A folder of different photos, with broken ones, links, copies and other files among them."""
    folder = tmp_path / "album"
    (folder / "2025").mkdir(parents=True)
    picture = decode(photos.astronaut)
    for number in range(PHOTOS):
        cut = picture.crop((number, 0, picture.width, picture.height))
        place = folder / "2025" if number % 2 else folder
        (place / f"{number}.jpg").write_bytes(encode(cut))
    (folder / "copy.jpg").write_bytes((folder / "0.jpg").read_bytes())
    (folder / "link.jpg").symlink_to(folder / "2.jpg")
    (folder / "2025" / "round").symlink_to(folder)
    (folder / "broken.jpg").write_bytes(photos.hopper[: len(photos.hopper) // 2])
    (folder / "noise.jpg").write_bytes(hashlib.sha256(b"noise").digest() * 100)
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.jpg").write_bytes(photos.both)
    return folder


class Caller:
    """Ingests of one tenant, with a journal and an environment of their own."""

    def __init__(self, service: ServiceProcess, client: httpx.Client, tenant: str, folder: Path):
        self._client = client
        self._tenant = tenant
        self._folder = folder
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("FACETTE_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")]),
            "FACETTE_URL": service.url,
            "FACETTE_KEY": TOKEN,
            "XDG_STATE_HOME": str(folder.parent / "state"),
        }
        self.words = ("ingest", str(folder), "--tenant", tenant, "--report", "report.jsonl")

    def stored(self) -> list[str]:
        """The hashes of the tenant's files."""
        answer = self._client.get(f"/v1/tenants/{self._tenant}/images", params={"limit": 500})
        return [each["sha256"] for each in answer.json().get("items", [])]

    def stop_after(self, photos: int, how: signal.Signals) -> tuple[int, str]:
        """Begin an ingest and end it after some photos; returns its status and what it said."""
        running = subprocess.Popen(
            [sys.executable, "-m", "service.cli", *self.words, "--at-once", "1"],
            cwd=self._folder.parent,
            env=self._environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        wait_until(lambda: len(self.stored()) >= photos or running.poll() is not None)
        running.send_signal(how)
        _, said = running.communicate()
        return running.returncode, said

    def finish(self) -> dict[str, object]:
        """An ingest to its end; returns its summary."""
        done = facette(self._folder.parent, *self.words, "--json", environment=self._environment)
        assert done.returncode == Status.INCOMPLETE, done.stderr
        summary: dict[str, object] = json.loads(done.stdout)
        return summary

    def failed(self) -> Counter[tuple[str, str]]:
        """What the report names: file and code."""
        lines = (self._folder.parent / "report.jsonl").read_text("utf-8").splitlines()
        told = [json.loads(line) for line in lines]
        return Counter((Path(each["path"]).name, each["code"]) for each in told)


def test_an_ingest_that_is_stopped_and_killed_goes_on_where_it_was(
    service: ServiceProcess, client: httpx.Client, tenant: str, album: Path
) -> None:
    caller = Caller(service, client, tenant, album)
    status, said = caller.stop_after(5, signal.SIGINT)
    assert (status, "the same command goes on" in said) == (Status.INTERRUPTED, True), said
    status, _ = caller.stop_after(12, signal.SIGKILL)
    assert status == -signal.SIGKILL
    before = len(caller.stored())
    assert before < PHOTOS
    summary = caller.finish()
    files = [album / name for name in ("", "2025")]
    expected = {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in files
        for path in folder.glob("[0-9]*.jpg")
    }
    assert len(expected) == PHOTOS
    assert sorted(caller.stored()) == sorted(expected)  # nothing twice, nothing missing
    broken = Counter({("broken.jpg", "corrupt_image"): 1, ("noise.jpg", "unsupported_image"): 1})
    assert caller.failed() == broken
    assert summary["photos"] == PHOTOS + 3
    assert (summary["no_photos"], summary["hidden"], summary["links"]) == (1, 1, 2)
    assert summary["known"] == PHOTOS + 1 - int(str(summary["stored"]))
    again = caller.finish()
    assert (again["stored"], again["known"], again["sent_bytes"]) == (0, PHOTOS + 1, 0)
    assert caller.failed() == broken
    assert len(caller.stored()) == PHOTOS
