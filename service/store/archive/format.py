"""The format of an archive of a tenant: a tar file, optionally gzipped, with entries in this order.

archive.json
    The head: `format`, `version`, `schema` (the number of the newest migration), `tenant_id`, and
    `created_at` of the tenant.
photos/<image_id>.<suffix>
    The bytes of each photo, in the order of the images. An export without photos has none.
rows/<kind>-<number>.tsv
    The rows of each kind in `PARTS`, in that order, in pieces of some megabytes. The format is
    PostgreSQL's COPY text format: one row per line, columns separated by tabs, `\\N` for null.
    Times are in UTC. Faces are in the order in which they were stored. A vector is the base64
    encoding of its half-precision components, big-endian; vectors of one model have equal
    dimensions. An image has a `photo_suffix` if the archive has its photo, whose SHA-256 and size
    are in the same row. The numbers of reviews give their order alone: an import assigns new ones.
manifest.json
    The head again, the count of each kind, and the name, rows, size and SHA-256 of each piece. An
    archive without manifest was cut off.

Headers of the tar file have no extensions, no links, and names of at most 100 characters. Each kind
of entry has a size limit, so that reading takes bounded memory.

The archive has no trace of the time, place or database of the export. So the export of an imported
tenant equals the archive that it came from, byte for byte.

Version 1, of the former release, lacks the columns in `SINCE_VERSION_2`, which get their defaults.
Sums of vectors and counts of clusters are not in the archive: the database computes them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

from service.domain.errors import ArchiveError

FORMAT: Final = "facette-tenant"
VERSION: Final = 2
HEAD: Final = "archive.json"
MANIFEST: Final = "manifest.json"

# Kinds of rows and their columns; a kind comes after the kinds that it refers to.
PARTS: Final = {
    "images": (
        *("image_id", "photo_suffix", "format", "width", "height"),
        *("size_bytes", "sha256", "phash", "created_at", "turned"),
    ),
    "clusters": ("cluster_id", "created_at"),
    "faces": (
        *("face_id", "image_id", "cluster_id", "box", "landmarks", "area"),
        *("confidence", "is_auto_matched", "distance"),
        *("quality", "quality_facts", "is_matchable"),
    ),
    "vectors": ("face_id", "model_space", "embedding"),
    "reviews": ("review_id", "cluster_id", "created_at"),
}
SINCE_VERSION_2: Final = frozenset({"turned", "quality", "quality_facts", "is_matchable"})
PART_BYTES: Final = 4 * 2**20
MOST_PARTS: Final = 32_000
"""Limit on the pieces of all kinds together: 125 GiB of rows."""
# The largest exact integer of JavaScript; no stored review has a larger id.
LARGEST_REVIEW_ID: Final = 2**53 - 1

SUFFIX: Final = re.compile(rb"[a-z0-9]{1,16}")
"""The suffix of a photo, and the name of its format."""

_READ = (1, VERSION)
_LARGEST_HEAD = 16 * 2**10
_LARGEST_MANIFEST = 8 * 2**20
# A piece ends with the row that reaches its size; the longest rows are vectors of 43 kB.
_LARGEST_PART = PART_BYTES + 64 * 2**10
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PHOTO = re.compile(rf"photos/({_UUID})\.({SUFFIX.pattern.decode()})")
_PART = re.compile(rf"rows/({'|'.join(PARTS)})-(\d{{6}})\.tsv")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an archive; `created_at` is a UTC time in the text format of PostgreSQL."""

    tenant_id: str
    created_at: str
    schema: int
    version: int = VERSION

    def columns(self, kind: str) -> tuple[str, ...]:
        """The columns of a kind of rows."""
        if self.version == VERSION:
            return PARTS[kind]
        return tuple(each for each in PARTS[kind] if each not in SINCE_VERSION_2)


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of rows, as the manifest lists it."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Counts:
    """The count of each kind in an archive."""

    images: int
    photos: int
    clusters: int
    faces: int
    vectors: int
    reviews: int

    def __str__(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in asdict(self).items())


@dataclass(frozen=True, slots=True)
class PhotoName:
    """The parts of the name of a photo."""

    image_id: UUID
    suffix: str


@dataclass(frozen=True, slots=True)
class PartName:
    """The parts of the name of a piece of rows; pieces of a kind are numbered from 1."""

    kind: str
    number: int


def photo_name(image_id: UUID, suffix: str) -> str:
    """The name of the entry of a photo."""
    return f"photos/{image_id}.{suffix}"


def part_name(kind: str, number: int) -> str:
    """The name of the entry of a piece of rows."""
    return f"rows/{kind}-{number:06}.tsv"


def parse_name(name: str) -> PhotoName | PartName:
    """The parts of the name of an entry between head and manifest.

    Raises:
        ArchiveError: the name is none of the format.
    """
    if match := _PHOTO.fullmatch(name):
        return PhotoName(UUID(match[1]), match[2])
    if match := _PART.fullmatch(name):
        return PartName(match[1], int(match[2]))
    raise ArchiveError(f"the archive has {name!r}, which is not part of the format")


def largest_entry(name: str, largest_photo_bytes: int) -> int:
    """The size limit of an entry, in bytes.

    Raises:
        ArchiveError: the name is none of the format.
    """
    if name == HEAD:
        return _LARGEST_HEAD
    if name == MANIFEST:
        return _LARGEST_MANIFEST
    return largest_photo_bytes if isinstance(parse_name(name), PhotoName) else _LARGEST_PART


def render_head(head: Head) -> bytes:
    """The content of the first entry."""
    return _render(_head_fields(head))


def render_manifest(head: Head, counts: Counts, parts: list[Part]) -> bytes:
    """The content of the last entry."""
    listed = [asdict(part) for part in parts]
    return _render({**_head_fields(head), "counts": asdict(counts), "parts": listed})


def parse_head(data: bytes, *, newest_schema: int) -> Head:
    """Read the first entry.

    Raises:
        ArchiveError: the file is no archive of a tenant, or needs a newer release.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ArchiveError("the archive is damaged: its head is no JSON object")
    if fields.get("format") != FORMAT:
        raise ArchiveError("the file is no archive of a tenant")
    version = fields.get("version")
    if version not in _READ or type(version) is not int:
        raise ArchiveError(
            f"the archive has the version {str(version)[:20]!r} of the format, and this release "
            "reads 1 and 2"
        )
    match fields:
        case {"tenant_id": str(tenant_id), "created_at": str(created_at), "schema": int(schema)}:
            head = Head(tenant_id, created_at, schema, version)
        case _:
            raise ArchiveError("the head of the archive is damaged")
    if not _is_text(tenant_id) or not _is_text(created_at):
        raise ArchiveError("the head of the archive is damaged: a text in it is not valid Unicode")
    if schema > newest_schema:
        raise ArchiveError(
            f"the archive comes from a newer release (its schema is newer than {newest_schema})"
        )
    return head


def unescape(column: bytes) -> str:
    """The text of a column in COPY's text format.

    Raises:
        UnicodeDecodeError: the column is not UTF-8.
    """
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), column).decode()


def _is_text(text: str) -> bool:
    """Whether a text can be encoded: JSON may have halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _head_fields(head: Head) -> dict[str, Any]:
    fields = asdict(head)
    return {"format": FORMAT, "version": fields.pop("version"), **fields}


def _render(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, indent=1).encode() + b"\n"
