"""Which cluster each face of a photo joins: a pure rule over measured distances."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.types import ClusterDistance


def assign_clusters(
    candidates: Sequence[Sequence[ClusterDistance]], max_distance: float
) -> list[ClusterDistance | None]:
    """Give each face of one photo the nearest cluster that no other face of it took.

    One photo shows a person once, so a cluster takes at most one of its faces. Pairs are decided
    nearest first, over the whole photo: the face that fits a cluster best gets it, and the other
    goes to its next best. A face left without a cluster at or under `max_distance` gets None,
    which means that it opens a new one.

    Args:
        candidates: for each face its nearest clusters. The rule is exact when each face lists at
            least as many clusters as the photo has faces, or all within `max_distance`.
        max_distance: the largest cosine distance that still means "the same person".
    """
    pairs = sorted(
        (candidate.distance, face, position)
        for face, options in enumerate(candidates)
        for position, candidate in enumerate(options)
        if candidate.distance <= max_distance
    )
    chosen: list[ClusterDistance | None] = [None] * len(candidates)
    taken: set[str] = set()
    for _, face, position in pairs:
        candidate = candidates[face][position]
        if chosen[face] is None and candidate.cluster_id not in taken:
            chosen[face] = candidate
            taken.add(candidate.cluster_id)
    return chosen
