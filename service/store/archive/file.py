"""The file of an archive: entries are written and read in sequence, in bounded memory."""

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
from typing import IO

from service.domain.errors import ArchiveError

_GZIP_SUFFIXES = (".gz", ".tgz")
_GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSION = 6
_FILE_MODE = 0o600
_BLOCK_BYTES = 512
_READ_BYTES = 2**20
# Zeros after the last entry: programs that write tar files fill the last record.
_LARGEST_PADDING = 2**20
_NO_LIMIT = 2**63 - 1

# Fields of a header, in POSIX.1-1988 and GNU tar.
_NAME = slice(0, 100)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_KIND = slice(156, 157)
_MAGIC = slice(257, 265)
_NAME_PREFIX = slice(345, 500)
_MAGICS = (b"ustar\x0000", b"ustar  \x00")
_REGULAR = (b"0", b"\0")
# Links, devices and folders. All other kinds extend the header of the next entry.
_OF_NO_FILE = b"123456"
_OCTAL = re.compile(rb" *([0-7]{1,11})[ \0]*")


class ArchiveWriter:
    """Writes the entries of an archive. Entries carry no times and no users.

    Args:
        path: the archive, as messages name it.
    """

    def __init__(self, path: Path, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._path = path
        with _writing(path):
            self._tar = tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, name: str, data: bytes) -> None:
        """Write one entry.

        Raises:
            ArchiveError: the archive cannot be written.
        """
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        entry.mode = _FILE_MODE
        with _writing(self._path):
            self._tar.addfile(entry, io.BytesIO(data))
        # TarFile remembers every entry: a kilobyte for each photo.
        self._tar.members.clear()  # type: ignore[attr-defined]

    def finish(self) -> None:
        """Write the end of the archive."""
        self._tar.close()


@contextmanager
def new_archive(path: Path) -> Iterator[ArchiveWriter]:
    """Write an archive in the block; the file appears at its end, readable by its owner alone.

    A name that ends with .gz or .tgz means gzip. No file is left of a block that raises.

    Raises:
        ArchiveError: the file exists, or cannot be written.
    """
    with _writing(path):
        _refuse_to_overwrite(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    unfinished, file = Path(name), os.fdopen(handle, "wb")
    try:
        stream: IO[bytes] | gzip.GzipFile = file
        if path.name.endswith(_GZIP_SUFFIXES):
            stream = gzip.GzipFile(
                filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=file, mtime=0
            )
        archive = ArchiveWriter(path, stream)
        yield archive
        with _writing(path):
            archive.finish()
            if stream is not file:
                stream.close()
            file.flush()
            os.fsync(file.fileno())
            _refuse_to_overwrite(path)
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
        with _writing(path):
            file.close()


def _refuse_to_overwrite(path: Path) -> None:
    if path.exists():
        raise ArchiveError(f"{path} is there already; it was not changed")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written: {error.strerror}") from error


def read_archive(
    path: Path, largest: Callable[[str], int] = lambda name: _NO_LIMIT
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the entries, in order; nothing is unpacked to disk.

    Headers are read here, not by `tarfile`. It supports header extensions, by which a few
    compressed bytes become a name or a list of properties of gigabytes. Archives have none.

    Args:
        largest: size limit, in bytes, of an entry with this name; raises an ArchiveError for a name
            that is not allowed. It is called before the content is read.

    Raises:
        ArchiveError: the file cannot be read, is damaged, or has an entry that is no regular file.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            stream: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if zipped else file
            while (header := _next_header(stream)) is not None:
                name, size = header
                if size > largest(name):
                    raise ArchiveError(f"the archive has {name!r}, which is too large")
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
        raise _damaged("a header of a tar file is missing")
    blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    if _number(block[_CHECKSUM]) != sum(blank):
        raise _damaged("the checksum of a header is wrong")
    raw_name = block[_NAME].partition(b"\0")[0]
    name = raw_name.decode("ascii", errors="backslashreplace")
    if block[_KIND] in _REGULAR:
        if any(block[_NAME_PREFIX]) or not raw_name.isascii():
            raise ArchiveError("the archive has an entry whose name no archive of a tenant has")
        return name, _number(block[_SIZE])
    if block[_KIND] in _OF_NO_FILE:
        raise ArchiveError(f"the archive has {name!r}, which is no regular file")
    raise ArchiveError(
        f"the archive has {name!r} with an extended header, which no archive of a tenant has"
    )


def _number(field: bytes) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise _damaged("a number in a header is malformed")
    return int(match[1], 8)


def _content(stream: IO[bytes] | gzip.GzipFile, name: str, size: int) -> bytes:
    """The bytes of an entry. Memory is allocated as they arrive, not by the size in the header."""
    data = io.BytesIO()
    while (left := size - data.tell()) > 0:
        some = stream.read(min(left, _READ_BYTES))
        if not some:
            raise ArchiveError(f"the archive was cut off in {name!r}")
        data.write(some)
    stream.read(-size % _BLOCK_BYTES)
    return data.getvalue()


def _read_padding(stream: IO[bytes] | gzip.GzipFile) -> None:
    """Read to the end, which also checks the checksum of gzip."""
    size_bytes = 0
    while some := stream.read(_READ_BYTES):
        size_bytes += len(some)
        if size_bytes > _LARGEST_PADDING or any(some):
            raise ArchiveError("the archive has data after its end")


def _damaged(why: str) -> ArchiveError:
    return ArchiveError(f"the file is damaged, cut off, or no archive: {why}")
