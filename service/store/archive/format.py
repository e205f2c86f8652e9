"""What is in a tenant's archive: a tar file, gzipped or not, whose entries come in this order.

archive.json
    The head: `format`, `version`, `schema` (the number of the newest migration), `tenant_id`, and
    `created_at` of the tenant.
photos/<image_id>.<suffix>
    The bytes of each photo, in the order of the images; none where they were left out.
rows/<kind>-<number>.tsv
    The rows of each kind of `PARTS`, in that order, cut into pieces of some megabytes. They are in
    PostgreSQL's COPY text format: a row a line, columns apart by tabs, `\\N` for null. Times are in
    UTC. Faces stand in the order they were stored. A vector is its half-precision numbers, two
    bytes each with the high one first, in base64; those of one model are as many. An image has a
    `photo_suffix` where its photo is in the archive; the photo's SHA-256 and size are the image's.
    Reviews are numbered by their order alone: each database gives them numbers of its own.
manifest.json
    The head again, how many there are of each kind, and the name, rows, size and SHA-256 of each
    piece. An archive without it was cut off.

Headers of the tar file are plain: no extensions, no links, names of up to 100 characters. Each kind
of entry has a size that it does not exceed, so that reading takes little memory whatever comes.

Nothing in it tells when, where or from which database it was made, so that the archive of a tenant
that was imported is the one it came from, byte for byte.

Version 1 is that of the release before: it lacks the columns of `SINCE_VERSION_2`, which get their
defaults. Sums of vectors and numbers of people are in no archive: the database makes them.
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

# Kinds of rows, each after what it refers to, and their columns.
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
"""Of all kinds together: 125 GiB of rows."""
# JavaScript's largest whole number; beyond it a number is no review's that was ever stored.
LARGEST_REVIEW_ID: Final = 2**53 - 1

SUFFIX: Final = re.compile(rb"[a-z0-9]{1,16}")
"""Of a photo's name, and the name of its format."""

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
    """Whose archive it is; `created_at` is PostgreSQL's text for a time in UTC."""

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
    """One piece of the rows, as the manifest lists it."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are of each kind in an archive."""

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
    """What the name of a photo's entry says."""

    image_id: UUID
    suffix: str


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a piece of rows says; pieces of a kind count from 1."""

    kind: str
    number: int


def photo_name(image_id: UUID, suffix: str) -> str:
    """The entry of a photo."""
    return f"photos/{image_id}.{suffix}"


def part_name(kind: str, number: int) -> str:
    """The entry of a piece of rows."""
    return f"rows/{kind}-{number:06}.tsv"


def parse_name(name: str) -> PhotoName | PartName:
    """What an entry between head and manifest is.

    Raises:
        ArchiveError: nothing that belongs into an archive.
    """
    if match := _PHOTO.fullmatch(name):
        return PhotoName(UUID(match[1]), match[2])
    if match := _PART.fullmatch(name):
        return PartName(match[1], int(match[2]))
    raise ArchiveError(f"the archive holds {name!r}, which does not belong into one")


def largest_entry(name: str, largest_photo_bytes: int) -> int:
    """How many bytes an entry may have.

    Raises:
        ArchiveError: nothing that belongs into an archive.
    """
    if name == HEAD:
        return _LARGEST_HEAD
    if name == MANIFEST:
        return _LARGEST_MANIFEST
    return largest_photo_bytes if isinstance(parse_name(name), PhotoName) else _LARGEST_PART


def render_head(head: Head) -> bytes:
    """The first entry."""
    return _render(_head_fields(head))


def render_manifest(head: Head, counts: Counts, parts: list[Part]) -> bytes:
    """The last entry."""
    listed = [asdict(part) for part in parts]
    return _render({**_head_fields(head), "counts": asdict(counts), "parts": listed})


def parse_head(data: bytes, *, newest_schema: int) -> Head:
    """Read the first entry.

    Raises:
        ArchiveError: it is no archive of a tenant, or one that only a newer release can read.
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
        raise ArchiveError("the head of the archive is damaged: it holds what is no text")
    if schema > newest_schema:
        raise ArchiveError(
            f"the archive comes from a newer release (its schema is not {newest_schema} or before)"
        )
    return head


def unescape(column: bytes) -> str:
    """The text of a column in COPY's text format.

    Raises:
        UnicodeDecodeError: it is no UTF-8.
    """
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), column).decode()


def _is_text(text: str) -> bool:
    """Whether it can be written down: JSON may hold halves of surrogate pairs."""
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
