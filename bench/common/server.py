"""The real service as a process of its own, with an embedded database, for benches and tests."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx2 as httpx
import psutil

TOKEN = "a-token-for-tests"  # noqa: S105
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
# The service speaks plain HTTP; a client without this loads the authorities to trust, for 25 ms.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class ServiceProcess:
    """One `facette serve` with its own folder, embedded database and port.

    Args:
        folder: its working folder; config.toml, data/ and service.log lie there.
        models: the exported models.
        environment: further FACETTE_ settings.
    """

    def __init__(
        self, folder: Path, models: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.log_path = folder / "service.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("FACETTE_")},
            "FACETTE_PATHS_MODELS_DIR": str(models),
            "FACETTE_AUTH_TOKEN": TOKEN,
            **(environment or {}),
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def resident_mb(self) -> float:
        """Resident memory of the service's process, in MB; PostgreSQL is not counted."""
        return float(psutil.Process(self.pid).memory_info().rss / 1e6)

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment that it runs in."""
        return self._environment

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def start(self) -> ServiceProcess:
        """Start it and wait until it says that it serves."""
        self.launch()
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if found := re.search(r"serving on (http://\S+)", self.log):
                self.url = found[1]
                return self
            if self._process.poll() is not None:
                raise RuntimeError(f"the service ended at once:\n{self.log}")
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"the service did not start in time:\n{self.log}")

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it without waiting, on a free port unless the arguments name one."""
        port = () if "--port" in arguments else ("--port", "0")
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "service.cli", "serve", *port, *arguments],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop and return its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended, and return its exit status."""
        assert self._process is not None
        return self._process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End it as a crash would: the embedded database stays behind."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def client(self, timeout_s: float = 60.0) -> httpx.Client:
        """A client with the token."""
        return httpx.Client(
            base_url=self.url,
            headers={"token": TOKEN},
            timeout=timeout_s,
            verify=NO_AUTHORITIES,
        )

    def async_client(self, timeout_s: float = 120.0) -> httpx.AsyncClient:
        """The same for many requests at once."""
        limits = httpx.Limits(max_connections=64)
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"token": TOKEN},
            timeout=timeout_s,
            limits=limits,
            verify=NO_AUTHORITIES,
        )
