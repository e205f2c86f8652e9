"""Made-up people with vectors like those of real faces, loaded by COPY."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from service.domain.matching import fixed_rule
from service.domain.types import ModelSpace, TenantId

Vectors = NDArray[np.float32]

SPACE = ModelSpace("made-up/1")
RULE = fixed_rule(0.3)
"""What the default rule allows among thousands of people."""

_PHOTOS_OF_A_PERSON = 8.0
_AT_ONCE = 20_000
_IMAGE = (
    *("tenant_id", "image_id", "format", "width", "height"),
    *("size_bytes", "sha256", "phash"),
)
_FACE = (
    *("tenant_id", "face_id", "image_id", "cluster_id"),
    *("box", "landmarks", "area", "confidence", "is_auto_matched"),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """Distribution of the vectors of a network.

    decay: of the directions' variances, as a power of their number. common: the component of all
    faces, in the strongest direction. noise: variance of one face around its person; its logarithm
    differs from face to face with the standard deviation `unevenness`.
    """

    dimension: int
    decay: float
    common: float
    noise: float
    unevenness: float = 0.0


# Measured on 82 faces of 30 people: strangers have a cosine of 0.035 with a standard deviation of
# 0.122, as unit vectors of about 67 equally strong directions would; two faces of one person 0.69.
# Here strangers come to 0.026 with 0.13, and faces of one person to 0.76.
FACENET = Spread(512, 0.84, 0.19, 1 / 3)
# Strangers have a cosine of 0 with a standard deviation of 0.1, two faces of one person 0.62.
SFACE = Spread(128, 0.3, 0.0, 0.61)


@dataclass(frozen=True, slots=True)
class Crowd:
    """People and their faces.

    persons: float32 [people, dimension], the mean of each person's faces. faces: float32
    [n, dimension], unit vectors at half precision, as they are stored. person_of: int [n].
    """

    spread: Spread
    persons: Vectors
    faces: Vectors
    person_of: NDArray[np.int64]

    def more_faces(self, count: int, rng: np.random.Generator) -> Vectors:
        """New faces of people of the crowd, drawn face by face: float32 [count, dimension]."""
        return _faces(self.persons[rng.choice(self.person_of, count)], self.spread, rng)


def crowd(faces: int, seed: int, spread: Spread = FACENET) -> Crowd:
    """`faces` faces of about an eighth as many people, in random order."""
    rng = np.random.default_rng(seed)
    sizes = 1 + rng.geometric(1 / (_PHOTOS_OF_A_PERSON - 1), size=faces)
    people = int(np.searchsorted(np.cumsum(sizes), faces)) + 1
    person_of = np.repeat(np.arange(people), sizes[:people])[:faces]
    rng.shuffle(person_of)
    persons = _directions(rng, people, spread)
    persons[:, 0] += spread.common
    found = np.empty((faces, spread.dimension), np.float32)
    for start in range(0, faces, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found[part] = _faces(persons[person_of[part]], spread, rng)
    return Crowd(spread, persons, found, person_of)


async def load(
    connection: asyncpg.Connection,
    tenant_id: TenantId,
    people: Crowd,
    space: ModelSpace = SPACE,
) -> None:
    """Store a crowd as a tenant: an image for each face, a cluster for each person.

    Args:
        connection: of the tables' owner.
        space: of the vectors.
    """
    count = len(people.faces)
    ids = [id_of(number) for number in range(count)]
    clusters = [ids[person] for person in people.person_of]
    box, points, area = [1.0, 2.0, 3.0, 4.0], [1.0] * 10, [1, 2, 2, 2]
    await connection.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", tenant_id)
    await connection.copy_records_to_table(
        "cluster",
        columns=["tenant_id", "cluster_id"],
        records=((tenant_id, ids[person]) for person in np.unique(people.person_of)),
    )
    await connection.copy_records_to_table(
        "image",
        columns=_IMAGE,
        records=((tenant_id, each, "jpeg", 9, 9, 9, "0" * 64, "0" * 16) for each in ids),
    )
    await connection.copy_records_to_table(
        "face",
        columns=_FACE,
        records=(
            (tenant_id, face, face, cluster, box, points, area, 1.0, True)
            for face, cluster in zip(ids, clusters, strict=True)
        ),
    )
    await connection.copy_records_to_table(
        "face_vector",
        columns=["tenant_id", "face_id", "model_space", "embedding"],
        records=(
            (tenant_id, face, space, HalfVector(vector))
            for face, vector in zip(ids, people.faces, strict=True)
        ),
    )


def id_of(number: int) -> UUID:
    """The id of one of the crowd's faces; each tenant has ids of its own."""
    return UUID(int=number + 1)


def number_of(face_id: str) -> int:
    """The number of the crowd's face with this id."""
    return UUID(face_id).int - 1


def _faces(persons: Vectors, spread: Spread, rng: np.random.Generator) -> Vectors:
    noise = np.full((len(persons), 1), np.sqrt(spread.noise), np.float32)
    if spread.unevenness:
        noise *= np.exp(rng.normal(0.0, spread.unevenness / 2, noise.shape)).astype(np.float32)
    faces = persons + noise * _directions(rng, len(persons), spread)
    faces = faces @ _basis(spread.dimension)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    stored: Vectors = faces.astype(np.float16).astype(np.float32)
    return stored


def _directions(rng: np.random.Generator, count: int, spread: Spread) -> Vectors:
    variances = np.arange(1, spread.dimension + 1) ** -spread.decay
    strength = np.sqrt(variances / variances.sum()).astype(np.float32)
    drawn: Vectors = rng.standard_normal((count, spread.dimension), dtype=np.float32) * strength
    return drawn


@cache
def _basis(dimension: int) -> Vectors:
    """A rotation: as in a trained network, no direction of the vectors is an axis."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dimension, dimension)))
    return rotation.astype(np.float32)
