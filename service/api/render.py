"""Answers: JSON, and embeddings in the form a caller asked for."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from service.domain.types import Detection, Embedding, FaceQuality

BINARY_TYPE = "application/octet-stream"


class Json(Response):
    """A JSON body; NumPy arrays become lists of numbers."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Serialise."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def embedding_bytes(embeddings: Sequence[Embedding], dimension: int) -> Response:
    """Nothing but the vectors: float32, little-endian, one row a face."""
    rows = np.asarray(embeddings, dtype="<f4").reshape(-1, dimension)
    return Response(
        rows.tobytes(),
        media_type=BINARY_TYPE,
        headers={"X-Embedding-Shape": f"{len(rows)},{dimension}"},
    )


EMBEDDING_FORMATS: Mapping[str, Callable[[Embedding], object]] = {
    "float": np.ascontiguousarray,
    "base64": lambda embedding: _base64(embedding, "<f4"),
    "base64_float16": lambda embedding: _base64(embedding, "<f2"),
}
"""How a vector, float32 [dimension], can stand in a JSON body, by the name a caller gives."""


def detection(face: Detection) -> dict[str, Any]:
    """A face's place and how sure it is."""
    box = face.box
    return {
        "box": {"x1": box.x1, "y1": box.y1, "x2": box.x2, "y2": box.y2},
        "landmarks": face.landmarks,
        "confidence": face.confidence,
    }


def quality(found: FaceQuality | None) -> dict[str, Any] | None:
    """How well a face can be compared; None for a face of before that was stored."""
    if found is None:
        return None
    return {
        "score": found.score,
        "reasons": found.reasons,
        "size": found.size,
        "sharpness": found.sharpness,
        "brightness": found.brightness,
        "contrast": found.contrast,
        "yaw": found.yaw,
        "roll": found.roll,
    }


def _base64(embedding: Embedding, dtype: str) -> str:
    return base64.b64encode(embedding.astype(dtype).tobytes()).decode("ascii")
