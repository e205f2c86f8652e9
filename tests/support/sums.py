"""What triggers keep of clusters and tenants, and the same made anew in whole numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np

# Halves are multiples of this, so that a sum is a whole number of them.
STEP = 2.0**-24

Key = tuple[str, UUID, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What triggers keep: for each sum how many vectors it is of and its numbers in steps; and how
    many people each tenant has.
    """

    sums: dict[Key, tuple[int, ...]]
    people: dict[str, int]


async def kept(owner: asyncpg.Connection) -> Kept:
    sums = {}
    rows = await owner.fetch("SELECT tenant_id, cluster_id, model_space, total FROM cluster_sum")
    for *key, (count, *numbers) in map(tuple, rows):
        steps = [number / STEP for number in numbers]
        assert all(step.is_integer() for step in steps)
        sums[tuple(key)] = (int(count), *map(int, steps))
    people = await owner.fetch("SELECT tenant_id, people FROM tenant")
    return Kept(sums, dict(map(tuple, people)))


async def recounted(owner: asyncpg.Connection) -> Kept:
    """The same, made of the faces one by one, in whole numbers."""
    vectors = defaultdict(list)
    rows = await owner.fetch(
        "SELECT tenant_id, cluster_id, model_space, embedding FROM face"
        " JOIN face_vector USING (tenant_id, face_id) WHERE face.is_matchable"
    )
    for *key, embedding in map(tuple, rows):
        steps = embedding.to_numpy().astype(np.float64) / STEP
        vectors[tuple(key)].append((1, *map(int, steps)))
    people = await owner.fetch(
        "SELECT tenant_id, count(cluster_id) FROM tenant LEFT JOIN cluster USING (tenant_id)"
        " GROUP BY tenant_id"
    )
    return Kept(
        {key: tuple(map(sum, zip(*each, strict=True))) for key, each in vectors.items()},
        dict(map(tuple, people)),
    )


async def are_exact(owner: asyncpg.Connection) -> bool:
    """Whether sums and counts are those of the faces, and vectors say of them what they say."""
    differ = await owner.fetchval(
        "SELECT count(*) FROM face JOIN face_vector USING (tenant_id, face_id)"
        " WHERE face.is_matchable <> face_vector.is_matchable"
    )
    return await kept(owner) == await recounted(owner) and differ == 0
