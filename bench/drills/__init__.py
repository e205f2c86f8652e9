"""Interruptions of a service under load, each of a real `facette serve`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.common.harness import default_settings, describe, sessions
from bench.common.photos import load
from bench.common.result import Effort, Result
from bench.drills import interruptions
from bench.drills.callers import CONNECTIONS
from bench.drills.hangups import hangups
from bench.report import tables

_LONG_SIDE = 320
_PHOTOS = 8
_CLIENTS = 500
_NOTES = (
    (
        "kept: of the requests that reached the service, the share that was answered 200 with the "
        "right faces, stored and found afterwards with every face and the file's bytes (over "
        "SIGTERM: by the service that starts next), or was answered with an error that says to "
        "come back (SIGTERM: stopping, overloaded; PostgreSQL: store_unavailable; reload: none) "
        "while nothing of it is stored."
    ),
    "Every request sends a file of its own, so that a stored file is identified by its hash.",
    (
        f"{CONNECTIONS} callers, each with one connection, in a closed loop; photos of "
        f"{_LONG_SIDE} px. The moment of each repetition is drawn; a database is away for up to "
        "1.5 s and the time that it takes to start."
    ),
    (
        "disconnects: limits are raised to admit all clients. Left nothing: all gauges are zero, "
        "every request is recorded, at most as many photos as may be in work were decoded after "
        "the last client had gone, and every stored image is complete."
    ),
)


async def run(effort: Effort) -> Result:
    """Run every drill; each ratio should be 1."""
    repetitions = 1 if effort.quick else 2 * effort.rounds
    photos = [photo.jpeg for photo in load(_LONG_SIDE, _PHOTOS)]
    with _folder() as folder:
        sigterm = await interruptions.sigterm(folder, photos, repetitions)
    with _folder() as folder:
        reload = await interruptions.reload(folder, photos, 2 * repetitions)
    with _folder() as folder:
        fast = await interruptions.restart(folder, photos, repetitions, "fast")
    with _folder() as folder:
        immediate = await interruptions.restart(folder, photos, repetitions, "immediate")
    with _folder() as folder:
        gone = await hangups(folder, photos, _CLIENTS // 5 if effort.quick else _CLIENTS)
    drills = [each.document() for each in (sigterm, reload, fast, immediate)]
    settings = default_settings()
    return Result(
        unit="",
        rates={},
        compared={},
        other_ratios={
            "sigterm_kept": sigterm.tally.kept,
            "reload_kept": reload.tally.kept,
            "restart_kept": min(fast.tally.kept, immediate.tally.kept),
            "disconnects_left_nothing": float(gone["left_nothing"]),
        },
        details={
            "drills": drills,
            "disconnects": gone,
            "tables": {"drills": tables.drills(drills), "disconnects": tables.disconnects(gone)},
        },
        configuration=describe(settings, sessions(settings)),
        notes=_NOTES,
    )


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="facette-drill-", ignore_cleanup_errors=True) as name:
        yield Path(name)
