"""A service that cannot start: one log line, which says why."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from service.app import service as service_module
from service.app.service import Service
from service.config import Config
from service.process.server import Server


def _fails_to_start(folder: Path) -> Server:
    config = Config.model_validate(
        {"auth": {"token": "a-token-for-tests"}, "paths": {"models_dir": folder / "no-models"}}
    )
    server = Server(Service(config, lambda: config), lambda: None, descriptors=1 << 20)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with pytest.raises(SystemExit):
            server.run(sockets=[listener])
    return server


def _said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_reason_is_logged_once_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = _fails_to_start(tmp_path)
    (line,) = _said(caplog)
    assert str(tmp_path / "no-models") in line.getMessage()
    assert not line.exc_info
    assert not server.started


def test_unexpected_error_is_logged_once_with_its_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The text of the message decides nothing.
    error = RuntimeError("Application startup failed")

    def fail(models: Path) -> None:
        raise error

    monkeypatch.setattr(service_module, "check_models", fail)
    _fails_to_start(tmp_path)
    (line,) = _said(caplog)
    assert line.exc_info
    assert line.exc_info[1] is error


def test_uvicorns_log_is_as_before_after_a_failed_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _fails_to_start(tmp_path)
    caplog.clear()
    logging.getLogger("uvicorn.error").error("Application startup failed by another server")
    assert len(_said(caplog)) == 1
