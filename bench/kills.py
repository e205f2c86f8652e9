"""SIGKILL of the service, of PostgreSQL and of both, under load: what survives."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import tables
from bench.drills.callers import CONNECTIONS
from bench.drills.kills import kills
from bench.harness import default_settings, describe, sessions
from bench.photos import load
from bench.result import Effort, Result

_QUICK = 5
_LONG_SIDE = 320
_PHOTOS = 8
_NOTES = (
    (
        "kept: of the acknowledged inserts and deletions, the share that is as it was "
        "acknowledged: the image with every face and the file's bytes, or gone. whole: 1 when no "
        "image is there in part, and no row or file is missing what it belongs to. swept: 1 when "
        "the sweep removed every file without an image, and nothing else."
    ),
    (
        "After each kill everything so far is compared; the service is started again by the drill, "
        "PostgreSQL by the service."
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
    """What a run amounts to; 1 is wanted of each."""

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
