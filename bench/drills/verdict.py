"""Verdict on the requests of a drill, from their answers and the content stored afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx2 as httpx
import numpy as np
from numpy.typing import NDArray

from bench.common.database import Stored, stored
from bench.common.server import ServiceProcess
from bench.drills.callers import (
    BROKEN,
    EMBED,
    INSERT,
    UNANSWERED,
    UNREACHED,
    Asked,
    ask,
    embeddings_of,
)

# Batches of other sizes round otherwise, and the text form has float32's digits.
_SAME_COSINE = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Expected answers for each photo, taken from one or several states of the service.

    faces: how many an insert finds, by photo. embeddings: float64 [n, dimension], by photo.
    """

    faces: Sequence[set[int]]
    embeddings: Sequence[Sequence[NDArray[np.float64]]]

    def also(self, other: Reference) -> Reference:
        """Either is right."""
        return Reference(
            [a | b for a, b in zip(self.faces, other.faces, strict=True)],
            [[*a, *b] for a, b in zip(self.embeddings, other.embeddings, strict=True)],
        )

    def agrees(self, asked: Asked) -> bool:
        """Whether a request that was answered 200 got the right answer."""
        if asked.route == INSERT:
            return len(asked.answer["faces"]) in self.faces[asked.photo]
        found = embeddings_of(asked.answer)
        return any(
            found.shape == right.shape and bool(np.all((found * right).sum(axis=1) > _SAME_COSINE))
            for right in self.embeddings[asked.photo]
        )


async def reference(service: ServiceProcess, photos: Sequence[bytes]) -> Reference:
    """The answers of an otherwise idle service.

    Raises:
        RuntimeError: it does not answer 200, or finds no face.
    """
    faces, embeddings = [], []
    async with service.async_client() as client:
        for number, photo in enumerate(photos):
            inserted, embedded = [
                await ask(client, route, "drill-reference", number, photo)
                for route in (INSERT, EMBED)
            ]
            if not inserted.answer.get("faces") or not embedded.answer.get("faces"):
                raise RuntimeError(f"photo {number}: {inserted.answer} {embedded.answer}")
            faces.append({len(inserted.answer["faces"])})
            embeddings.append([embeddings_of(embedded.answer)])
    return Reference(faces, embeddings)


@dataclass(slots=True)
class Tally:
    """Requests of one drill by how they ended.

    sent: all that reached the service. ok: answered 200. errors: other answers, by code.
    unanswered: the connection ended first. broken: it ended amid the answer. missing: answered 200,
    and not stored as answered, or not to be read. wrong: answered 200 with the wrong faces.
    refused_but_stored: answered with an error, and stored. unacknowledged: stored, and never
    answered. repeated: stored more than once. not_allowed: errors that this drill does not excuse.
    files_without_row: garbage for the sweep.
    """

    sent: int = 0
    unreached: int = 0
    ok: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    broken: int = 0
    missing: int = 0
    wrong: int = 0
    refused_but_stored: int = 0
    unacknowledged: int = 0
    repeated: int = 0
    not_allowed: int = 0
    files_without_row: int = 0
    right: int = 0

    @property
    def kept(self) -> float:
        """Share of the sent requests that were answered correctly, and stored as answered."""
        return self.right / self.sent if self.sent else 0.0

    def document(self) -> dict[str, Any]:
        """The same for a file."""
        return {**asdict(self), "errors": dict(self.errors), "kept": self.kept}


async def judge(
    tally: Tally,
    service: ServiceProcess,
    asked: Sequence[Asked],
    right: Reference,
    allowed: Sequence[str],
) -> None:
    """Count the requests of a service that is idle now.

    Args:
        allowed: codes of errors that are a right answer, as long as nothing is stored.
    """
    found = await stored(service)
    async with service.async_client() as client:
        for each in asked:
            readable = each.route != INSERT or each.status != 200 or await _readable(client, each)
            count(tally, each, found, right, allowed, readable=readable)
    tally.files_without_row = found.files_without_row


def count(
    tally: Tally,
    asked: Asked,
    found: Stored,
    right: Reference,
    allowed: Sequence[str],
    *,
    readable: bool,
) -> None:
    """Count one request by what is stored. readable: the API tells of it as it was answered."""
    if asked.code == UNREACHED:
        tally.unreached += 1
        return
    tally.sent += 1
    rows = found.rows.get(asked.sha256, [])
    tally.repeated += len(rows) > 1
    if asked.status == 200:
        tally.ok += 1
        kept = asked.route == EMBED or (readable and _is_whole(asked, found))
        agrees = right.agrees(asked)
        tally.missing += not kept
        tally.wrong += not agrees
        tally.right += kept and agrees
    elif asked.code in (UNANSWERED, BROKEN):
        tally.unanswered += asked.code == UNANSWERED
        tally.broken += asked.code == BROKEN
        tally.unacknowledged += bool(rows)
    else:
        tally.errors[asked.code] += 1
        tally.not_allowed += asked.code not in allowed
        tally.refused_but_stored += bool(rows)
        tally.right += asked.code in allowed and not rows


def _is_whole(asked: Asked, found: Stored) -> bool:
    """Stored once: the row, every face, and the file's bytes."""
    rows = found.rows.get(asked.sha256, [])
    if len(rows) != 1:
        return False
    (row,) = rows
    return (
        row.image_id == asked.answer["image_id"]
        and row.faces == _faces(asked.answer)
        and row.file_sha256 == asked.sha256
    )


async def _readable(client: httpx.AsyncClient, asked: Asked) -> bool:
    """Whether GET /image tells of the same faces."""
    answer = await client.get(
        "/image", params={"tenant_id": asked.tenant, "image_id": asked.answer["image_id"]}
    )
    return answer.status_code == 200 and set(answer.json()["face_ids"]) == _faces(asked.answer)


def _faces(answer: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(answer["face_ids"])
