"""The service as most tests start it: its database is a copy, and no model is measured."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bench.common import server
from service.runtime.providers import EXECUTION_PROVIDERS
from service.runtime.sessions import available_providers
from tests.support.processor import EXACT_INT8

TOKEN = server.TOKEN
# Names the folder that the workers of one run share.
SHARED_FOLDER = "TESTS_SHARED_FOLDER"


class ServiceProcess(server.ServiceProcess):
    """A service that starts in half the time of a new installation.

    Its PostgreSQL data folder is a copy of one that was initialised and migrated before, and on a
    CPU its precision is the one that a measurement would choose.

    Args:
        first_start: leave both to the service, as in a new installation.
    """

    def __init__(
        self,
        folder: Path,
        models: Path,
        environment: Mapping[str, str] | None = None,
        *,
        first_start: bool = False,
    ) -> None:
        chosen = {} if first_start else {"FACETTE_INFERENCE_PRECISION": _precision()}
        super().__init__(folder, models, {**chosen, **(environment or {})})
        self._first_start = first_start

    def start(self) -> ServiceProcess:
        if not self._first_start:
            lay_database(self.data_dir)
        super().start()
        return self


def lay_database(data_dir: Path) -> None:
    """Copy the prepared database into a service's data folder, unless it has one."""
    target = data_dir / "postgres"
    if not target.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        # With its owner: as root, PostgreSQL runs as a user of its own.
        subprocess.run(["cp", "-a", _prepared_database(), target], check=True)


@cache
def _precision() -> str:
    others = set(EXECUTION_PROVIDERS.values()) - {EXECUTION_PROVIDERS["cpu"]}
    if others & set(available_providers()):
        return "auto"
    return "int8" if EXACT_INT8 else "fp32"


@cache
def _prepared_database() -> Path:
    """A stopped PostgreSQL data folder with every migration; the first worker makes it."""
    shared = Path(os.environ[SHARED_FOLDER])
    made = shared / "data" / "postgres"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "made").exists():
            clean = {k: v for k, v in os.environ.items() if not k.startswith("FACETTE_")}
            shutil.rmtree(shared / "data", ignore_errors=True)
            subprocess.run(
                [sys.executable, "-m", "service.cli", "migrate"],
                cwd=shared,
                env={**clean, "FACETTE_AUTH_TOKEN": TOKEN},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            (made / "log").unlink()
            (shared / "made").touch()
    return made
