"""/readyz and /metrics of a service whose background task keeps failing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from service.app import background
from service.app.background import RestartPolicy
from service.app.service import Service
from service.config import Config
from service.store.database.database import DatabaseSettings
from service.usecases.sweep import SweepSchedule

_FAILURES = 'facette_background_failures_total{task="sweeps"}'


@asynccontextmanager
async def _started(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The service within its lifespan, and a client of it."""
    to_service: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_service: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    lifespan = asyncio.create_task(
        service({"type": "lifespan"}, to_service.get, from_service.put)  # type: ignore[arg-type]
    )
    await to_service.put({"type": "lifespan.startup"})
    assert (await from_service.get())["type"] == "lifespan.startup.complete"
    try:
        transport = httpx.ASGITransport(app=service)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://facette") as client:
            yield client
    finally:
        await to_service.put({"type": "lifespan.shutdown"})
        assert (await from_service.get())["type"] == "lifespan.shutdown.complete"
        await lifespan


async def _failures(client: httpx.AsyncClient) -> float:
    (line,) = [
        line
        for line in (await client.get("/metrics")).text.splitlines()
        if line.startswith(_FAILURES)
    ]
    return float(line.rpartition(" ")[2])


async def test_service_with_a_dead_background_task_is_not_ready_and_goes_on_serving(
    empty_database: DatabaseSettings,
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_fail = asyncio.Event()

    async def fail(schedule: SweepSchedule) -> None:
        await may_fail.wait()
        raise RuntimeError("broken for a test")

    monkeypatch.setattr(SweepSchedule, "run", fail)
    monkeypatch.setattr(background, "RestartPolicy", lambda: RestartPolicy(0.001, 0.01))
    config = Config.model_validate(
        {
            "auth": {"token": "a-token-for-tests"},
            "database": {
                "host": empty_database.host,
                "port": empty_database.port,
                "dbname": empty_database.dbname,
                "user": empty_database.user,
                "password": "",
            },
            "paths": {"models_dir": models_dir, "upload_dir": tmp_path / "photos"},
        }
    )
    async with asyncio.timeout(200), _started(Service(config, lambda: config)) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert await _failures(client) == 0
        may_fail.set()
        # /readyz itself rests between two pings of the database.
        while (answer := await client.get("/readyz")).status_code == 200:
            continue
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "unavailable"
        assert "sweeps" in answer.json()["error"]["message"]
        assert await _failures(client) >= 5
        assert (await client.get("/healthz")).status_code == 200
