"""A real service in a process of its own, with an embedded database in a temporary folder."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.harness import MODELS

TOKEN = "a-token-for-benches"  # noqa: S105
_START_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class RunningService:
    """Where it listens, and which process it is."""

    url: str
    pid: int

    @property
    def resident_mb(self) -> float:
        """Resident memory of the service's process, in MB; PostgreSQL is not counted."""
        return float(psutil.Process(self.pid).memory_info().rss / 1e6)


@contextmanager
def running_service() -> Iterator[RunningService]:
    """Start `facette serve` on a free port and stop it when the block ends."""
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as folder:
        config = Path(folder) / "config.toml"
        config.write_text(
            f'[auth]\ntoken = "{TOKEN}"\n'
            f'[paths]\nmodels_dir = "{MODELS}"\n'
            '[server]\nlog_level = "warning"\n',
            encoding="utf-8",
        )
        output = Path(folder) / "output"
        with output.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "service.cli", "--config", config, "serve", "--port", "0"],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield RunningService(_wait_for_url(process, output), process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _wait_for_url(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"serving on (\S+)", output.read_text(encoding="utf-8")):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the service did not start:\n{output.read_text(encoding='utf-8')}")
