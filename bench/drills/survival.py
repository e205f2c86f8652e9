"""Comparison of the requests acknowledged before a crash with the content stored after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.common.database import Row, Stored
from bench.drills.callers import DELETE_FACE, DELETE_IMAGE, INSERT, Asked
from bench.drills.verdict import Reference

_ALLOWED = frozenset({"store_unavailable", "overloaded", "stopping"})
_FAULTS = ("lost", "undeleted", "halves", "unacknowledged")


@dataclass(slots=True)
class Survey:
    """Differences between stored and acknowledged; images by the hash of the sent file.

    lost: acknowledged, and not there as acknowledged. undeleted: their deletion was acknowledged,
    and they are there. halves: there in part, acknowledged or not, or rows that cannot stand alone.
    unacknowledged: there whole, though nobody was told: a caller who asks again has it twice.
    unexpected: answers, by code, that a crash does not excuse. found: acknowledged and there.
    """

    found: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    undeleted: set[str] = field(default_factory=set)
    halves: set[str] = field(default_factory=set)
    unacknowledged: set[str] = field(default_factory=set)
    unexpected: Counter[str] = field(default_factory=Counter)

    def add(self, other: Survey, known: Survey) -> None:
        """Take over the faults of `other` that are not known yet, and note them there."""
        for name in _FAULTS:
            fresh = getattr(other, name) - getattr(known, name)
            getattr(self, name).update(fresh)
            getattr(known, name).update(fresh)

    def document(self) -> dict[str, Any]:
        """The same for a file."""
        return {name: len(getattr(self, name)) for name in ("found", *_FAULTS)} | {
            "unexpected": dict(self.unexpected)
        }


def survey(asked: Iterable[Asked], stored: Stored, right: Reference) -> Survey:
    """Compare requests with the stored content once all of them have ended.

    An image is deleted, or one of its faces, at most once, and only after its insert was
    acknowledged. What was not acknowledged may have happened or not, but only as a whole.
    """
    seen = Survey()
    inserted: dict[str, Asked] = {}
    deleted: dict[str, Asked] = {}
    for each in asked:
        if each.status != 200 and each.status and each.code not in _ALLOWED:
            seen.unexpected[each.code] += 1
        if each.route == INSERT:
            inserted[each.sha256] = each
        elif each.route in (DELETE_IMAGE, DELETE_FACE):
            deleted[each.sha256] = each
    for sha256, insert in inserted.items():
        rows = stored.rows.get(sha256, [])
        if insert.status == 200:
            _check(seen, insert, deleted.get(sha256), rows)
        elif rows:
            whole = len(rows) == 1 and len(rows[0].faces) in right.faces[insert.photo]
            has_file = all(row.file_sha256 == sha256 for row in rows)
            (seen.unacknowledged if whole and has_file else seen.halves).add(sha256)
    seen.halves |= {
        f"{name} {number}" for name, count in stored.halves.items() for number in range(count)
    }
    return seen


def _check(seen: Survey, insert: Asked, deletion: Asked | None, rows: list[Row]) -> None:
    """Count an acknowledged insert: as it was answered, or as its deletion left it."""
    whole = frozenset(insert.answer["face_ids"])
    allowed = {whole}
    happened = deletion is not None and deletion.status == 200
    of_image = deletion is not None and deletion.route == DELETE_IMAGE
    if deletion is not None and not of_image:
        rest = whole - {deletion.target}
        allowed = {rest} if happened else {whole, rest}
    if deletion is not None and deletion.status == 404:  # it was there, and nobody else deletes
        seen.lost.add(insert.sha256)
    elif of_image and happened:
        (seen.undeleted if rows else seen.found).add(insert.sha256)
    elif not rows:
        (seen.found if of_image else seen.lost).add(insert.sha256)
    elif (
        len(rows) != 1
        or rows[0].image_id != insert.answer["image_id"]
        or rows[0].file_sha256 != insert.sha256
    ):
        seen.lost.add(insert.sha256)
    elif rows[0].faces in allowed:
        seen.found.add(insert.sha256)
    elif rows[0].faces == whole:
        seen.undeleted.add(insert.sha256)
    else:
        seen.halves.add(insert.sha256)
        seen.lost.add(insert.sha256)
