"""Lists of near faces: made of rows, and what they show of the clusters around an embedding."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from service.domain.types import (
    ClusterId,
    Embedding,
    FaceDistance,
    FaceId,
)
from service.store.codes import FaceCodes, code_of

# So many nearest faces, within reach, may be of clusters that a face can join.
DISPUTED_FACES = 256


def by_embedding(rows: Sequence[asyncpg.Record], count: int) -> list[list[FaceDistance]]:
    near: list[list[FaceDistance]] = [[] for _ in range(count)]
    for row in rows:
        near[row["nth"] - 1].append(
            FaceDistance(
                FaceId(str(row["face_id"])),
                ClusterId(str(row["cluster_id"])),
                float(row["distance"]),
                row["is_auto_matched"],
            )
        )
    return near


def nearest_of_clusters(faces: Sequence[FaceDistance]) -> dict[ClusterId, float]:
    """The cosine distance of each cluster's nearest face, nearest first."""
    clusters: dict[ClusterId, float] = {}
    for face in faces:
        clusters.setdefault(face.cluster_id, face.distance)
    return clusters


def lacks_clusters(faces: Sequence[FaceDistance], *, reach: float, wanted: int, limit: int) -> bool:
    """Whether faces behind the `limit` nearest may show another cluster that counts.

    That is never so beyond the reach. Within it, the nearest faces may all be of one person, whom
    more faces say nothing new about; where they are of several, more of them are looked at, up to
    `DISPUTED_FACES`; and there are to be as many clusters as the photo has faces.

    Args:
        reach: the largest cosine distance to the nearest face of a cluster that may be joined.
        wanted: how many faces the photo has.
    """
    if len(faces) < limit or faces[-1].distance > reach:
        return False
    clusters = len(nearest_of_clusters(faces))
    return clusters < wanted or (clusters > 1 and limit < DISPUTED_FACES)


def numbered(ids: Sequence[Sequence[UUID]]) -> tuple[list[UUID], list[int]]:
    """All ids in one list, and in another one, beginning with 1, which embedding's each is."""
    together = [each for some in ids for each in some]
    return together, [nth for nth, some in enumerate(ids, 1) for _ in some]


async def near_by_code(
    embedding: Embedding, codes: FaceCodes, leaders: int, faces: int
) -> list[UUID]:
    """Ids of the faces whose codes are nearest; others have a turn before each of many.

    Args:
        embedding: float32 [512], a unit vector.
        leaders, faces: how many codes that lead are followed, and how many faces are wanted.
    """
    await asyncio.sleep(0)
    near = codes.nearest(code_of(embedding), leaders, faces)
    return [UUID(each) for each in near.tolist()]
