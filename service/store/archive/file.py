"""The file of an archive: entries written and read one after the other, in bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from service.domain.errors import ArchiveError

_GZIP_SUFFIXES = (".gz", ".tgz")
_GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSION = 6
_FILE_MODE = 0o600
_BLOCK_BYTES = 512
_READ_BYTES = 2**20
# Behind the last entry: programs that write tar files fill up their last record with zeros.
_LARGEST_PADDING = 2**20
_NO_LIMIT = 2**63 - 1

# Of a header, as POSIX.1-1988 and GNU tar lay it out.
_NAME = slice(0, 100)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_KIND = slice(156, 157)
_MAGIC = slice(257, 265)
_NAME_PREFIX = slice(345, 500)
_MAGICS = (b"ustar\x0000", b"ustar  \x00")
_REGULAR = (b"0", b"\0")
# Links, devices and folders; every other kind extends the header of the entry that follows.
_OF_NO_FILE = b"123456"
_OCTAL = re.compile(rb" *([0-7]{1,11})[ \0]*")


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
        # What the library remembers of each entry is a kilobyte for every photo.
        self._tar.members.clear()  # type: ignore[attr-defined]

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


def read_archive(
    path: Path, largest: Callable[[str], int] = lambda name: _NO_LIMIT
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the entries, in order; nothing is ever unpacked to the disk.

    Headers are read here and not by `tarfile`: that follows the extensions by which a header of a
    few bytes, compressed, has a name or a list of properties of gigabytes. No archive has any.

    Args:
        largest: how many bytes an entry of this name may have; it may raise an ArchiveError for a
            name that does not belong into the archive. Both before the content is read.

    Raises:
        ArchiveError: the file cannot be read, is damaged, or holds what is no regular file.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if zipped else file
            while (header := _next_header(stream)) is not None:
                name, size = header
                if size > largest(name):
                    raise ArchiveError(f"the archive holds {name!r}, which is too large")
                yield name, _content(stream, name, size)
            _read_padding(stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(str(error)) from error
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from error


def _next_header(stream: IO[bytes] | gzip.GzipFile) -> tuple[str, int] | None:
    """Name and size of the next entry; None at the end."""
    block = stream.read(_BLOCK_BYTES)
    if not block or block == bytes(_BLOCK_BYTES):
        return None
    if len(block) < _BLOCK_BYTES or block[_MAGIC] not in _MAGICS:
        raise _damaged("it has no header of a tar file where one should be")
    blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    if _number(block[_CHECKSUM]) != sum(blank):
        raise _damaged("the checksum of a header is wrong")
    raw_name = block[_NAME].partition(b"\0")[0]
    name = raw_name.decode("ascii", errors="backslashreplace")
    if block[_KIND] in _REGULAR:
        if any(block[_NAME_PREFIX]) or not raw_name.isascii():
            raise ArchiveError("the archive holds an entry whose name is none of an archive's")
        return name, _number(block[_SIZE])
    if block[_KIND] in _OF_NO_FILE:
        raise ArchiveError(f"the archive holds {name!r}, which is no regular file")
    raise ArchiveError(
        f"the archive holds {name!r} with an extended header, which no archive of a tenant has"
    )


def _number(field: bytes) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise _damaged("a header has no number where one should be")
    return int(match[1], 8)


def _content(stream: IO[bytes] | gzip.GzipFile, name: str, size: int) -> bytes:
    """The bytes of an entry; the size that it claims is allocated only as its bytes come."""
    data = io.BytesIO()
    while (left := size - data.tell()) > 0:
        some = stream.read(min(left, _READ_BYTES))
        if not some:
            raise ArchiveError(f"the archive was cut off in {name!r}")
        data.write(some)
    stream.read(-size % _BLOCK_BYTES)
    return data.getvalue()


def _read_padding(stream: IO[bytes] | gzip.GzipFile) -> None:
    """Read to the end, by which gzip's own sum is checked."""
    size_bytes = 0
    while some := stream.read(_READ_BYTES):
        size_bytes += len(some)
        if size_bytes > _LARGEST_PADDING or any(some):
            raise ArchiveError("the archive goes on after its end")


def _damaged(why: str) -> ArchiveError:
    return ArchiveError(f"the archive is damaged, cut off or no archive: {why}")
