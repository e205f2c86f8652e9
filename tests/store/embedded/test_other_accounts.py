"""Another account of the machine: it gets nothing of the embedded PostgreSQL, by any path."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.domain.errors import ConfigError
from service.store.blob.folder import FolderBlobStore
from service.store.embedded.account import ServerAccount
from service.store.embedded.server import EmbeddedAddress, embedded_server, running_server
from service.store.embedded.settings import EmbeddedSettings
from tests.support.databases import ask_all
from tests.support.folders import open_folder
from tests.support.service import lay_database

pytestmark = [
    pytest.mark.xdist_group("embedded"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for a second account"),
]
SMALL = EmbeddedSettings(shared_buffers_mb=128)
OTHER = "nobody"
# A folder with this name in it is too long for the address of a socket.
LONG = "a-folder-with-a-long-name-" * 5
ALL_MODES = 0o7777
# What the environment of a service may hold: secrets, and what would lead PostgreSQL astray.
ODD_ENVIRONMENT = {
    "FACETTE_AUTH_TOKEN": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "LANG": "de_DE.UTF-8",
    "LC_TIME": "no_SUCH.locale",
    "TZ": "Nowhere/City",
    "HOME": "/nowhere",
    "TMPDIR": "/nowhere",
    "PGDATA": "/nowhere",
    "PGPORT": "1",
    "PGOPTIONS": "-c no_such_parameter=1",
    "POSTGRES_INITDB_ARGS": "--no-such-argument",
}


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, and its data folder."""

    data_dir: Path
    address: EmbeddedAddress

    @property
    def socket_dir(self) -> Path:
        return Path(self.address.socket_dir)

    @property
    def process(self) -> psutil.Process:
        written = (self.data_dir / "postgres" / "postmaster.pid").read_text()
        return psutil.Process(int(written.split()[0]))


@pytest.fixture(scope="module")
def short() -> Iterator[Served]:
    """A server whose database was made, and which was started, in an odd environment."""
    with open_folder() as folder, ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ODD_ENVIRONMENT.items():
                patch.setenv(name, value)
            address = stack.enter_context(embedded_server(folder, SMALL))
        yield Served(folder, address)


@pytest.fixture(scope="module")
def long() -> Iterator[Served]:
    """A server whose socket has a folder of its own."""
    with open_folder() as folder:
        lay_database(folder / LONG)
        with embedded_server(folder / LONG, SMALL) as address:
            yield Served(folder / LONG, address)


@pytest.fixture(params=["short", "long"])
def served(request: pytest.FixtureRequest) -> Served:
    """Either of the two; not parameters of one fixture, which would start each again and again."""
    found: Served = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a database that was shut down."""
    with open_folder() as folder:
        lay_database(folder)
        yield folder


@pytest.fixture
def long_dir() -> Iterator[Path]:
    """The same with a path that is too long for a socket."""
    with open_folder() as folder:
        lay_database(folder / LONG)
        yield folder / LONG


def as_other(act: Callable[[], object]) -> str:
    """What comes of it when the other account does something: a value, or an error, as text."""
    account = pwd.getpwnam(OTHER)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            said = repr(act())
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    return said


def connect(folder: Path, words: bytes = b"") -> bytes:
    """What the server answers to the first words of a connection."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(folder / ".s.PGSQL.5432"))
        if words:
            probe.sendall(struct.pack(">II", 8 + len(words), 196608) + words)
            return probe.recv(4096)
    return b""


def mode_of(path: Path) -> int:
    return path.lstat().st_mode & ALL_MODES


def test_it_can_neither_connect_nor_look(served: Served) -> None:
    folder = served.socket_dir
    assert mode_of(folder) == 0o700
    assert folder.owner() == ServerAccount.choose().name
    assert "PermissionError" in as_other(lambda: connect(folder))
    assert "PermissionError" in as_other(lambda: list(folder.iterdir()))
    assert mode_of(folder / ".s.PGSQL.5432") == 0o700
    assert ask_all(served.address, "SELECT 1") == [1]


def test_nobody_is_trusted(served: Served) -> None:
    methods = ask_all(served.address, "SELECT auth_method FROM pg_hba_file_rules")
    known = ask_all(served.address, "SELECT sys_name FROM pg_ident_file_mappings")
    assert ask_all(served.address, "SHOW listen_addresses") == [""]
    assert set(methods) == {"peer"}
    assert set(known) == {"root", ServerAccount.choose().name}


def test_an_account_that_gets_to_the_socket_is_not_let_in(long: Served) -> None:
    """As if the folder were open after all: the kernel says who it is."""
    folder, name = long.socket_dir, long.socket_dir / ".s.PGSQL.5432"
    folder.chmod(0o711)
    name.chmod(0o777)
    try:
        words = b"user\0postgres\0database\0postgres\0\0"
        said = as_other(lambda: connect(folder, words))
    finally:
        folder.chmod(0o700)
        name.chmod(0o700)
    assert "Peer authentication failed" in said


def name_of_before(data_dir: Path) -> Path:
    """The folder that a release before would have used: anybody can compute its name."""
    cluster = data_dir / "postgres"
    named = hashlib.sha256(f"{cluster}-{cluster.stat().st_ino}".encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / named


def test_a_name_that_was_taken_beforehand_is_not_used(long_dir: Path) -> None:
    taken = name_of_before(long_dir)
    taken.mkdir(mode=0o755)
    try:
        shutil.chown(taken, OTHER)
        with embedded_server(long_dir, SMALL) as address:
            assert Path(address.socket_dir) != taken
            assert list(taken.iterdir()) == []
        assert mode_of(taken) == 0o755
    finally:
        taken.rmdir()


def test_a_link_opens_no_private_folder(long_dir: Path) -> None:
    private = long_dir.parent / "private"
    private.mkdir(mode=0o700)
    link = name_of_before(long_dir)
    link.symlink_to(private)
    try:
        with embedded_server(long_dir, SMALL) as address:
            assert Path(address.socket_dir).resolve() != private
        assert mode_of(private) == 0o700
    finally:
        link.unlink()


def test_a_fresh_folder_goes_when_the_server_stops(long_dir: Path) -> None:
    with embedded_server(long_dir, SMALL) as address:
        first = Path(address.socket_dir)
        assert first.is_dir()
    assert not first.exists()
    with embedded_server(long_dir, SMALL) as address:
        assert Path(address.socket_dir) != first


def test_what_a_killed_server_left_is_removed(long_dir: Path) -> None:
    from service.store.embedded.cluster import Cluster

    cluster = Cluster.prepare(long_dir / "postgres", {})
    assert cluster.start(threading.Event())
    running = cluster.postmaster()
    assert running is not None
    server = psutil.Process(running.pid)
    server.kill()
    server.wait(30)
    with embedded_server(long_dir, SMALL) as address:
        assert address.socket_dir != str(cluster.socket_dir)
        assert not cluster.socket_dir.exists()


def test_a_folder_that_somebody_put_in_its_place_is_not_used(long_dir: Path) -> None:
    from service.store.embedded.cluster import Cluster

    cluster = Cluster.prepare(long_dir / "postgres", {})
    cluster.socket_dir.rmdir()
    cluster.socket_dir.mkdir(mode=0o777)
    try:
        shutil.chown(cluster.socket_dir, OTHER)
        with pytest.raises(ConfigError, match=r"not a folder of .* alone"):
            cluster.start(threading.Event())
        assert cluster.postmaster() is None
    finally:
        cluster.socket_dir.rmdir()


def test_the_server_has_the_groups_of_its_account_and_no_other(served: Served) -> None:
    account = ServerAccount.choose()
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    found = dict(line.split(":", 1) for line in status.splitlines())
    assert set(found["Uid"].split()) == {str(account.uid)}
    assert set(found["Gid"].split()) == {str(account.gid)}
    assert found["Groups"].split() == []


def test_files_of_a_server_are_its_accounts_alone(data_dir: Path) -> None:
    account = ServerAccount.choose()
    with embedded_server(data_dir, SMALL):
        pass
    made = [data_dir / "postgres", *(data_dir / "postgres").rglob("*")]
    owners = {(each.lstat().st_uid, each.lstat().st_gid) for each in made}
    assert owners == {(account.uid, account.gid)}
    open_to_others = [each for each in made if mode_of(each) & 0o077 and not each.is_symlink()]
    assert open_to_others == []


def test_a_data_folder_within_a_private_one_stays_private() -> None:
    with open_folder() as folder:
        private = folder / "private"
        private.mkdir(mode=0o700)
        lay_database(private / "data")
        with embedded_server(private / "data", SMALL) as address:
            assert ask_all(address, "SELECT 1") == [1]
        assert stat.S_IMODE(private.stat().st_mode) & 0o007 == 0
        assert "PermissionError" in as_other(lambda: list((private / "data").iterdir()))
        assert "PermissionError" in as_other((private / "data").stat)


def test_a_server_of_before_is_brought_over(long_dir: Path) -> None:
    """It trusts everybody, and listens where everybody gets to."""
    from service.store.embedded.cluster import Cluster, programs

    with embedded_server(long_dir, SMALL) as address:
        ask_all(address, "CREATE TABLE kept AS SELECT 7 AS number")
    cluster = Cluster.prepare(long_dir / "postgres", {})
    (cluster.folder / "pg_hba.conf").write_text("local all all trust\n")
    with open_folder() as everybodys:
        everybodys.chmod(0o777)
        subprocess.run(
            [
                *(programs() / "pg_ctl", "-D", cluster.folder),
                *("-w", "-l", str(cluster.log), "-o", f"-h '' -k {everybodys}", "start"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=cluster.folder,
            **cluster.account.of_process,
        )
        assert as_other(lambda: connect(everybodys)) == "b''"
        with pytest.raises(ConfigError, match="other accounts could answer in its place"):
            running_server(long_dir)
        with embedded_server(long_dir, SMALL) as address:
            assert ask_all(address, "SELECT number FROM kept") == [7]
            assert set(ask_all(address, "SELECT auth_method FROM pg_hba_file_rules")) == {"peer"}
            assert "Error" in as_other(lambda: connect(everybodys))
            assert running_server(long_dir) == address


@pytest.mark.parametrize("before", [None, 0o755])
def test_photos_are_closed_to_it(before: int | None) -> None:
    with open_folder() as folder:
        uploads = folder / "uploads"
        if before is not None:
            uploads.mkdir(mode=before)
        FolderBlobStore(uploads)
        assert mode_of(uploads) == 0o700


def test_a_data_folder_of_another_account_is_not_used() -> None:
    with open_folder() as folder:
        theirs = folder / "postgres"
        theirs.mkdir()
        shutil.chown(theirs, OTHER)
        with (
            pytest.raises(ConfigError, match="belongs to another account"),
            embedded_server(folder, SMALL),
        ):
            pass
        assert theirs.owner() == OTHER


def test_the_server_gets_paths_of_programs_and_libraries_and_nothing_else_of_the_environment(
    short: Served,
) -> None:
    environment = short.process.environ()
    assert environment["PATH"].startswith(os.environ["PATH"])
    assert (environment["LC_ALL"], environment["TZ"]) == ("C", "UTC")
    inherited = set(environment) & {*os.environ, *ODD_ENVIRONMENT}
    assert inherited <= {"PATH", "LD_LIBRARY_PATH", "PWD", "TZ"}
    for process in short.process.children():
        assert not set(process.environ()) & set(ODD_ENVIRONMENT) - {"TZ"}


def test_it_cannot_hold_the_lock_by_which_one_service_uses_a_folder(data_dir: Path) -> None:
    lock = data_dir / "postgres.lock"
    data_dir.chmod(0o755)
    lock.touch(mode=0o644)  # as an earlier release left it
    with embedded_server(data_dir, SMALL):
        pass

    def hold() -> None:
        with lock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert "PermissionError" in as_other(hold)


def test_a_folder_with_other_files_is_not_taken_over() -> None:
    with open_folder() as folder:
        target = folder / "elsewhere"
        target.mkdir()
        (target / "passwords").touch()
        (folder / "postgres").symlink_to(target)
        with pytest.raises(ConfigError, match="holds other files"), embedded_server(folder, SMALL):
            pass
        assert target.owner() == "root"


def test_entries_for_others_stay_what_they_were() -> None:
    account = ServerAccount.choose()
    with open_folder() as folder:
        inner = folder / "inner"
        inner.mkdir()
        folder.chmod(0o750)
        assert not account.reaches(inner)
        account.let_reach(inner)
        account.let_reach(inner)
        assert account.reaches(inner)
        assert "PermissionError" in as_other(inner.stat)
        with closing(os.scandir(folder)) as entries:
            assert [each.name for each in entries] == ["inner"]
        assert folder.stat().st_mode & 0o007 == 0


def test_a_service_of_any_account_keeps_its_database_to_itself(short: Served) -> None:
    """Not as root PostgreSQL runs as the service does, and root and others are not let in."""
    # Whatever is imported on the way: the other account may not get at Python's own files.
    assert ask_all(short.address, "SELECT 1") == [1]
    with open_folder() as folder:
        folder.chmod(0o711)
        theirs = folder / "theirs"
        theirs.mkdir(mode=0o700)
        shutil.chown(theirs, OTHER)

        def serve(data_dir: Path) -> list[Any]:
            with embedded_server(data_dir, SMALL) as address:
                mode = mode_of(Path(address.socket_dir))
                names = ask_all(address, "SELECT sys_name FROM pg_ident_file_mappings")
                return [*ask_all(address, "SELECT 1"), oct(mode), *names]

        def serve_both() -> list[list[Any]]:
            # What this process knows of a temporary folder is not the other's.
            tempfile.tempdir = "/tmp"
            first = serve(theirs)
            (theirs / LONG).mkdir()
            (theirs / "postgres").rename(theirs / LONG / "postgres")
            return [first, serve(theirs / LONG)]

        assert as_other(serve_both) == repr([[1, "0o700", OTHER]] * 2)
        assert {each.owner() for each in theirs.rglob("*")} == {OTHER}
