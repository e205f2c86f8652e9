"""The supervisor of several serving processes: starts, replaces, reloads and stops them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import service
from service.app.keys import prepare_keys
from service.app.settings import database_settings, master_secret_place, place_in_words
from service.config import Config
from service.domain.errors import ConfigError
from service.process.hangup import Hangup
from service.runtime.manifest import load_manifest
from service.store.access.master import MasterSecretFile, MasterSecretPlace
from service.store.database.database import Database
from service.telemetry import configure_logging, forget_process, shared_metrics_environment

_logger = logging.getLogger(__name__)

# A process that ends within this time is replaced after a pause that doubles each time.
_STEADY_S = 30.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# Time beyond the shutdown limits in which a process closes its models and connections.
_CLOSING_S = 15.0
_READY = b"+"


@dataclass(eq=False, slots=True)
class _Child:
    process: asyncio.subprocess.Process
    started_at: float
    ready_at: float | None = None

    def is_ready(self) -> None:
        """Take note that the process answers requests."""
        self.ready_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Inherited:
    """What every serving process gets from the supervisor.

    alive: read end of a pipe that closes when the supervisor dies. metrics_dir: shared metrics.
    """

    environment: Mapping[str, str]
    alive: int
    metrics_dir: str


class Supervisor:
    """Runs `server.processes` serving processes that share their listening sockets.

    It starts the embedded database, if one is configured, and migrates the schema. The processes
    get the address in their environment. The supervisor loads no model and answers no request.

    Args:
        listeners: the listening socket, and that of the operations port, if there is one.
        command: command line of one process. Four file descriptors are appended: the listening
            socket, a pipe that closes when the supervisor dies, a pipe to report readiness
            through, and the socket of the operations port, if there is one.
        load: reads the configuration again.
        on_ready: called once, when all processes are ready.
        say: takes each step of the start in words, before it begins.
    """

    def __init__(
        self,
        config: Config,
        listeners: Sequence[socket.socket],
        command: Sequence[str],
        load: Callable[[], Config],
        on_ready: Callable[[], None],
        say: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._say = say
        self._config = config
        self._listeners = listeners
        self._command = command
        self._load = load
        self._on_ready = on_ready
        self._hangup = Hangup()
        self._stop = asyncio.Event()
        self._children: set[_Child] = set()
        self._reloaded_at = 0.0
        self._announced = False
        self._failed = False

    async def run(self) -> int:
        """Serve until a signal stops it; returns the exit status.

        Raises:
            ConfigError, ModelError: the configuration or the models cannot be used.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop_or_kill)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        # An error is reported here once, and not by every process.
        load_manifest(self._config.paths.models_dir)
        async with AsyncExitStack() as stack:
            self._say(f"starting {place_in_words(self._config)}")
            settings = database_settings(self._config, stack)
            database = await Database.open(settings)
            place = master_secret_place(self._config)
            try:
                await prepare_keys(database, place)
            finally:
                await database.close()
            metrics_dir = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="facette-metrics-")
            )
            # The write end stays open in this process alone: the read end closes when it dies.
            alive, life = os.pipe()
            stack.callback(os.close, alive)
            stack.callback(os.close, life)
            environment = _environment(
                settings.embedded,
                FACETTE_SERVER_PROCESSES=str(self._config.server.processes),
                FACETTE_DATABASE_HOST=settings.host,
                FACETTE_DATABASE_PORT=str(settings.port),
                FACETTE_DATABASE_DBNAME=settings.dbname,
                FACETTE_DATABASE_USER=settings.user,
                FACETTE_DATABASE_PASSWORD=settings.password,
                # The processes see a configured database, beside which they look for no file.
                **_master_secret_environment(place),
                **shared_metrics_environment(metrics_dir),
            )
            inherited = _Inherited(environment, alive, metrics_dir)
            self._say(f"starting {self._config.server.processes} processes, which load the models")
            keepers = [
                asyncio.create_task(self._keep(inherited))
                for _ in range(self._config.server.processes)
            ]
            stop = asyncio.create_task(self._stop.wait())
            # A keeper ends before the stop by an error alone, which `_stop_all` raises.
            await asyncio.wait([stop, *keepers], return_when=asyncio.FIRST_COMPLETED)
            self._stop.set()
            await self._stop_all(keepers)
            await stop
        _logger.info("stopped")
        return 2 if self._failed else 0

    async def _keep(self, inherited: _Inherited) -> None:
        """Keep one process running until the supervisor stops."""
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            ready_at: float | None = None
            fields: dict[str, object]
            try:
                child = await self._run_child(inherited)
            except OSError as error:  # no memory or no descriptors for another process
                fields = {"error": str(error)}
            else:
                ready_at = child.ready_at
                fields = {"pid": child.process.pid, "status": _status(child.process)}
            if self._stop.is_set():
                return
            if ready_at is None and not (self._announced and self._serving()):
                _logger.error(
                    "a process ended before it was ready: giving up", extra={"fields": fields}
                )
                self._failed = True
                self._stop.set()
                return
            if ready_at is not None and time.monotonic() - ready_at >= _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            _logger.error(
                "a process ended and is replaced",
                extra={"fields": {**fields, "pause_s": pause_s}},
            )
            try:
                await asyncio.wait_for(self._stop.wait(), pause_s)
            except TimeoutError:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _run_child(self, inherited: _Inherited) -> _Child:
        """Run one process, and return when it has ended."""
        told, tell = os.pipe()
        try:
            main, *others = (listener.fileno() for listener in self._listeners)
            descriptors = (main, inherited.alive, tell, *others)
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *map(str, descriptors),
                pass_fds=descriptors,
                env=inherited.environment,
                # Ctrl-C in a terminal reaches the supervisor alone, which stops the processes.
                process_group=0,
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tell)
        child = _Child(process, time.monotonic())
        self._children.add(child)
        try:
            if self._stop.is_set():
                process.terminate()
            elif await _read_byte(told) == _READY:
                self._note_ready(child)
            await process.wait()
        finally:
            self._children.discard(child)
            os.close(told)
            forget_process(process.pid, inherited.metrics_dir)
        return child

    def _note_ready(self, child: _Child) -> None:
        child.is_ready()
        _logger.info("process ready", extra={"fields": {"pid": child.process.pid}})
        # The process may have read the configuration before it changed.
        if self._reloaded_at > child.started_at:
            child.process.send_signal(signal.SIGHUP)
        if not self._announced and self._serving() == self._config.server.processes:
            self._announced = True
            self._on_ready()

    def _serving(self) -> int:
        return sum(child.ready_at is not None for child in self._children)

    def _hang_up(self) -> None:
        if self._hangup.means_stop():
            self._stop_or_kill()
            return
        try:
            read = self._load()
        except ConfigError:
            pass  # each process reads it too, logs the error and counts it
        else:
            self._config = self._config.model_copy(
                update={
                    "server": self._config.server.model_copy(
                        update={
                            "shutdown_delay_s": read.server.shutdown_delay_s,
                            "shutdown_timeout_s": read.server.shutdown_timeout_s,
                        }
                    )
                }
            )
            configure_logging(read.server.log_level, as_json=read.server.log_json)
        self._reloaded_at = time.monotonic()
        for child in self._children:
            if child.ready_at is not None:
                child.process.send_signal(signal.SIGHUP)

    def _stop_or_kill(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        _logger.warning("stopping at once")
        self._failed = True
        for child in self._children:
            child.process.kill()

    async def _stop_all(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        # The kernel would accept connections to an open socket, and nobody would serve them.
        for listener in self._listeners:
            listener.close()
        for child in self._children:
            child.process.terminate()
        limits = self._config.server
        limit_s = limits.shutdown_delay_s + limits.shutdown_timeout_s + _CLOSING_S
        _, late = await asyncio.wait(keepers, timeout=limit_s)
        if late:
            _logger.error("processes did not stop in time", extra={"fields": {"count": len(late)}})
            self._failed = True
            for child in self._children:
                child.process.kill()
        await asyncio.gather(*keepers)


def _environment(is_embedded: bool, **settings: str) -> Mapping[str, str]:
    """The environment of this process with `settings`, and with its package on the path.

    Args:
        is_embedded: the database is the embedded one. The processes see a configured database, for
            which variables of PostgreSQL such as PGSSLMODE would hold.
    """
    mine = dict(os.environ)
    if is_embedded:
        mine = {name: value for name, value in mine.items() if not name.startswith("PG")}
        mine["PGPASSWORD"] = ""  # else a password is looked for in the home folder
    root = str(Path(service.__file__).parents[1])
    path = [*filter(None, [os.environ.get("PYTHONPATH")]), root]
    return {**mine, "PYTHONPATH": os.pathsep.join(path), **settings}


def _master_secret_environment(place: MasterSecretPlace) -> dict[str, str]:
    if isinstance(place, MasterSecretFile):
        return {"FACETTE_AUTH_MASTER_SECRET_FILE": str(place.path)}
    return {}


def say_ready(tell: int) -> None:
    """Report to the supervisor, from a serving process, that requests are answered."""
    os.write(tell, _READY)
    os.close(tell)


def child_command(config_path: Path) -> list[str]:
    """The command line of a serving process; it imports no package of the working folder."""
    return [
        sys.executable,
        "-P",
        "-m",
        "service.cli",
        "--config",
        str(config_path),
        "serve-process",
    ]


def _status(process: asyncio.subprocess.Process) -> str:
    code = process.returncode
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return str(code)


async def _read_byte(pipe: int) -> bytes:
    """The next byte of a pipe; empty when its last writer has closed it."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pipe, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(pipe)
    return os.read(pipe, 1)
