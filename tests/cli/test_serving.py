"""What `facette serve` says on a terminal while it starts, and when it serves."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.serving import greeting
from service.config import AuthConfig, Config
from service.config.sections import ServerConfig
from tests.support.service import ServiceProcess, lay_database


class OnTerminal(ServiceProcess):
    """A service whose output is a terminal."""

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        lay_database(self.data_dir)
        self.terminal, inside = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--port", "0", *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        return self._process

    def read_until(self, wanted: str) -> str:
        """What the terminal shows until a text appears."""
        shown = ""
        while wanted not in shown:
            shown += os.read(self.terminal, 1 << 16).decode()
        return shown.replace("\r\n", "\n")


@pytest.fixture
def on_terminal(service_folder: Path, models_dir: Path) -> Iterator[OnTerminal]:
    service = OnTerminal(service_folder, models_dir)
    service.launch()
    yield service
    service.kill()
    os.close(service.terminal)


def test_a_terminal_shows_each_step_and_then_where_to_go(on_terminal: OnTerminal) -> None:
    shown = on_terminal.read_until("photos --tenant demo")
    steps = re.findall(r"^ +[\d.]+ s  (.+)$", shown, re.MULTILINE)
    assert [step.split()[0] for step in steps] == ["models", "starting", "loading"]
    assert "embedded PostgreSQL in data" in steps[1]
    assert re.search(r"serving on http://127\.0\.0\.1:\d+\n", shown)
    assert re.search(r"http://127\.0\.0\.1:\d+/docs", shown)
    assert " info " not in shown  # the steps say it
    os.kill(on_terminal.pid, signal.SIGINT)
    assert "stopped" in on_terminal.read_until("info    stopped")
    assert on_terminal.wait() == 0


def test_the_lines_to_try_name_the_address_where_it_is_not_the_configured_one() -> None:
    config = Config(
        auth=AuthConfig(token="a-long-enough-token"), server=ServerConfig(host="::", port=8000)
    )
    here = greeting(Path("config.toml"), config, "::", 8000)
    assert "serving on http://127.0.0.1:8000" in here
    assert "--url" not in here
    elsewhere = greeting(Path("config.toml"), config, "::1", 8001)
    assert "ingest photos --tenant demo --url http://[::1]:8001" in elsewhere
