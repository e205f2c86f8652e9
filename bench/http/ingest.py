"""`facette ingest` of a folder, beside the capacity of the service; killed, and resumed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from bench.common.harness import default_settings
from bench.common.measure import interleave_rated
from bench.common.result import Effort, Result
from bench.common.server import TOKEN, ServiceProcess
from bench.http.album import Album, make_album
from bench.http.service import (
    CONNECTIONS,
    describe_service,
    measure,
    running_service,
    scrape,
)
from bench.load import Call, Phase

_ROOT = Path(__file__).resolve().parents[2]
_PHOTOS = 2000
_QUICK_PHOTOS = 40
# Of each round, for the ratio.
_ROUND_PHOTOS = 2000
_QUICK_ROUND_PHOTOS = 20
_ROUNDS = 3
_INGEST = "facette ingest"
_CAPACITY = f"load client, {CONNECTIONS} connections"
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the command."""

    status: int
    seconds: float
    peak_mb: float
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Command:
    """The command, with a journal of its own."""

    service: ServiceProcess
    folder: Path

    async def run(self, album: Album, tenant: str, *, kill_at: int | None = None) -> _Run:
        """Ingest a folder; kill the command when the tenant has a number of photos.

        Raises:
            RuntimeError: it ended before it could be killed.
        """
        words = ["ingest", str(album.folder), "--tenant", tenant, "--json"]
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.cli", *words, "--report", str(self.report)),
            cwd=self.folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("FACETTE_")},
                "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "clients" / "python")]),
                "FACETTE_URL": self.service.url,
                "FACETTE_KEY": TOKEN,
                "XDG_STATE_HOME": str(self.folder),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        reading = asyncio.create_task(process.communicate())
        watching = asyncio.create_task(asyncio.to_thread(_peak_mb, process.pid))
        if kill_at is not None:
            await asyncio.to_thread(self._wait_for, tenant, kill_at, reading)
            if reading.done():
                raise RuntimeError("the ingest ended before it was killed")
            process.send_signal(signal.SIGKILL)
        output, _ = await reading
        seconds = time.perf_counter() - began
        peak_mb = await watching
        assert process.returncode is not None
        summary = json.loads(output) if output else {}
        return _Run(process.returncode, seconds, peak_mb, summary)

    @property
    def report(self) -> Path:
        """What failed in the last run."""
        return self.folder / "report.jsonl"

    def stored(self, tenant: str) -> int:
        """The number of the tenant's photos."""
        with self.service.client() as client:
            answer = client.get(f"/v1/tenants/{tenant}")
        return 0 if answer.status_code == httpx.codes.NOT_FOUND else answer.json()["image_count"]

    def _wait_for(self, tenant: str, photos: int, unless: asyncio.Task[Any]) -> None:
        """Return when a tenant has a number of photos, or the command has ended."""
        while not unless.done() and self.stored(tenant) < photos:
            time.sleep(_POLL_S)

    def digests(self, tenant: str) -> Counter[str]:
        """The hashes of the tenant's files, and how often it has each."""
        found: Counter[str] = Counter()
        query: dict[str, str] = {"limit": "500"}
        with self.service.client() as client:
            while True:
                page = client.get(f"/v1/tenants/{tenant}/images", params=query)
                body = page.raise_for_status().json()
                found.update(each["sha256"] for each in body["items"])
                if body["next"] is None:
                    return found
                query["cursor"] = body["next"]


async def run(effort: Effort) -> Result:
    """Measure the rate beside the capacity, then kill and resume an ingest of the whole folder."""
    rounds = min(effort.rounds, _ROUNDS)
    number = _QUICK_PHOTOS if effort.quick else max(_QUICK_PHOTOS, round(_PHOTOS * effort.scale))
    each = _QUICK_ROUND_PHOTOS if effort.quick else min(_ROUND_PHOTOS, number)
    with (
        running_service() as service,
        tempfile.TemporaryDirectory(prefix="facette-album-") as name,
    ):
        folder = Path(name)
        command = _Command(service, folder)
        rates = await interleave_rated(_contestants(command, each), rounds)
        service_mb = [service.resident_mb]
        album = make_album(folder / "album", number, seed=0)
        table, peaks = await _killed_and_resumed(command, album)
        service_mb.append(service.resident_mb)
        configuration = describe_service(service, default_settings())
    return Result(
        unit="photos/s",
        rates=rates,
        compared={"ingest_vs_capacity": (_INGEST, _CAPACITY)},
        details={
            "memory_mb": {
                "facette ingest, small folders": round(peaks[0]),
                f"facette ingest, {number} photos": round(peaks[1]),
                "the service's process, before": round(service_mb[0]),
                "the service's process, after": round(service_mb[1]),
            },
            "tables": {"resumed": table},
        },
        configuration={"photos": number, **configuration},
        notes=[
            (
                f"{each} photos of 1024 px a round, of new folders and tenants, in turns. The time "
                "of `facette ingest` includes its start, and finding, hashing and asking about "
                "every file. Client, service and embedded PostgreSQL share the cores."
            ),
            (
                f"Then a folder of {number} photos with broken files, copies, links and other "
                "files among them: the command is killed by SIGKILL when half of the photos are "
                "stored, and begun again. It fails unless each photo is stored once, the report "
                "names exactly the broken files, and a further run sends nothing."
            ),
        ],
    )


def _contestants(command: _Command, number: int) -> dict[str, Any]:
    """The command and the load client, which take turns on new photos."""
    seeds = iter(range(1, 1000))

    async def ingest() -> float:
        seed = next(seeds)
        with tempfile.TemporaryDirectory(dir=command.folder) as name:
            album = make_album(Path(name), number, seed)
            os.sync()  # else the pages just written go to the disk meanwhile
            found = await command.run(album, f"round-{seed}")
        if found.summary.get("stored") != len(album.photos):
            raise RuntimeError(f"the ingest says {found.summary}")
        return number / found.seconds

    async def capacity() -> float:
        seed = next(seeds)
        with tempfile.TemporaryDirectory(dir=command.folder) as name:
            photos = make_album(Path(name), number, seed).read()
        os.sync()
        headers = (("token", TOKEN), ("Content-Type", "image/jpeg"))
        path = f"/v1/tenants/capacity-{seed}/images"
        calls = [Call("POST", path, headers, photo) for photo in photos]
        outcome = await measure(
            command.service,
            Phase(
                kind="closed",
                connections=CONNECTIONS,
                calls=calls,
                seconds=1.0 if number <= _QUICK_ROUND_PHOTOS else 20.0,
                label=_CAPACITY,
            ),
        )
        return outcome.goodput_per_s

    return {_INGEST: ingest, _CAPACITY: capacity}


async def _killed_and_resumed(
    command: _Command, album: Album
) -> tuple[dict[str, Any], tuple[float, float]]:
    """The table of an ingest in two parts and one more, and the peaks of memory of two runs.

    Raises:
        RuntimeError: a photo is there twice or not at all, or the report says otherwise.
    """
    tenant = "album"
    small = await command.run(make_album(command.folder / "small", 20, seed=-1), "small")
    killed = await command.run(album, tenant, kill_at=len(album.photos) // 2)
    resumed = await command.run(album, tenant)
    there = command.digests(tenant)
    if there != Counter(album.photos):
        raise RuntimeError(f"{len(album.photos - set(there))} are missing, {there.most_common(1)}")
    _check_report(command, album)
    posts, stored = _posts(command.service), command.stored(tenant)
    again = await command.run(album, tenant)
    sent = _posts(command.service) - posts
    if sent or again.summary["sent_bytes"] or command.stored(tenant) != stored:
        raise RuntimeError(f"the run after the last sent {sent} photos: {again.summary}")
    _check_report(command, album)
    rows = [
        # The service completes what was under way when the command was killed.
        ("killed", len(album.photos) - resumed.summary["stored"], 0, killed),
        ("resumed", resumed.summary["stored"], resumed.summary["known"], resumed),
        ("again", again.summary["stored"], again.summary["known"], again),
    ]
    table = {
        "head": ["run", "stored", "there already", "failed", "seconds", "client's peak, MB"],
        "rows": [
            [
                name,
                str(stored),
                str(known),
                str(done.summary.get("failed", "")),
                f"{done.seconds:.1f}",
                f"{done.peak_mb:.0f}",
            ]
            for name, stored, known, done in rows
        ],
    }
    return table, (small.peak_mb, resumed.peak_mb)


def _check_report(command: _Command, album: Album) -> None:
    lines = command.report.read_text(encoding="utf-8").splitlines()
    named = Counter(Path(json.loads(line)["path"]).name for line in lines)
    if named != Counter(album.broken):
        raise RuntimeError(f"the report names {named}, and {len(album.broken)} files are broken")


def _posts(service: ServiceProcess) -> float:
    """Photos that the service decoded so far."""
    return scrape(service).get(("facette_stage_seconds_count", "decode"), 0.0)


def _peak_mb(pid: int) -> float:
    """The most memory that a process had, in MB, once it has ended."""
    peak_kb = 0
    while True:
        try:
            text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            return peak_kb / 1e3
        if "VmHWM:" not in text:  # it has ended, and nobody has asked for its status yet
            return peak_kb / 1e3
        peak_kb = int(text.split("VmHWM:")[1].split()[0])
        time.sleep(_POLL_S)
