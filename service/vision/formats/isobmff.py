"""The items of an ISO base media file (ISO/IEC 14496-12): the container of HEIC and AVIF photos.

The walk reads what leads to the primary picture, and a bounded number of values: neither the order
of boxes nor the counts that a file announces decide what it costs. No coded data is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from service.domain.errors import ImageTooComplexError
from service.vision.formats.base import corrupt

# Numbers that a walk reads. A photo of 200 megapixels in tiles of 512 pixels has 20,000.
MAX_NUMBERS: Final = 1 << 17

_LARGE_SIZE, _TO_THE_END = 1, 0


class Property(NamedTuple):
    """A property of an item, such as its size; its body is without the box's header."""

    kind: bytes
    body: bytes


@dataclass(slots=True)
class Item:
    """One picture of a file, or a description how others make one.

    kind: four characters, such as `hvc1`, `av01` or `grid`.
    properties: in the order in which they apply.
    references: the items that this one refers to, in order, by the kind of the reference.
    extents: places and lengths of the item's data, in the file.
    """

    kind: bytes = b""
    properties: list[Property] = field(default_factory=list)
    references: dict[bytes, list[int]] = field(default_factory=dict)
    extents: list[tuple[int, int]] = field(default_factory=list)

    def find(self, kind: bytes) -> bytes | None:
        """The body of the first property of that kind."""
        return next((each.body for each in self.properties if each.kind == kind), None)


@dataclass(slots=True)
class Container:
    """The items of a file by their numbers, and the number of the primary one; None without one."""

    data: bytes
    primary: int | None = None
    items: dict[int, Item] = field(default_factory=dict)

    def item(self, number: int) -> Item:
        """An item that the file describes.

        Raises:
            CorruptImageError: there is none of that number.
        """
        found = self.items.get(number)
        if found is None or not found.kind:
            raise corrupt("an item is missing")
        return found

    def payload(self, item: Item) -> bytes:
        """The bytes of an item.

        Raises:
            CorruptImageError: they reach beyond the file, or are more than the whole file.
        """
        length = sum(size for _, size in item.extents)
        if length > len(self.data) or any(
            place + size > len(self.data) for place, size in item.extents
        ):
            raise corrupt("an item reaches beyond the file")
        return b"".join(self.data[place : place + size] for place, size in item.extents)


class _Cursor:
    """Reads numbers, most significant byte first, from a part of a file."""

    def __init__(self, data: bytes, place: int, stop: int, budget: list[int]) -> None:
        self._data, self.place, self.stop, self._budget = data, place, stop, budget

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def take(self, size: int) -> bytes:
        self._budget[0] -= 1
        end = self.place + size
        if self._budget[0] < 0:
            raise ImageTooComplexError
        if end > self.stop:
            raise corrupt("a box ends early")
        found = self._data[self.place : end]
        self.place = end
        return found

    def rest(self) -> bytes:
        return self.take(self.stop - self.place)

    def version(self) -> tuple[int, int]:
        """Version and flags of a full box."""
        word = self.number(4)
        return word >> 24, word & 0xFFFFFF

    def boxes(self) -> Iterator[tuple[bytes, _Cursor]]:
        """The boxes from here to the end, each with a cursor behind its header."""
        while self.place + 8 <= self.stop:
            start = self.place
            size, kind = self.number(4), self.take(4)
            if size == _LARGE_SIZE:
                size = self.number(8)
            stop = self.stop if size == _TO_THE_END else start + size
            if not self.place <= stop <= self.stop:
                raise corrupt("a box does not fit")
            yield kind, _Cursor(self._data, self.place, stop, self._budget)
            self.place = stop


def read_container(data: bytes) -> Container:
    """The items of a file; its coded data may be cut off.

    Raises:
        CorruptImageError: the boxes contradict one another.
        ImageTooComplexError: there are more than a photo has.
    """
    for kind, box in _Cursor(data, 0, len(data), [MAX_NUMBERS]).boxes():
        if kind == b"meta":
            return _read_meta(data, box)
    return Container(data)


def _read_meta(data: bytes, meta: _Cursor) -> Container:
    meta.version()
    boxes = dict(meta.boxes())
    found = Container(data)
    inner = boxes.get(b"idat")
    readers = {
        b"pitm": _read_primary,
        b"iinf": _read_kinds,
        b"iref": _read_references,
        b"iprp": _read_properties,
    }
    for kind, reader in readers.items():
        if kind in boxes:
            reader(boxes[kind], found)
    if b"iloc" in boxes:
        _read_extents(boxes[b"iloc"], found, inner)
    return found


def _read_primary(box: _Cursor, found: Container) -> None:
    version, _ = box.version()
    found.primary = box.number(2 if version == 0 else 4)


def _known(found: Container, number: int) -> Item:
    return found.items.setdefault(number, Item())


def _read_kinds(box: _Cursor, found: Container) -> None:
    version, _ = box.version()
    box.number(2 if version == 0 else 4)
    for kind, entry in box.boxes():
        if kind != b"infe":
            continue
        version, _ = entry.version()
        if version >= 2:  # earlier versions name no kind
            number = entry.number(2 if version == 2 else 4)
            entry.number(2)
            _known(found, number).kind = entry.take(4)


def _read_references(box: _Cursor, found: Container) -> None:
    version, _ = box.version()
    size = 2 if version == 0 else 4
    for kind, entry in box.boxes():
        references = _known(found, entry.number(size)).references.setdefault(kind, [])
        references.extend(entry.number(size) for _ in range(entry.number(2)))


def _read_properties(box: _Cursor, found: Container) -> None:
    boxes = list(box.boxes())
    properties = [
        Property(kind, entry.rest())
        for kind, container in boxes
        if kind == b"ipco"
        for kind, entry in container.boxes()
    ]
    for kind, associations in boxes:
        if kind != b"ipma":
            continue
        version, flags = associations.version()
        for _ in range(associations.number(4)):
            item = _known(found, associations.number(2 if version == 0 else 4))
            for _ in range(associations.number(1)):
                # The highest bit marks what a reader has to understand.
                place = (
                    associations.number(2) & 0x7FFF if flags & 1 else associations.number(1) & 0x7F
                )
                if place > len(properties):
                    raise corrupt("a property is missing")
                if place:
                    item.properties.append(properties[place - 1])


def _read_extents(box: _Cursor, found: Container, inner: _Cursor | None) -> None:
    version, _ = box.version()
    sizes = box.number(2)
    offset_size, length_size = sizes >> 12, sizes >> 8 & 15
    base_size, index_size = sizes >> 4 & 15, sizes & 15 if version else 0
    for _ in range(box.number(2 if version < 2 else 4)):
        item = _known(found, box.number(2 if version < 2 else 4))
        method = box.number(2) & 15 if version else 0
        box.number(2)
        base = box.number(base_size)
        for _ in range(box.number(2)):
            box.number(index_size)
            place, length = base + box.number(offset_size), box.number(length_size)
            if method == 1 and inner is not None:
                place += inner.place
            elif method != 0:
                item.kind = b""  # made of other items' data: no writer of photos does so
            item.extents.append((place, length))
