"""The file of an archive: entries written and read one after the other, in bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from service.domain.errors import ArchiveError

_GZIP_SUFFIXES = (".gz", ".tgz")
_GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSION = 6
_FILE_MODE = 0o600
# What an entry may take in memory. A photo is one entry, as it is one file or object.
_LARGEST_ENTRY = 2**30


class ArchiveWriter:
    """Writes a file that is there only once it is complete, for nobody but its owner to read.

    A name that ends with .gz or .tgz means gzip. Entries carry no times and no users.

    Raises:
        ArchiveError: the file is there already, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        with self._translated():
            self._refuse_to_overwrite()
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            self._unfinished = Path(name)
            self._file = os.fdopen(handle, "wb")
            self._stream: IO[bytes] | gzip.GzipFile = self._file
            if self._path.name.endswith(_GZIP_SUFFIXES):
                self._stream = gzip.GzipFile(
                    filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=self._file, mtime=0
                )
            self._tar = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)
        return self

    def add(self, name: str, data: bytes) -> None:
        """Write one entry."""
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        entry.mode = _FILE_MODE
        with self._translated():
            self._tar.addfile(entry, io.BytesIO(data))
        _forget_entries(self._tar)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with self._translated():
                    self._finish()
        finally:
            self._file.close()
            self._unfinished.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._tar.close()
        if self._stream is not self._file:
            self._stream.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._refuse_to_overwrite()
        self._unfinished.replace(self._path)

    def _refuse_to_overwrite(self) -> None:
        if self._path.exists():
            raise ArchiveError(f"{self._path} is there already; it was not touched")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveError(f"{self._path} cannot be written: {error.strerror}") from error


def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the entries, in order; nothing is ever unpacked to the disk.

    Raises:
        ArchiveError: the file cannot be read, is damaged, or holds what is no regular file.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if zipped else file
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                while (entry := tar.next()) is not None:
                    yield entry.name, _content(tar, entry)
                    _forget_entries(tar)
            # The rest is padding; reading it checks gzip's own sum.
            while stream.read(2**20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"{path} is damaged, cut off or no archive: {error}") from error
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from error


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    if not entry.isreg() or entry.issparse():
        raise ArchiveError(f"the archive holds {entry.name!r}, which is no regular file")
    if entry.size > _LARGEST_ENTRY:
        raise ArchiveError(f"the archive holds {entry.name!r}, which is too large")
    stream = tar.extractfile(entry)
    data = b"" if stream is None else stream.read()
    if len(data) != entry.size:
        raise ArchiveError(f"the archive was cut off in {entry.name!r}")
    return data


def _forget_entries(tar: tarfile.TarFile) -> None:
    """Drop what the library remembers of each entry: a kilobyte for every photo."""
    tar.members.clear()  # type: ignore[attr-defined]
