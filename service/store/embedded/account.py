"""The account that the embedded PostgreSQL runs as, and its access to folders.

PostgreSQL refuses to run as root. For a service that runs as root, it has an account of its own,
with the group of that account and no other. Access to folders is given to that account alone.
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
# Limit on the path of a unix socket (that of macOS, the lowest), and the name of the socket.
_LONGEST_ADDRESS = 103
_SOCKET = ".s.PGSQL.65535"
_PREFIX = "facette-"
_PRIVATE = 0o700
# What PostgreSQL gets of the caller's environment: where programs and libraries are.
_PASSED_ON = ("LD_LIBRARY_PATH", "PATH")
# Nothing that PostgreSQL does depends on the caller's locale and time zone.
_FIXED = {"LC_ALL": "C", "TZ": "UTC"}
_PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"
# The extended attribute of an access control list in Linux: a version, then tag, permissions and
# account of each entry (linux/posix_acl_xattr.h).
_LIST = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF
_SEARCH = 1


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """An account of the system. is_own: whether this process runs as the account."""

    name: str
    uid: int
    gid: int
    is_own: bool

    @classmethod
    def choose(cls) -> ServerAccount:
        """The account of this process; for root another one, which is created if it is missing.

        Raises:
            ConfigError: there is no account, and none can be created.
        """
        uid = os.geteuid()
        try:
            found = pwd.getpwuid(uid) if uid else _made(_NAME)
        except KeyError:
            raise ConfigError(
                f"the embedded PostgreSQL needs an account, and the user id {uid} has none: add it "
                "to /etc/passwd, run as another user, or add a [database] section"
            ) from None
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            raise ConfigError(
                f"the embedded PostgreSQL needs an account of its own, and {_NAME} cannot be "
                f"created: {said.decode(errors='replace').strip() or error}"
            ) from error
        return cls(found.pw_name, found.pw_uid, found.pw_gid, is_own=uid != 0)

    @property
    def of_process(self) -> dict[str, Any]:
        """Arguments of `subprocess` for a process of the account, with private files.

        The environment holds the service's secrets: the process gets only what PostgreSQL reads.
        """
        mine: dict[str, Any] = {"umask": 0o077, "env": server_environment(os.environ)}
        if not self.is_own:
            mine |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return mine

    def reaches(self, path: Path | str, what: Literal["-e", "-x"] = "-e") -> bool:
        """Whether the account can access a path; with -x, also execute it."""
        found = subprocess.run(  # noqa: S603
            ["test", what, path],  # noqa: S607
            check=False,
            cwd="/",
            **self.of_process,
        )
        return found.returncode == 0

    def let_reach(self, path: Path) -> None:
        """Give the account, and no other, search permission on the parents of a path.

        Raises:
            ConfigError: the file system does not support that.
        """
        if self.reaches(path):  # one process, where each parent takes another
            return
        for folder in reversed(path.parents):
            if self.is_own or self.reaches(f"{folder}/."):
                continue
            try:
                _let_search(folder, self.uid)
            except OSError as error:
                raise ConfigError(
                    f"the embedded PostgreSQL runs as {self.name}, which cannot get access to "
                    f"{folder}: {error.strerror}; set another paths.data_dir"
                ) from error
            _logger.info("the account %s got search permission on %s", self.name, folder)
        if not self.reaches(path):
            raise ConfigError(
                f"the embedded PostgreSQL runs as {self.name}, which cannot access {path}; "
                "set another paths.data_dir"
            )

    def is_private(self, folder: Path) -> bool:
        """Whether the account owns a folder, which is no link, and no other account has access."""
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
        """Create a private folder of the account; an existing one must be private.

        Raises:
            ConfigError: the path belongs to another account, is open to others, or is no folder.
        """
        try:
            folder.mkdir(mode=_PRIVATE)
        except FileExistsError:
            pass
        except OSError as error:
            raise ConfigError(f"{folder} cannot be created: {error.strerror}") from error
        else:
            if not self.is_own:
                os.chown(folder, self.uid, self.gid, follow_symlinks=False)
        if not self.is_private(folder):
            raise ConfigError(
                f"{folder} is not a folder of {self.name} alone (mode 0700), and is not used"
            )


def socket_folder(data_folder: Path, account: ServerAccount) -> Path:
    """The folder for the socket of a server: the data folder, or a new one if its path is too long.

    A new folder has a random name, and is private from its creation.

    Raises:
        ConfigError: there is no safe place for a new folder.
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
        f"{data_folder} is too long for the path of a socket, and no temporary folder is safe from "
        "other accounts; set a shorter paths.data_dir"
    )


def remove_socket_folder(folder: Path, account: ServerAccount) -> None:
    """Remove a folder that `socket_folder` created, and the files of a killed server in it."""
    if not folder.name.startswith(_PREFIX) or not account.is_private(folder):
        return
    for file in folder.glob(".s.PGSQL.*"):
        file.unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        _logger.warning("%s could not be removed: %s", folder, error.strerror)


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _SOCKET)) <= _LONGEST_ADDRESS


def _places(account: ServerAccount) -> Sequence[Path]:
    found = [Path("/run")] if not account.is_own else []
    if account.is_own and (named := os.environ.get("XDG_RUNTIME_DIR")):
        found.append(Path(named))
    return [*found, Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108


def _is_safe(place: Path) -> bool:
    """Whether only root and the account of this process can replace a folder in a place."""
    try:
        found = place.stat()
    except OSError:
        return False
    is_open = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    return found.st_uid in (0, os.geteuid()) and (is_sticky or not is_open)


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the programs of PostgreSQL, made of that of this process."""
    passed_on = {name: environment[name] for name in _PASSED_ON if environment.get(name)}
    path = ":".join(filter(None, [environment.get("PATH"), _PROGRAMS]))
    return {**passed_on, "PATH": path, **_FIXED}


def _made(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        subprocess.run(  # noqa: S603
            ["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", name],  # noqa: S607
            check=True,
            capture_output=True,
            env=server_environment(os.environ),
        )
        return pwd.getpwnam(name)


def _let_search(folder: Path, uid: int) -> None:
    """Add search permission for an account to the access control list of a folder."""
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
    # The effective rights of others stay the same: the mask is applied to their entries.
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
