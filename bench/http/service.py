"""The running service that the HTTP benches load: its requests, its metrics, its processor time."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench import load
from bench.common.harness import MODELS
from bench.common.photos import Photo, crop_files
from bench.common.server import TOKEN, ServiceProcess
from bench.load import Call, Outcome, Phase
from bench.load.wire import multipart
from service.analysis.analyzer import AnalysisSettings

EMBED = "/v1/embed?input=crop"
INSERT = "/insert-image"
CONNECTIONS = 16
_CROPS = 24
_AUTHORIZATION = ("token", TOKEN)


@contextmanager
def running_service(environment: Mapping[str, str] | None = None) -> Iterator[ServiceProcess]:
    """A warm service with an empty database for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="facette-bench-", ignore_cleanup_errors=True) as name:
        service = ServiceProcess(
            Path(name), MODELS, {"FACETTE_SERVER_LOG_LEVEL": "warning", **(environment or {})}
        )
        service.start()
        try:
            yield service
        finally:
            service.stop()


def crop_calls() -> list[Call]:
    """Face crops of 160 x 160 pixels as JPEG files, each the body of one POST /v1/embed."""
    headers = (_AUTHORIZATION, ("Content-Type", "image/jpeg"))
    return [Call("POST", EMBED, headers, jpeg) for jpeg in crop_files(_CROPS)]


def photo_calls(
    photos: Sequence[Photo], *, form: bool = True, tenant: str | None = None
) -> list[Call]:
    """Every photo for a tenant, or a new one; as a form or as the raw file."""
    path = f"{INSERT}?tenant_id={tenant or uuid4().hex}"
    calls = []
    for photo in photos:
        content, body = (
            multipart("image", photo.jpeg) if form else (("Content-Type", "image/jpeg"), photo.jpeg)
        )
        calls.append(Call("POST", path, (_AUTHORIZATION, content), body))
    return calls


async def measure(service: ServiceProcess, phase: Phase, *, answered: bool = True) -> Outcome:
    """One phase of load.

    answered: every answer has to be 2xx.

    Raises:
        RuntimeError: something was answered otherwise, or not at all.
    """
    (outcome,) = await asyncio.to_thread(load.run, service.url, [phase])
    if answered and (outcome.errors or any(not 200 <= s < 300 for s in outcome.statuses)):
        raise RuntimeError(f"{phase.label}: {outcome.statuses} {outcome.codes} {outcome.errors}")
    return outcome


async def measure_capacity(
    service: ServiceProcess, calls: Sequence[Call], *, seconds: float, warmup_s: float = 1.0
) -> float:
    """Requests a second that a closed loop over CONNECTIONS gets answered.

    Raises:
        RuntimeError: none was answered within the time, or one with anything but 2xx.
    """
    phase = Phase(
        kind="closed",
        connections=CONNECTIONS,
        calls=calls,
        seconds=seconds,
        warmup_s=warmup_s,
        label="capacity",
    )
    found = (await measure(service, phase)).goodput_per_s
    if not found:
        raise RuntimeError(f"capacity: nothing was answered within {seconds:g} s")
    return found


Scrape = dict[tuple[str, str], float]
"""(sample name, value of its label `stage`, `reason` or the like, joined) -> value."""


def scrape(service: ServiceProcess) -> Scrape:
    """The service's metrics now."""
    with service.client() as client:
        text = client.get("/metrics").raise_for_status().text
    return {
        (sample.name, ",".join(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def by_label(after: Scrape, before: Scrape, name: str) -> dict[str, float]:
    """The growth of each sample of a metric."""
    return {
        label: value - before.get((sample, label), 0.0)
        for (sample, label), value in after.items()
        if sample == name
    }


def describe_service(service: ServiceProcess, settings: AnalysisSettings) -> dict[str, Any]:
    """The settings, and the providers and precisions that the service reports."""
    with service.client() as client:
        text = client.get("/metrics").raise_for_status().text
    models = {
        sample.labels["model"]: {
            "provider": sample.labels["provider"],
            "precision": sample.labels["precision"],
        }
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "facette_model" and sample.value == 1
    }
    return {"settings": dataclasses.asdict(settings), "models": models}


def settings_of(service: ServiceProcess, settings: AnalysisSettings) -> AnalysisSettings:
    """Settings that open the sessions which the service chose for FaceNet at its start."""
    chosen = describe_service(service, settings)["models"]["embedder"]
    sessions = dataclasses.replace(
        settings.sessions,
        provider=chosen["provider"].removesuffix("ExecutionProvider").lower(),
        precision=chosen["precision"],
    )
    return dataclasses.replace(settings, sessions=sessions)


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Seconds of processor time so far.

    event_loop: of the service's main thread, which does HTTP, batching and the database's protocol;
        workers: of its other threads. database: of PostgreSQL's processes.
    """

    event_loop: float
    workers: float
    database: float

    @property
    def service(self) -> float:
        return self.event_loop + self.workers

    def since(self, earlier: ProcessorTime) -> ProcessorTime:
        return ProcessorTime(
            self.event_loop - earlier.event_loop,
            self.workers - earlier.workers,
            self.database - earlier.database,
        )


def processor_time(service: ServiceProcess) -> ProcessorTime:
    """Of a service of one process, and of its embedded PostgreSQL."""
    process = psutil.Process(service.pid)
    whole = process.cpu_times()
    loop = next(each for each in process.threads() if each.id == service.pid)
    event_loop = loop.user_time + loop.system_time
    return ProcessorTime(
        event_loop=event_loop,
        workers=whole.user + whole.system - event_loop,
        database=_database_seconds(psutil.Process(_postmaster(service))),
    )


def _database_seconds(postmaster: psutil.Process) -> float:
    """Of the server, its backends, and those that have ended."""
    own = postmaster.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for backend in postmaster.children(recursive=True):
        try:
            times = backend.cpu_times()
        except psutil.NoSuchProcess:  # it ended since it was listed, and counts the next time
            continue
        total += times.user + times.system
    return float(total)


def _postmaster(service: ServiceProcess) -> int:
    file = service.data_dir / "postgres" / "postmaster.pid"
    return int(file.read_text(encoding="utf-8").splitlines()[0])
