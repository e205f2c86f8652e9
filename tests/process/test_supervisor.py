"""The supervisor without serving processes: what it does when none can be started."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from service.config import Config
from service.process.supervisor import Supervisor
from service.store.database.database import DatabaseSettings


async def test_program_that_cannot_be_run_ends_the_supervisor(
    empty_database: DatabaseSettings,
    models_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = {
        "host": empty_database.host,
        "port": empty_database.port,
        "dbname": empty_database.dbname,
        "user": empty_database.user,
        "password": "",
    }
    config = Config.model_validate(
        {
            "auth": {"token": "a-token-for-tests"},
            "database": database,
            "paths": {"models_dir": models_dir},
            "server": {"processes": 2},
        }
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        supervisor = Supervisor(
            config, [listener], [str(tmp_path / "no-program")], lambda: config, lambda: None
        )
        async with asyncio.timeout(60):
            assert await supervisor.run() == 2
    (line, *_) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "giving up" in line.getMessage()
    assert "No such file" in str(line.fields)  # type: ignore[attr-defined]
