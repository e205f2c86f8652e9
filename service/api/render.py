"""The bodies of answers: JSON, and embeddings in the format of the request."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from service.domain.types import Detection, Embedding, FaceQuality

BINARY_TYPE = "application/octet-stream"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z


class Json(Response):
    """A JSON body; NumPy arrays become lists of numbers, and times are in UTC."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Serialise the content."""
        return orjson.dumps(content, option=_OPTIONS)


def embedding_bytes(embeddings: Sequence[Embedding], dimension: int) -> Response:
    """The embeddings alone: float32, little-endian, one row for each face."""
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
"""The encodings of an embedding, float32 [dimension], in JSON, by the name of the parameter."""


def detection(face: Detection) -> dict[str, Any]:
    """The box, landmarks and confidence of a face."""
    box = face.box
    return {
        "box": {"x1": box.x1, "y1": box.y1, "x2": box.x2, "y2": box.y2},
        "landmarks": face.landmarks,
        "confidence": face.confidence,
    }


def quality(found: FaceQuality | None) -> dict[str, Any] | None:
    """The quality of a face; None for a face that was stored before qualities were."""
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
