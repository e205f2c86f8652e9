"""The account that the embedded PostgreSQL runs as, and the folders that it alone may enter.

PostgreSQL refuses to run as root. So as root it runs as an account of its own, with that account's
group and no other. What it needs of folders is given to it alone, never to everybody.
"""

from __future__ import annotations

import errno
import logging
import os
import pwd
import stat
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service.domain.errors import ConfigError

_logger = logging.getLogger(__name__)

_NAME = "pgserver"
# What fits into the address of a unix socket, as short as it is anywhere (macOS), and its name.
_LONGEST_ADDRESS = 103
_SOCKET = ".s.PGSQL.65535"
_PREFIX = "facette-"
_PRIVATE = 0o700
# Of the environment; besides those that begin with LC_.
_PASSED_ON = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "TZDIR"}
# An access control list of Linux, as its extended attribute holds it: a version, then tag,
# permissions and account of each entry (linux/posix_acl_xattr.h).
_LIST = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF
_SEARCH = 1


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """An account of the system. is_own: whether it is this process's."""

    name: str
    uid: int
    gid: int
    is_own: bool

    @classmethod
    def choose(cls) -> ServerAccount:
        """This process's; as root one that is made unless it is there.

        Raises:
            ConfigError: there is none, and none can be made.
        """
        uid = os.geteuid()
        try:
            found = pwd.getpwuid(uid) if uid else _made(_NAME)
        except (KeyError, OSError, subprocess.SubprocessError) as error:
            raise ConfigError(
                f"the embedded PostgreSQL has no account to run as: {error}"
            ) from error
        return cls(found.pw_name, found.pw_uid, found.pw_gid, is_own=uid != 0)

    @property
    def of_process(self) -> dict[str, Any]:
        """Arguments of `subprocess` that make a process the account's, and its files private.

        Of the environment, which holds the service's secrets, it gets what PostgreSQL heeds.
        """
        mine: dict[str, Any] = {"umask": 0o077, "env": _passed_on(os.environ)}
        if not self.is_own:
            mine |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return mine

    def reaches(self, path: Path | str, what: Literal["-e", "-x"] = "-e") -> bool:
        """Whether the account can get at a path; with -x, also run it."""
        found = subprocess.run(  # noqa: S603
            ["test", what, path],  # noqa: S607
            check=False,
            cwd="/",
            **self.of_process,
        )
        return found.returncode == 0

    def let_reach(self, path: Path) -> None:
        """Let the account, and nobody else, go through the folders on the way to a path.

        Raises:
            ConfigError: the file system cannot say so.
        """
        for folder in reversed(path.parents):
            if self.is_own or self.reaches(f"{folder}/."):
                continue
            try:
                _let_search(folder, self.uid)
            except OSError as error:
                raise ConfigError(
                    f"the embedded PostgreSQL runs as {self.name}, who cannot be let through "
                    f"{folder}: {error.strerror}; set another paths.data_dir"
                ) from error
            _logger.info("the account %s may pass through %s from now on", self.name, folder)
        if not self.reaches(path):
            raise ConfigError(
                f"the embedded PostgreSQL runs as {self.name}, who cannot reach {path}; "
                "set another paths.data_dir"
            )

    def is_private(self, folder: Path) -> bool:
        """Whether a folder, and no link to one, is the account's and closed to all others."""
        try:
            found = folder.lstat()
        except OSError:
            return False
        return (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == self.uid
            and stat.S_IMODE(found.st_mode) == _PRIVATE
        )

    def make_private(self, folder: Path) -> None:
        """Make a folder that is the account's alone; one that is there must be so already.

        Raises:
            ConfigError: what is there is another's, open to others, or no folder.
        """
        try:
            folder.mkdir(mode=_PRIVATE)
        except FileExistsError:
            pass
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
        else:
            if not self.is_own:
                os.chown(folder, self.uid, self.gid, follow_symlinks=False)
        if not self.is_private(folder):
            raise ConfigError(
                f"{folder} is not a folder of {self.name} alone (mode 0700): nothing is put into it"
            )


def socket_folder(data_folder: Path, account: ServerAccount) -> Path:
    """Where a server is to listen: its data folder, or a fresh one where that has a long name.

    The name of a fresh one is made up, and it is nobody else's from the first moment.

    Raises:
        ConfigError: there is no place for one.
    """
    if _fits(data_folder):
        return data_folder
    for place in _places(account):
        if _fits(place / f"{_PREFIX}12345678") and _is_safe(place):
            try:
                fresh = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            except OSError:
                continue
            if not account.is_own:
                os.chown(fresh, account.uid, account.gid, follow_symlinks=False)
            return fresh
    raise ConfigError(
        f"{data_folder} is too long for the address of a socket, and there is no temporary folder "
        "that only its owner can change; set a shorter paths.data_dir"
    )


def remove_socket_folder(folder: Path, account: ServerAccount) -> None:
    """Remove a fresh one that `socket_folder` made, with what a killed server left in it."""
    if not folder.name.startswith(_PREFIX) or not account.is_private(folder):
        return
    for file in folder.glob(".s.PGSQL.*"):
        file.unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        _logger.warning("%s is left behind: %s", folder, error.strerror)


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _SOCKET)) <= _LONGEST_ADDRESS


def _places(account: ServerAccount) -> Sequence[Path]:
    found = [Path("/run")] if not account.is_own else []
    if account.is_own and (named := os.environ.get("XDG_RUNTIME_DIR")):
        found.append(Path(named))
    return [*found, Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108


def _is_safe(place: Path) -> bool:
    """Whether nobody but root and this process's account can replace a folder in a place."""
    try:
        found = place.stat()
    except OSError:
        return False
    is_open = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    return found.st_uid in (0, os.geteuid()) and (is_sticky or not is_open)


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that say where programs, libraries and files are, and which locale holds."""
    return {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or name.startswith("LC_")
    }


def _made(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        subprocess.run(  # noqa: S603
            ["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", name],  # noqa: S607
            check=True,
            capture_output=True,
        )
        return pwd.getpwnam(name)


def _let_search(folder: Path, uid: int) -> None:
    """Add an entry to a folder's access control list that lets an account pass through it."""
    try:
        text = os.getxattr(folder, _LIST)
        entries = list(_ENTRY.iter_unpack(text[len(_VERSION) :]))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        mode = folder.stat().st_mode
        entries = [
            (_OWNER, mode >> 6 & 7, _NOBODY),
            (_OWNING_GROUP, mode >> 3 & 7, _NOBODY),
            (_OTHERS, mode & 7, _NOBODY),
        ]
    # What others have does not change: neither their entries, nor what the mask left of them.
    before = next((permissions for tag, permissions, _ in entries if tag == _MASK), 7)
    masked = (_USER, _OWNING_GROUP, _GROUP)
    kept = [
        (tag, permissions & before if tag in masked else permissions, whose)
        for tag, permissions, whose in entries
        if tag != _MASK and (tag, whose) != (_USER, uid)
    ]
    entries = [*kept, (_USER, _SEARCH, uid)]
    mask = 0
    for tag, permissions, _ in entries:
        mask |= permissions if tag in masked else 0
    entries.append((_MASK, mask, _NOBODY))
    entries.sort(key=lambda each: (each[0], each[2]))
    os.setxattr(folder, _LIST, _VERSION + b"".join(_ENTRY.pack(*each) for each in entries))
