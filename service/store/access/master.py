"""The master secret, from which the secrets of access keys are derived: a setting, or a file."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from service.domain.errors import ConfigError, KeysUnavailableError
from service.domain.keys import MASTER_SECRET_BYTES, MasterSecret, MasterSecrets

MASTER_FILE: Final = "master-secret.json"
"""Name of the file beside the embedded database."""

_VERSION: Final = 1


class NoMasterSecret:
    """Stands for a master secret where none is configured and no file is used."""

    def read(self) -> NoReturn:
        """Raise KeysUnavailableError."""
        raise KeysUnavailableError(
            "Keys need a master secret, and this service has none: set auth.master_secret to a "
            "long random text, the same for every service on the database."
        )


class ConfiguredMasterSecret:
    """A master secret from the settings.

    Args:
        current: the secret of new keys.
        former: the one before it, whose keys stay valid; empty for none.
    """

    def __init__(self, current: str, former: str = "") -> None:
        self._secrets = MasterSecrets(
            MasterSecret(current.encode()),
            (MasterSecret(former.encode()),) if former else (),
        )

    def read(self) -> MasterSecrets:
        """The configured secrets."""
        return self._secrets


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Who can read the file. is_private: whether its owner alone can."""

    path: Path
    is_private: bool
    mode: int


class MasterSecretFile:
    """A file that holds the master secret and former ones, readable by its owner alone.

    The file is replaced as a whole, so that a reader sees either state of it. `read` looks at the
    file each time and reads it again when it is another one: a rotation reaches running services.

    Args:
        may_create: whether `ensure` makes the file where it is missing.
    """

    def __init__(self, path: Path, *, may_create: bool) -> None:
        self.path = path
        self._may_create = may_create
        self._read: tuple[tuple[int, int, int], MasterSecrets] | None = None

    def ensure(self) -> bool:
        """Make the file with a new secret, unless there is one; returns whether it was made.

        Of several processes that do this at once, one makes the file, and all use it.

        Raises:
            KeysUnavailableError: the file can be neither read nor made.
        """
        if not self._may_create or self.path.exists():
            self.read()
            return False
        try:
            name = self._write_beside(_new_secrets())
            try:
                # Unlike a rename, this fails where another process was first.
                os.link(name, self.path)
                made = True
            except FileExistsError:
                made = False
            finally:
                Path(name).unlink()
            _sync(self.path.parent)
        except OSError as error:
            raise KeysUnavailableError(
                f"Keys need a master secret, and {self.path} cannot be created: {error.strerror}."
            ) from error
        self.read()
        return made

    def read(self) -> MasterSecrets:
        """The secrets in the file.

        Raises:
            KeysUnavailableError: the file is missing or damaged, or may not be read.
        """
        try:
            found = self.path.stat()
            signature = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._read is None or self._read[0] != signature:
                self._read = (signature, _parsed(self.path.read_bytes()))
        except FileNotFoundError:
            raise KeysUnavailableError(
                "Keys cannot be checked, because the file with the master secret is missing: "
                "`facette doctor` says where it belongs."
            ) from None
        except OSError as error:
            raise KeysUnavailableError(
                "Keys cannot be checked, because the file with the master secret cannot be read: "
                f"{error.strerror}."
            ) from error
        except (ValueError, RecursionError):
            raise KeysUnavailableError(
                "Keys cannot be checked, because the file with the master secret is damaged: "
                "restore it from a backup."
            ) from None
        return self._read[1]

    def facts(self) -> FileFacts | None:
        """Who can read the file; None where it is missing, or its folder is closed to us."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        mode = stat.S_IMODE(found.st_mode)
        return FileFacts(self.path, not mode & 0o077, mode)

    def rotate(
        self, keep: timedelta, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> MasterSecrets:
        """Replace the master secret by a new one; returns the secrets afterwards.

        Args:
            keep: how long keys that were made with the replaced one stay valid. Nothing ends
                them and those of earlier ones at once, for when somebody has seen the file.

        Raises:
            KeysUnavailableError: there is no readable file.
            ConfigError: the file cannot be replaced.
        """
        try:
            with _locked(self.path.parent):
                before = self.read()
                began = now()
                replaced = MasterSecret(before.current.value, began + keep)
                former = (replaced, *before.former) if keep else ()
                after = MasterSecrets(
                    _new_secrets().current,
                    tuple(each for each in former if each.until and began < each.until),
                )
                name = self._write_beside(after)
                Path(name).replace(self.path)
                _sync(self.path.parent)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be replaced: {error.strerror}") from error
        return after

    def _write_beside(self, content: MasterSecrets) -> str:
        """Write the file under another name, of mode 0600; returns that name."""
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                folder = self.path.parent.stat()
                if os.geteuid() == 0 and folder.st_uid != 0:  # a command, run as root
                    os.fchown(descriptor, folder.st_uid, folder.st_gid)
                json.dump(_as_json(content), stream, indent=2)
                stream.write("\n")
                stream.flush()
                os.fsync(descriptor)
        except BaseException:
            Path(name).unlink()
            raise
        return name


MasterSecretPlace = NoMasterSecret | ConfiguredMasterSecret | MasterSecretFile
"""Where the master secret comes from."""


def _new_secrets() -> MasterSecrets:
    return MasterSecrets(MasterSecret(secrets.token_bytes(MASTER_SECRET_BYTES)))


def _as_json(content: MasterSecrets) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "current": content.current.value.hex(),
        "former": [
            {"secret": each.value.hex(), "until": each.until.isoformat()}
            for each in content.former
            if each.until is not None
        ],
    }


def _parsed(text: bytes) -> MasterSecrets:
    """The secrets in the text of a file.

    Raises:
        ValueError: it is not what `_as_json` gives.
    """
    content = json.loads(text)
    try:
        if content["version"] != _VERSION:
            raise ValueError("another version")
        former = tuple(
            MasterSecret(_value(each["secret"]), datetime.fromisoformat(each["until"]))
            for each in content["former"]
        )
        return MasterSecrets(MasterSecret(_value(content["current"])), former)
    except (KeyError, TypeError) as error:
        raise ValueError("a part is missing, or of another type") from error


def _value(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) < MASTER_SECRET_BYTES:
        raise ValueError("a secret is too short")
    return value


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Exclude other rotations, which would lose one of the two new secrets."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Make the names of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
