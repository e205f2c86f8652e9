"""Files of folders are told apart, and each is found once, whatever leads to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.commands.ingest.files import Kind, files_of

PHOTO = b"\xff\xd8\xff\xe0 a photo by its first bytes"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Photos, and all that is not one; `outside` lies beside the folder."""
    folder, outside = tmp_path / "album", tmp_path / "outside"
    for each in (folder / "trip" / ".cache", outside / "more"):
        each.mkdir(parents=True)
    for path, data in {
        folder / "a.jpg": PHOTO,
        folder / "trip" / "b.HEIC": b"whatever: the name says it",
        folder / "trip" / "no suffix": PHOTO,
        folder / "notes.txt": b"words",
        folder / "empty.jpg": b"",
        folder / ".hidden.jpg": PHOTO,
        folder / "trip" / ".cache" / "c.jpg": PHOTO,
        outside / "d.jpg": PHOTO,
        outside / "more" / "e.jpg": PHOTO,
    }.items():
        path.write_bytes(data)
    for name, target in {
        "link to a.jpg": folder / "a.jpg",
        "link to hidden.jpg": folder / ".hidden.jpg",
        "link outside.jpg": outside / "d.jpg",
        "trip/the same.jpg": outside / "d.jpg",
        "trip/back": folder,
        "trip/more": outside / "more",
        "more again": outside / "more",
        "nowhere.jpg": tmp_path / "gone.jpg",
    }.items():
        (folder / name).symlink_to(target)
    (folder / "circle.jpg").symlink_to("circle.jpg")
    return folder


def found(*places: Path, hidden: bool = False) -> dict[Kind, list[str]]:
    by_kind: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for file in files_of(places, hidden=hidden):
        by_kind[file.kind].append(Path(file.path).name)
    return {kind: sorted(names) for kind, names in by_kind.items()}


def test_every_file_is_told_apart(album: Path) -> None:
    kinds = found(album)
    photos = kinds[Kind.PHOTO]
    assert {"a.jpg", "b.HEIC", "no suffix", "e.jpg", "link to hidden.jpg"} <= set(photos)
    # One of the two links to the file outside is taken, whichever comes first.
    assert len({"link outside.jpg", "the same.jpg"} & set(photos)) == 1
    assert len(photos) == 6
    assert kinds[Kind.OTHER] == ["notes.txt"]
    assert kinds[Kind.HIDDEN] == [".cache", ".hidden.jpg"]
    assert kinds[Kind.UNREADABLE] == ["circle.jpg", "empty.jpg", "nowhere.jpg"]
    assert {"back", "link to a.jpg"} <= set(kinds[Kind.LINK])
    assert len(kinds[Kind.LINK]) == 4


def test_hidden_files_are_taken_where_they_are_wanted(album: Path) -> None:
    kinds = found(album, hidden=True)
    assert {".hidden.jpg", "c.jpg"} <= set(kinds[Kind.PHOTO])
    assert "link to hidden.jpg" in kinds[Kind.LINK]
    assert kinds[Kind.HIDDEN] == []


def test_places_that_overlap_are_searched_once(album: Path) -> None:
    once = found(album)[Kind.PHOTO]
    assert len(found(album / "trip", album)[Kind.PHOTO]) == len(once)
    assert len(found(album, album)[Kind.PHOTO]) == len(once)
    assert found(album / "a.jpg", album / "a.jpg")[Kind.PHOTO] == ["a.jpg"]
    assert len(found(album / "a.jpg", album)[Kind.PHOTO]) == len(once)
