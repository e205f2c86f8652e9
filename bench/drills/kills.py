"""SIGKILL at random moments under load: of the service, of PostgreSQL, and of both at once."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import psutil

from bench.common import database
from bench.common.harness import MODELS, default_settings, describe, sessions
from bench.common.photos import load
from bench.common.result import Effort, Result
from bench.common.server import ServiceProcess
from bench.drills.callers import (
    CONNECTIONS,
    DELETE_FACE,
    DELETE_IMAGE,
    INSERT,
    Asked,
    Load,
    ask,
    delete,
    under_load,
)
from bench.drills.survival import Survey, survey
from bench.drills.verdict import Reference, reference
from bench.report import tables

SERVICE = "the service"
POSTMASTER = "PostgreSQL"
BACKEND = "one backend"
BOTH = "both at once"
_KINDS = (SERVICE, POSTMASTER, BOTH, SERVICE, BACKEND)
# Nothing is measured at start, so that it is short; nothing is swept before all is counted.
_SETTINGS = {"FACETTE_SERVER_LOG_LEVEL": "warning", "FACETTE_INFERENCE_PRECISION": "fp32"}
_NEVER_SWEPT = {"FACETTE_BLOBS_SWEEP_INTERVAL_S": "0"}
_SWEPT = {"FACETTE_BLOBS_SWEEP_INTERVAL_S": "1", "FACETTE_BLOBS_ORPHAN_GRACE_S": "1"}
_DELETES_IN_EIGHT = 2
_MOST_ANSWERS_BEFORE = 24
_LONGEST_MOMENT_S = 0.2
_ANSWERS_AFTER = 8
_RECOVERY_TIMEOUT_S = 120.0
_SWEEP_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Kind:
    """All kills of one kind. back_s: from each kill until the service was ready again."""

    name: str
    kills: int = 0
    asked: list[Asked] = field(default_factory=list)
    seen: Survey = field(default_factory=Survey)
    orphans: int = 0
    back_s: list[float] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The same for a file."""
        acknowledged = [each for each in self.asked if each.status == 200]
        return {
            "kind": self.name,
            "kills": self.kills,
            "requests": len(self.asked),
            "inserts_acknowledged": sum(each.route == INSERT for each in acknowledged),
            "deletions_acknowledged": sum(each.route != INSERT for each in acknowledged),
            **self.seen.document(),
            "orphans_before_sweep": self.orphans,
            "back_s": self.back_s,
        }


async def kills(folder: Path, photos: Sequence[bytes], count: int, seed: int) -> dict[str, Any]:
    """Kill, wait until all run again, and compare the stored with the acknowledged.

    The service is started again by the drill, PostgreSQL by the service.

    Raises:
        RuntimeError: it does not come up again.
    """
    drill = _Drill(folder, photos, seed)
    try:
        return await drill.run(count)
    finally:
        await asyncio.to_thread(drill.service.stop)


class _Drill:
    def __init__(self, folder: Path, photos: Sequence[bytes], seed: int) -> None:
        self._folder = folder
        self._photos = photos
        self._random = np.random.default_rng(seed)
        self._kinds = {name: Kind(name) for name in dict.fromkeys(_KINDS)}
        self._asked: list[Asked] = []
        self._deletable: list[Asked] = []
        self._orphans = 0
        self._seen = Survey()
        self.service = ServiceProcess(folder, MODELS, _SETTINGS | _NEVER_SWEPT)

    async def run(self, count: int) -> dict[str, Any]:
        await asyncio.to_thread(self.service.start)
        right = await reference(self.service, self._photos)
        for number in range(count):
            await self._kill_once(self._kinds[_KINDS[number % len(_KINDS)]], right)
        last = await database.stored(self.service)
        found = survey(self._asked, last, right).found
        for kind in self._kinds.values():
            kind.seen.found = found & {each.sha256 for each in kind.asked if each.route == INSERT}
        swept = await self._sweep()
        rows = [kind.document() for kind in self._kinds.values() if kind.kills]
        return {
            "kinds": rows,
            "orphans": {
                "before_sweep": last.files_without_row,
                "after_sweep": swept.files_without_row,
                "kept_all_else": swept.rows == last.rows,
            },
        }

    async def _kill_once(self, kind: Kind, right: Reference) -> None:
        kind.kills += 1
        dies = kind.name in (SERVICE, BOTH)
        async with under_load(self.service, self._photos, act=self._act) as load:
            await load.more(int(self._random.integers(1, _MOST_ANSWERS_BEFORE)))
            await asyncio.sleep(self._random.uniform(0, _LONGEST_MOMENT_S))
            began = time.monotonic()
            for process in self._victims(kind.name):
                process.kill()
            if not dies:
                await self._ready()
                kind.back_s.append(time.monotonic() - began)
                await load.more(_ANSWERS_AFTER)
        if dies:
            await asyncio.to_thread(self.service.kill)  # it is dead, and this waits for it
            await asyncio.to_thread(self.service.start)
            await self._ready()
            kind.back_s.append(time.monotonic() - began)
        kind.asked += load.asked
        self._asked += load.asked
        await self._look(right, kind, load)
        fresh = (each for each in load.asked if each.route == INSERT and each.status == 200)
        self._deletable = [each for each in fresh if each.answer["face_ids"]]

    def _victims(self, kind: str) -> list[psutil.Process]:
        """The processes to kill, in the order to do it."""
        service = psutil.Process(self.service.pid)
        postmaster = database.postmaster(self.service)
        if kind == SERVICE:
            return [service]
        if kind == POSTMASTER:
            return [postmaster]
        if kind == BACKEND:
            children = postmaster.children()
            return [children[int(self._random.integers(len(children)))]]
        return [[service, postmaster], [postmaster, service]][int(self._random.integers(2))]

    async def _act(self, client: httpx.AsyncClient, number: int, tenant: str) -> Asked:
        """Insert a photo, or delete an image, or a face, of those inserted before the last kill."""
        if number % 8 >= 8 - _DELETES_IN_EIGHT and self._deletable:
            old = self._deletable.pop()
            if number % 8 == 7:
                return await delete(client, DELETE_IMAGE, old, old.answer["image_id"])
            return await delete(client, DELETE_FACE, old, next(iter(old.answer["face_ids"])))
        photo = number // 8 % len(self._photos)
        return await ask(client, INSERT, tenant, photo, self._photos[photo])

    async def _ready(self) -> None:
        """Return once the service reports that it is ready.

        Raises:
            RuntimeError: it does not, with what it and PostgreSQL wrote last.
        """
        deadline = time.monotonic() + _RECOVERY_TIMEOUT_S
        async with self.service.async_client() as client:
            while time.monotonic() < deadline:
                if (await client.get("/readyz")).status_code == 200:
                    return
                await asyncio.sleep(0.02)
        log = self.service.data_dir / "postgres" / "log"
        texts = (self.service.log, log.read_text(encoding="utf-8"))
        raise RuntimeError("\n".join(["it is not ready again:", *(text[-5000:] for text in texts)]))

    async def _look(self, right: Reference, kind: Kind, load: Load) -> None:
        """Compare all requests with the stored content; new faults count for the kind of kill."""
        stored = await database.stored(self.service)
        kind.seen.add(survey(self._asked, stored, right), self._seen)
        kind.seen.unexpected += survey(load.asked, stored, right).unexpected
        kind.orphans += stored.files_without_row - self._orphans
        self._orphans = stored.files_without_row

    async def _sweep(self) -> database.Stored:
        """The stored content after a service that sweeps has run."""
        await asyncio.to_thread(self.service.stop)
        self.service = ServiceProcess(self._folder, MODELS, _SETTINGS | _SWEPT)
        await asyncio.to_thread(self.service.start)
        deadline = time.monotonic() + _SWEEP_TIMEOUT_S
        while (found := await database.stored(self.service)).files_without_row:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        return found


_QUICK = 5
_LONG_SIDE = 320
_PHOTOS = 8
_NOTES = (
    (
        "kept: the share of acknowledged inserts and deletions whose image is stored with every "
        "face and the file's bytes, or gone. whole: 1 if no image is stored in part, and no row or "
        "file lacks its counterpart. swept: 1 if the sweep removed every file without an image, "
        "and nothing else."
    ),
    (
        "All data are compared after each kill. The drill starts the service again, the service "
        "PostgreSQL."
    ),
)


async def run(effort: Effort) -> Result:
    """Kill `effort.rounds` times, at moments that `effort.seed` draws."""
    seed = secrets.randbelow(2**32) if effort.seed is None else effort.seed
    count = _QUICK if effort.quick else effort.rounds
    print(f"{count} kills, --seed {seed}", flush=True)
    photos = [photo.jpeg for photo in load(_LONG_SIDE, _PHOTOS)]
    with tempfile.TemporaryDirectory(prefix="facette-kills-", ignore_cleanup_errors=True) as name:
        found = await kills(Path(name), photos, count, seed)
    settings = default_settings()
    return Result(
        unit="",
        rates={},
        compared={},
        other_ratios=ratios(found["kinds"], found["orphans"]),
        details={"seed": seed, **found, "tables": {"kills": tables.kills(found)}},
        configuration={
            "connections": CONNECTIONS,
            "photos": _PHOTOS,
            "long_side": _LONG_SIDE,
            **describe(settings, sessions(settings)),
        },
        notes=[f"{CONNECTIONS} callers insert and delete; photos of {_LONG_SIDE} px.", *_NOTES],
    )


def ratios(kinds: Sequence[Mapping[str, Any]], orphans: Mapping[str, Any]) -> dict[str, float]:
    """The ratios of a run; each should be 1."""

    def total(name: str) -> int:
        return sum(row[name] for row in kinds)

    acknowledged = total("inserts_acknowledged") + total("deletions_acknowledged")
    amiss = total("lost") + total("undeleted")
    found = {
        "kills_kept": 1 - amiss / acknowledged if acknowledged else 0.0,
        "kills_whole": float(total("halves") == 0),
        "kills_answered_as_expected": float(not any(row["unexpected"] for row in kinds)),
    }
    if orphans["after_sweep"] is not None:
        swept = orphans["after_sweep"] == 0 and orphans["kept_all_else"]
        found["kills_swept"] = float(swept)
    return found
