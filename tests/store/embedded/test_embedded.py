"""The embedded PostgreSQL: it comes back after a crash, and stays down when it is told to."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from service.domain.errors import ConfigError
from service.store.embedded import watch as embedded_watch
from service.store.embedded.account import ServerAccount
from service.store.embedded.server import EmbeddedAddress, embedded_server
from service.store.embedded.settings import EmbeddedSettings, parameters
from tests.support.databases import ask
from tests.support.folders import open_folder
from tests.support.live import postmasters, wait_until
from tests.support.service import lay_database

# More connections than PostgreSQL's own configuration has: a recovery as the tests hold one up
# refuses to go on with fewer than there were before.
SMALL = EmbeddedSettings(shared_buffers_mb=128, connections=200)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A folder with a database that was shut down in order."""
    with open_folder() as folder:
        lay_database(folder)
        yield folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, watched closely; whatever a test leaves running is ended."""
    monkeypatch.setattr(embedded_watch, "_LOOK_S", 0.01)
    yield made
    recovery = made / "postgres" / "recovery.signal"
    recovery.unlink(missing_ok=True)
    (made / "postgres" / "postgresql.auto.conf").write_text("")
    for process in postmasters(made):
        process.kill()
        process.wait(30)


def the_server(folder: Path) -> psutil.Process:
    (found,) = postmasters(folder)
    return found


def answers(address: EmbeddedAddress) -> bool:
    try:
        return bool(ask(address, "SELECT 1") == 1)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


def pg_ctl(folder: Path, *arguments: str) -> None:
    """As an operator would use it."""
    from service.store.embedded.cluster import Cluster, programs

    cluster = Cluster.prepare(folder / "postgres", {})
    subprocess.run(
        [programs() / "pg_ctl", "-D", cluster.folder, "-w", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **cluster.account.of_process,
    )


class Gate:
    """Holds up a recovery until it is opened, as one of many gigabytes would take its time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "open"
        cluster = folder / "postgres"
        asked_for = cluster / "recovery.signal"
        if postmasters(folder):
            # One that recovers takes connections before it has come to its end, and asks again.
            wait_until(lambda: not asked_for.exists())
        self._file.unlink(missing_ok=True)
        command = f"while ! test -e {self._file}; do sleep 0.05; done; false"
        (cluster / "postgresql.auto.conf").write_text(f"restore_command = '{command}'\n")
        asked_for.touch()

    def open(self) -> None:
        self._file.touch()


class Starts:
    """How often a server was started; `first` is set when one is about to be."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        from service.store.embedded.cluster import Cluster

        self.count = 0
        self.first = threading.Event()
        start = Cluster.start

        def counted(cluster: Cluster, stop: threading.Event) -> bool:
            self.count += 1
            self.first.set()
            return start(cluster, stop)

        patch.setattr(Cluster, "start", counted)


def test_a_killed_server_comes_back_with_all_that_was_committed(folder: Path) -> None:
    with embedded_server(folder, SMALL) as address:
        ask(address, "DROP TABLE IF EXISTS kept")
        ask(address, "CREATE TABLE kept AS SELECT 7 AS number")
        for _ in range(3):
            killed = the_server(folder)
            killed.kill()
            wait_until(lambda: answers(address))
            assert the_server(folder).pid != killed.pid
            assert ask(address, "SELECT number FROM kept") == 7
    assert postmasters(folder) == []


def test_a_killed_backend_needs_no_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded_server(folder, SMALL) as address:
        starts = Starts(monkeypatch)
        server = the_server(folder)
        server.children()[0].kill()
        wait_until(lambda: answers(address))
        assert the_server(folder) == server
    assert starts.count == 0


def test_a_busy_backend_of_a_killed_server_does_not_keep_it_down(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.embedded.cluster._BACKENDS_END_S", 0.2)
    with embedded_server(folder, SMALL) as address:
        lost: list[str] = []

        def count_for_long() -> None:
            try:
                ask(address, "SELECT count(*) FROM generate_series(1, 1000000000) a WHERE a > 7")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                lost.append(type(error).__name__)

        asked = threading.Thread(target=count_for_long)
        asked.start()
        busy = (
            "SELECT pid FROM pg_stat_activity "
            "WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()"
        )
        wait_until(lambda: ask(address, busy) is not None)
        backend = psutil.Process(ask(address, busy))
        the_server(folder).kill()
        wait_until(lambda: answers(address))
        assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
        asked.join(60)
        assert len(lost) == 1


def test_a_server_that_was_stopped_in_order_is_left_to_who_stopped_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.store.embedded.cluster import Cluster

    monkeypatch.setattr(embedded_watch, "_ABANDONED_S", 0.0)
    with embedded_server(folder, SMALL) as address:
        starts = Starts(monkeypatch)
        pg_ctl(folder, "-m", "fast", "stop")
        looks: list[bool] = []
        crashed = Cluster.crashed
        monkeypatch.setattr(
            Cluster, "crashed", lambda cluster: looks.append(crashed(cluster)) or looks[-1]
        )
        wait_until(lambda: len(looks) > 20)
        assert not any(looks)
        assert starts.count == 0
        # Theirs is watched like the first: it comes back when it is killed.
        pg_ctl(
            folder,
            "-l",
            str(folder / "postgres" / "log"),
            "-o",
            f"-h '' -k {address.socket_dir}",
            "start",
        )
        theirs = the_server(folder)
        wait_until(lambda: len(looks) > 0)
        theirs.kill()
        wait_until(lambda: answers(address))
        assert starts.count == 1
    assert postmasters(folder) == []


def test_a_server_that_gave_up_without_writing_everything_down_is_started_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_watch, "_ABANDONED_S", 0.0)
    with embedded_server(folder, SMALL) as address:
        gave_up = the_server(folder)
        gave_up.send_signal(signal.SIGQUIT)  # takes its pid file away, and writes nothing
        gave_up.wait(30)
        wait_until(lambda: answers(address))


@pytest.mark.parametrize(("is_deaf", "has_pidfd"), [(False, True), (True, True), (False, False)])
def test_a_server_that_hangs_is_ended_and_started_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, is_deaf: bool, has_pidfd: bool
) -> None:
    """As PostgreSQL does when its disk is full during a recovery."""
    monkeypatch.setattr(embedded_watch, "_HANGS_LOOK_S", 0.2)
    # Nobody stopped it, so no operator is waited for.
    monkeypatch.setattr(embedded_watch, "_ABANDONED_S", 600.0)
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    with embedded_server(folder, SMALL) as address:
        (former,) = postmasters(folder)
        former.suspend()  # it takes no notice of the end of its processes, nor of a signal
        for child in former.children():
            if "walwriter" in " ".join(child.cmdline()):
                child.kill()
        if not is_deaf:
            wait_until(lambda: psutil.Process(former.pid).is_running() and _is_told_to_end(former))
            former.resume()
        wait_until(lambda: [each.pid for each in postmasters(folder)] not in ([], [former.pid]))
        wait_until(lambda: answers(address))


class Looks:
    """How often the watch looked whether the server hangs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        from service.store.embedded.cluster import Cluster

        self.count = 0
        hangs = Cluster.hangs

        def counted(cluster: Cluster) -> bool:
            self.count += 1
            return hangs(cluster)

        patch.setattr(embedded_watch, "_HANGS_LOOK_S", 0.01)
        patch.setattr(Cluster, "hangs", counted)

    def several(self) -> None:
        """Wait for more looks than a server that hangs would survive."""
        wanted = self.count + 3 * embedded_watch._KILL_AFTER
        wait_until(lambda: self.count >= wanted)


def test_a_server_that_serves_is_not_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    with embedded_server(folder, SMALL) as address:
        former = the_server(folder).pid
        looks.several()
        assert (the_server(folder).pid, ask(address, "SELECT 1")) == (former, 1)


def test_a_server_that_recovers_does_not_hang(folder: Path) -> None:
    from service.store.embedded.cluster import Cluster

    with embedded_server(folder, SMALL) as address:
        gate = Gate(folder)
        former = the_server(folder)
        former.kill()
        wait_until(lambda: any("startup" in title for title in titles(folder, but=former.pid)))
        assert not Cluster(folder / "postgres", ServerAccount.choose(), folder, {}).hangs()
        gate.open()
        wait_until(lambda: answers(address))


def titles(folder: Path, but: int) -> list[str]:
    """What the processes of the server call themselves, unless it is the one of this pid."""
    return [
        " ".join(child.cmdline())
        for server in postmasters(folder)
        if server.pid != but
        for child in server.children()
    ]


def test_a_server_whose_processes_cannot_be_seen_is_not_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    with embedded_server(folder, SMALL):
        former = the_server(folder).pid
        monkeypatch.setattr(psutil.Process, "children", lambda _: [])
        looks.several()
        assert the_server(folder).pid == former


def _is_told_to_end(process: psutil.Process) -> bool:
    """Whether a signal to end at once waits for the process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (pending,) = (line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (signal.SIGQUIT - 1) & 1)


def test_nothing_is_started_once_the_service_stops(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = Starts(monkeypatch)
    before = set(threading.enumerate())  # other tests' database has one of its own
    with embedded_server(folder, SMALL):
        starts.first.clear()
        the_server(folder).kill()
        assert starts.first.wait(60)
    assert postmasters(folder) == []
    others = set(threading.enumerate()) - before
    assert not any(thread.name == "embedded database" for thread in others)


def test_a_long_recovery_is_no_failed_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.store.embedded.cluster._UNUSUAL_S", 0.1)
    gate = Gate(folder)
    opener = threading.Thread(
        target=lambda: (wait_until(lambda: "may be recovering" in caplog.text), gate.open())
    )
    opener.start()
    with caplog.at_level(logging.INFO), embedded_server(folder, SMALL) as address:
        assert answers(address)
        opener.join()
        caplog.clear()
        gate = Gate(folder)
        the_server(folder).kill()
        wait_until(lambda: "may be recovering" in caplog.text)
        gate.open()
        wait_until(lambda: answers(address))
    assert "does not start" not in caplog.text


def test_a_service_that_stops_amid_a_recovery_leaves_nothing_running(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.embedded.cluster._UNUSUAL_S", 0.1)
    with embedded_server(folder, SMALL):
        gate = Gate(folder)
        the_server(folder).kill()
        wait_until(lambda: "may be recovering" in caplog.text)
    assert postmasters(folder) == []
    gate.open()


def test_a_server_that_recovers_already_is_waited_for_and_taken_over(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.store.embedded.cluster import Cluster

    monkeypatch.setattr("service.store.embedded.cluster._UNUSUAL_S", 0.1)
    gate = Gate(folder)
    cluster = Cluster.prepare(folder / "postgres", parameters(SMALL, 1 << 30))
    stop = threading.Event()
    starting = threading.Thread(target=cluster.start, args=[stop])
    starting.start()
    wait_until(lambda: cluster.postmaster() is not None)
    stop.set()
    starting.join()
    recovering = the_server(folder)
    opener = threading.Thread(
        target=lambda: (wait_until(lambda: "not take connections" in caplog.text), gate.open())
    )
    opener.start()
    with embedded_server(folder, SMALL) as address:
        assert answers(address)
        assert the_server(folder) == recovering
    opener.join()


@pytest.mark.parametrize("left", ["this process", "a zombie", "nothing"])
def test_a_pid_file_left_behind_does_not_mislead(
    folder: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """After a crash of the machine, or in a container whose first process reaps nobody."""
    monkeypatch.setattr("service.store.embedded.cluster._WRITTEN_S", 0.1)
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    pid = {"this process": f"{os.getpid()}\n", "a zombie": f"{zombie.pid}\n", "nothing": ""}[left]
    (folder / "postgres" / "postmaster.pid").write_text(pid)
    (folder / "postgres" / ".s.PGSQL.5432.lock").write_text(pid)
    with embedded_server(folder, SMALL) as address:
        assert answers(address)
    zombie.wait()


def test_a_server_that_cannot_start_is_an_error_that_names_its_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.embedded.server._BETWEEN_ATTEMPTS_S", 0.01)
    (folder / "postgres" / "postgresql.auto.conf").write_text("no_such_parameter = 1\n")
    with pytest.raises(ConfigError, match="postgres/log"), embedded_server(folder, SMALL):
        pass


def test_a_folder_of_before_gets_the_settings_of_now(folder: Path) -> None:
    settings = EmbeddedSettings(shared_buffers_mb=200, connections=120)
    with embedded_server(folder, settings) as address:
        found = {
            name: ask(address, f"SHOW {name}") for name in ("shared_buffers", "max_connections")
        }
        durable = [ask(address, f"SHOW {name}") for name in ("fsync", "full_page_writes")]
    assert found == {"shared_buffers": "200MB", "max_connections": "140"}
    assert durable == ["on", "on"]
