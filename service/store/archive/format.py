"""The format of an archive of a tenant: a tar file, optionally gzipped, with entries in this order.

archive.json
    The head: `format`, `version`, `schema` (the number of the newest migration), `tenant_id`, and
    `created_at` and `match_factor` of the tenant.
photos/<image_id>.<suffix>
    The bytes of each photo, in the order of the images. An export without photos has none.
rows/<kind>-<number>.tsv
    The rows of each kind in `PARTS`, in that order, in pieces of some megabytes. The format is
    PostgreSQL's COPY text format: one row per line, columns separated by tabs, `\\N` for null.
    Times are in UTC. Faces are in the order in which they were stored. A vector is the base64
    encoding of its half-precision components, big-endian; vectors of one model have equal
    dimensions. An image has a `photo_suffix` if the archive has its photo, whose SHA-256 and size
    are in the same row. A cluster has a `cover_face_id` if a person chose the cover. Merges are the
    ids of clusters that were merged into others. Decisions are those that hold, with the faces that
    count; a face of `side` 0 is told the same as, or different from, those of 1, and `is_claim`
    where it does not only stand for its person. The numbers of reviews give their order alone: an
    import assigns new ones.
manifest.json
    The head again, the count of each kind, and the name, rows, size and SHA-256 of each piece. An
    archive without manifest was cut off.

Headers of the tar file have no extensions, no links, and names of at most 100 characters. Each kind
of entry has a size limit, so that reading takes bounded memory.

The archive has no trace of the time, place or database of the export. So the export of an imported
tenant equals the archive that it came from, byte for byte.

Versions 1 to 4, of former releases, lack the columns in `SINCE`, the kinds of rows in `KINDS_SINCE`
or the `match_factor`. Such columns get their defaults, and the time of a cluster's newest photo is
computed.

These are not in an archive:

- what the database computes: sums of vectors, counts, covers that no person chose, and the key of a
  label, which an import derives from the label;
- the history of a tenant, the keys by which something was decided, and the kept answers to requests
  with an Idempotency-Key. They tell when and by which key something was asked of one installation,
  and answers are kept for a day. An imported tenant begins a new history, so nothing of before can
  be undone, and decisions that were taken back are gone for good;
- who has a review in work;
- the limits of a tenant, which the operator of an installation sets for that installation.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

from service.domain.errors import ArchiveError
from service.domain.matching import LEAST_FACTOR, MOST_FACTOR

FORMAT: Final = "facette-tenant"
VERSION: Final = 5
HEAD: Final = "archive.json"
MANIFEST: Final = "manifest.json"

# Kinds of rows and their columns; a kind comes after the kinds that it refers to.
PARTS: Final = {
    "images": (
        *("image_id", "photo_suffix", "format", "width", "height"),
        *("size_bytes", "sha256", "phash", "created_at", "turned"),
        *("taken_at", "orientation", "latitude", "longitude"),
    ),
    "clusters": (
        *("cluster_id", "created_at", "label", "external_id", "metadata"),
        *("hidden", "version", "last_face_at", "cover_face_id"),
    ),
    "faces": (
        *("face_id", "image_id", "cluster_id", "box", "landmarks", "area"),
        *("confidence", "is_auto_matched", "distance"),
        *("quality", "quality_facts", "is_matchable"),
    ),
    "vectors": ("face_id", "model_space", "embedding"),
    "reviews": (
        *("review_id", "cluster_id", "created_at"),
        *("kind", "face_id", "other_cluster_id", "distance", "other_distance"),
        *("similarity", "faces", "chance", "put_off"),
    ),
    "merges": ("cluster_id", "merged_into", "merged_at"),
    "decisions": ("decision_id", "kind", "decided_at"),
    "decision_faces": ("decision_id", "face_id", "side", "is_claim"),
}
KINDS_SINCE: Final = {"merges": 3, "decisions": 4, "decision_faces": 4}
"""The version of the format that added a kind of rows; the other kinds are in all."""
SINCE: Final = {
    2: {"images": {"turned"}, "faces": {"quality", "quality_facts", "is_matchable"}},
    3: {
        "images": {"taken_at", "orientation", "latitude", "longitude"},
        "clusters": {
            *("label", "external_id", "metadata", "hidden", "version"),
            *("last_face_at", "cover_face_id"),
        },
    },
    4: {
        "reviews": {
            *("kind", "face_id", "other_cluster_id", "distance", "other_distance"),
            *("similarity", "faces", "chance", "put_off"),
        },
    },
}
"""The columns that a version of the format added to kinds of former ones."""
PART_BYTES: Final = 4 * 2**20
MOST_PARTS: Final = 32_000
"""Limit on the pieces of all kinds together: 125 GiB of rows."""
# The largest exact integer of JavaScript; no stored review has a larger id.
LARGEST_REVIEW_ID: Final = 2**53 - 1

SUFFIX: Final = re.compile(rb"[a-z0-9]{1,16}")
"""The suffix of a photo, and the name of its format."""

_READ = range(1, VERSION + 1)
_FACTOR_SINCE = 5
_LARGEST_HEAD = 16 * 2**10
_LARGEST_MANIFEST = 8 * 2**20
# A piece ends with the row that reaches its size; the longest rows are clusters with metadata.
_LARGEST_PART = PART_BYTES + 2**20
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PHOTO = re.compile(rf"photos/({_UUID})\.({SUFFIX.pattern.decode()})")
_PART = re.compile(rf"rows/({'|'.join(PARTS)})-(\d{{6}})\.tsv")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an archive; `created_at` is a UTC time in the text format of PostgreSQL.

    match_factor: of the limit of a match in the tenant; learned from what people said there.
    """

    tenant_id: str
    created_at: str
    schema: int
    version: int = VERSION
    match_factor: float = 1.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of rows of this version."""
        return tuple(kind for kind in PARTS if KINDS_SINCE.get(kind, 1) <= self.version)

    def columns(self, kind: str) -> tuple[str, ...]:
        """The columns of a kind of rows."""
        later = {
            column
            for version, added in SINCE.items()
            if version > self.version
            for column in added.get(kind, ())
        }
        return tuple(each for each in PARTS[kind] if each not in later)


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
    merges: int
    decisions: int
    decision_faces: int

    def __str__(self) -> str:
        return ", ".join(
            f"{count} {kind.replace('_', ' ')}" for kind, count in asdict(self).items()
        )


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
    counted = {
        kind: count
        for kind, count in asdict(counts).items()
        if kind == "photos" or kind in head.kinds
    }
    return _render({**_head_fields(head), "counts": counted, "parts": listed})


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
            f"reads 1 to {VERSION}"
        )
    match fields:
        case {"tenant_id": str(tenant_id), "created_at": str(created_at), "schema": int(schema)}:
            factor = fields.get("match_factor") if version >= _FACTOR_SINCE else 1.0
            if type(factor) is not float or not LEAST_FACTOR <= factor <= MOST_FACTOR:
                raise ArchiveError("the head of the archive is damaged: its match_factor")
            head = Head(tenant_id, created_at, schema, version, factor)
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
    if head.version < _FACTOR_SINCE:
        del fields["match_factor"]
    return {"format": FORMAT, "version": fields.pop("version"), **fields}


def _render(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, indent=1).encode() + b"\n"
