"""`facette reembed`: embeds all stored faces by another model, and prints its progress."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from service.analysis.stored_faces import StoredFaceEmbedder
from service.app.settings import BlobPlace, DatabasePlace
from service.commands.place import database_of
from service.domain.types import ModelSpace
from service.runtime.catalogue import ModelSet, named_model_set
from service.runtime.sessions import SessionSettings
from service.store.blob.opening import open_blob_store
from service.store.database.active_model import ActiveModel
from service.store.database.database import Database
from service.store.face.indexer import Indexer, IndexSettings
from service.store.face.vectors import open_vectors
from service.usecases.reembed import Progress, Reembed
from service.vision.formats.base import DecodeLimits

_EVERY_S = 5.0
_LOWEST_PRIORITY = 19


@dataclass(frozen=True, slots=True)
class ReembedOptions:
    """Arguments of the command.

    model: name of a model set. leave_lost: search by the model even if some faces have no usable
    image. keep_old: keep the vectors of other models. as_json: print progress as JSON lines.
    """

    model: str
    leave_lost: bool
    keep_old: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class ReembedPlaces:
    """The models, database and blobs of the service, and the settings to use them with."""

    models_dir: Path
    database: DatabasePlace
    blobs: BlobPlace
    sessions: SessionSettings
    decoding: DecodeLimits
    indexes: IndexSettings


def reembed(places: ReembedPlaces, options: ReembedOptions) -> int:
    """Embed all stored faces by another model, then search by it; returns the exit status.

    The status is 0, or 128 plus the number of the signal that stopped the command.

    Raises:
        ConfigError, ModelError: the model or the database cannot be used.
        LostFacesError: some faces cannot be embedded; the database keeps its model.
        StoreUnavailableError: the database or the blob store went away; finished work is kept.
    """
    models = named_model_set(places.models_dir, options.model)
    try:
        asyncio.run(_run(places, options, models))
    except (KeyboardInterrupt, asyncio.CancelledError) as stop:
        print("stopped; the same command continues from here", file=sys.stderr)
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        return 128 + number
    return 0


async def _run(places: ReembedPlaces, options: ReembedOptions, models: ModelSet) -> None:
    model = ActiveModel(ModelSpace(models.space), models.name)
    # SIGTERM unwinds the stack as Ctrl-C does, which stops an embedded server started here.
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        settings = await stack.enter_async_context(database_of(places.database))
        database = await Database.open(settings)
        stack.push_async_callback(database.close)
        blobs = await open_blob_store(places.blobs)
        _lower_priority()
        embedder = await asyncio.to_thread(
            StoredFaceEmbedder,
            models.folder,
            places.sessions,
            limits=places.decoding,
            space=models.space,
        )
        vectors = await stack.enter_async_context(open_vectors(database, model))
        work = Reembed(
            vectors,
            blobs,
            embedder,
            Indexer(database, places.indexes).round,
            leave_lost=options.leave_lost,
            keep_old=options.keep_old,
            on_progress=_Report(model, as_json=options.as_json),
        )
        await work()


def _lower_priority() -> None:
    """Give this process the lowest CPU priority; threads started later inherit it."""
    os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)


class _Report:
    """Prints a line when the phase changes, and every few seconds."""

    def __init__(self, model: ActiveModel, *, as_json: bool) -> None:
        self._model = model
        self._as_json = as_json
        self._began = self._printed = time.monotonic()
        self._phase = ""
        self._first_line_of_work = True

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        # The first batch is printed at once, to show that the command works.
        first = self._first_line_of_work and progress.added > 0
        if progress.phase == self._phase and now - self._printed < _EVERY_S and not first:
            return
        self._first_line_of_work = self._first_line_of_work and not first
        self._phase, self._printed = progress.phase, now
        rate = progress.added / max(now - self._began, 1e-3)
        left_s = (progress.faces - progress.embedded - progress.lost) / rate if rate else None
        if self._as_json:
            print(json.dumps(self._facts(progress, rate, left_s)), flush=True)
        else:
            print(self._line(progress, rate, left_s), flush=True)

    def _facts(self, progress: Progress, rate: float, left_s: float | None) -> dict[str, object]:
        return {
            "model": self._model.name,
            "space": self._model.space,
            **asdict(progress),
            "faces_per_s": round(rate, 1),
            "seconds_left": None if left_s is None else round(max(0.0, left_s)),
        }

    def _line(self, progress: Progress, rate: float, left_s: float | None) -> str:
        if progress.phase == "deleting":
            return f"deleting: {progress.deleted:,} old vectors are gone"
        if progress.phase == "done":
            kept = f"{progress.deleted:,} old vectors deleted"
            return (
                f"done: faces are searched by {self._model.name} ({self._model.space}); "
                f"{progress.added:,} were embedded, {progress.lost:,} could not be, {kept}"
            )
        text = f"{progress.phase}: {progress.embedded:,} of {progress.faces:,} faces"
        if progress.phase == "embedding" and left_s is not None:
            text += f", {rate:.0f} faces/s, {_duration(left_s)} left"
        return text + (f", {progress.lost:,} cannot be embedded" if progress.lost else "")


def _duration(seconds: float) -> str:
    whole = round(max(0.0, seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"
