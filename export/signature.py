"""What each exported graph looks like from outside: names, shapes and element types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.runtime.manifest import ImageInput, ModelName, TensorSpec


@dataclass(frozen=True)
class Signature:
    """Input and outputs of one graph; `threshold` is the recommended face probability.

    image: [batch, height, width, 3], RGB, 0 to 255; a named dimension is dynamic. FaceNet takes
    uint8, as its crops are. MTCNN's stages take float32: facenet-pytorch shows them area means,
    which are no whole numbers, and rounding them moves the faces that are found.
    """

    image: ImageInput
    outputs: tuple[TensorSpec, ...]
    threshold: float | None = None

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in graph order."""
        return [output.name for output in self.outputs]


def _image(
    height: int | str, width: int | str, dtype: Literal["uint8", "float32"] = "float32"
) -> ImageInput:
    return ImageInput(
        name="image",
        dtype=dtype,
        shape=("batch", height, width, 3),
        layout="NHWC",
        color="RGB",
        value_range=(0, 255),
    )


def _floats(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=("batch", *shape))


# Thresholds of the three stages: facenet-pytorch 2.5.3, MTCNN's default `thresholds`.
SIGNATURES: dict[ModelName, Signature] = {
    "pnet": Signature(
        image=_image("height", "width"),
        outputs=(
            _floats("regression", 4, "out_height", "out_width"),
            _floats("probability", "out_height", "out_width"),
        ),
        threshold=0.6,
    ),
    "rnet": Signature(
        image=_image(24, 24),
        outputs=(_floats("regression", 4), _floats("probability")),
        threshold=0.7,
    ),
    "onet": Signature(
        image=_image(48, 48),
        outputs=(_floats("regression", 4), _floats("landmarks", 10), _floats("probability")),
        threshold=0.7,
    ),
    "facenet": Signature(
        image=_image(160, 160, "uint8"),
        outputs=(_floats("embedding", 512),),
    ),
}
