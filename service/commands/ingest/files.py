"""The files of folders, each of them once, and told apart: photos, hidden files, links, others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from service.domain.image_files import HEAD_BYTES, PHOTO_SUFFIXES, is_image


class Kind(StrEnum):
    """What a file is to an ingest."""

    PHOTO = "photo"
    OTHER = "other"
    HIDDEN = "hidden"
    LINK = "link"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file or folder that was found.

    kind: LINK for one that leads to what is found by its own name, or was found already. reason:
    why it is unreadable. size_bytes, changed_ns, inode: of a photo; a file of which they are the
    same is the same.
    """

    path: str
    kind: Kind
    reason: str = ""
    size_bytes: int = 0
    changed_ns: int = 0
    inode: int = 0


def files_of(places: Sequence[Path], *, hidden: bool) -> Iterator[FoundFile]:
    """All files in folders and in the folders in them, in the order of the file system.

    Links are followed, but nothing is found twice: neither what lies in the folders anyway, nor
    what another link leads to. So what is remembered is as many as the folders and the links.

    Args:
        places: folders, or files.
        hidden: take hidden files and folders for others.
    """
    yield from _Walk(places, hidden=hidden)


class _Walk:
    """One search."""

    def __init__(self, places: Sequence[Path], *, hidden: bool) -> None:
        self._places = places
        self._hidden = hidden
        self._roots = [os.path.realpath(place) for place in places if place.is_dir()]
        self._folders: set[tuple[int, int]] = set()
        self._linked: set[tuple[int, int]] = set()

    def __iter__(self) -> Iterator[FoundFile]:
        named: set[str] = set()
        for place in self._places:
            path = str(place)
            real = os.path.realpath(path)
            if not place.is_dir():
                if real in named or self._lies_in_a_root(real):
                    yield FoundFile(path, Kind.LINK)
                else:
                    named.add(real)
                    yield _look(path)
                continue
            waiting = [path]
            while waiting:
                yield from self._folder(waiting.pop(), waiting)

    def _folder(self, folder: str, waiting: list[str]) -> Iterator[FoundFile]:
        """The files of a folder; the folders in it are appended to those that wait."""
        try:
            facts = Path(folder).stat()
            if (facts.st_dev, facts.st_ino) in self._folders:
                yield FoundFile(folder, Kind.LINK)
                return
            self._folders.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        yield from self._entry(entry, waiting)
                    except OSError as error:  # such as links in a circle
                        reason = error.strerror or str(error)
                        yield FoundFile(entry.path, Kind.UNREADABLE, reason)
        except OSError as error:
            yield FoundFile(folder, Kind.UNREADABLE, error.strerror or str(error))

    def _entry(self, entry: os.DirEntry[str], waiting: list[str]) -> Iterator[FoundFile]:
        if entry.name.startswith(".") and not self._hidden:
            yield FoundFile(entry.path, Kind.HIDDEN)
        elif not entry.is_symlink():
            if entry.is_dir():
                waiting.append(entry.path)
            else:
                yield _look(entry.path)
        else:
            yield from self._link(entry, waiting)

    def _link(self, entry: os.DirEntry[str], waiting: list[str]) -> Iterator[FoundFile]:
        real = os.path.realpath(entry.path)
        if self._lies_in_a_root(real):
            yield FoundFile(entry.path, Kind.LINK)
        elif entry.is_dir():
            waiting.append(entry.path)
        else:
            facts = Path(real).stat()
            if (facts.st_dev, facts.st_ino) in self._linked:
                yield FoundFile(entry.path, Kind.LINK)
            else:
                self._linked.add((facts.st_dev, facts.st_ino))
                yield _look(entry.path)

    def _lies_in_a_root(self, real: str) -> bool:
        """Whether a file is found by its own name."""
        return any(
            Path(real).is_relative_to(root)
            and (self._hidden or not _is_hidden(Path(real).relative_to(root)))
            and Path(real).exists()
            for root in self._roots
        )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _look(path: str) -> FoundFile:
    """What a file is: a photo by the end of its name, or by its first bytes."""
    file = Path(path)
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            return FoundFile(path, Kind.OTHER)
        if file.suffix.lower() not in PHOTO_SUFFIXES:
            with file.open("rb", buffering=0) as opened:
                if not is_image(opened.read(HEAD_BYTES)):
                    return FoundFile(path, Kind.OTHER)
    except OSError as error:
        return FoundFile(path, Kind.UNREADABLE, error.strerror or str(error))
    if not facts.st_size:
        return FoundFile(path, Kind.UNREADABLE, "the file is empty")
    return FoundFile(
        path,
        Kind.PHOTO,
        size_bytes=facts.st_size,
        changed_ns=facts.st_mtime_ns,
        inode=facts.st_ino,
    )
