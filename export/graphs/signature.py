"""The interface of each exported graph: names, shapes and element types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.runtime.manifest import ImageInput, TensorSpec

StageName = Literal["pnet", "rnet", "onet"]


@dataclass(frozen=True)
class Signature:
    """Input and outputs of one graph; `threshold` is the recommended face probability.

    name: name of the file, without its suffix.
    image: RGB, 0 to 255; a named dimension is dynamic. Embedders take uint8 [batch, height, width,
    3], the layout of their crops. MTCNN's stages take float32 [batch, 3, height, width]: their
    input is area means, and rounding those to whole numbers moves the faces that are found.
    Resampling writes planes as fast as pixels, and saves the graph a transpose.
    """

    name: str
    image: ImageInput
    outputs: tuple[TensorSpec, ...]
    threshold: float | None = None

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in graph order."""
        return [output.name for output in self.outputs]


def _planes(height: int | str, width: int | str) -> ImageInput:
    return ImageInput(
        name="image",
        dtype="float32",
        shape=("batch", 3, height, width),
        layout="NCHW",
        color="RGB",
        value_range=(0, 255),
    )


def _pixels(height: int, width: int) -> ImageInput:
    return ImageInput(
        name="image",
        dtype="uint8",
        shape=("batch", height, width, 3),
        layout="NHWC",
        color="RGB",
        value_range=(0, 255),
    )


def _floats(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=("batch", *shape))


# Thresholds of the three stages: facenet-pytorch 2.5.3, MTCNN's default `thresholds`.
STAGES: dict[StageName, Signature] = {
    "pnet": Signature(
        name="pnet",
        image=_planes("height", "width"),
        outputs=(
            _floats("regression", 4, "out_height", "out_width"),
            _floats("probability", "out_height", "out_width"),
        ),
        threshold=0.6,
    ),
    "rnet": Signature(
        name="rnet",
        image=_planes(24, 24),
        outputs=(_floats("regression", 4), _floats("probability")),
        threshold=0.7,
    ),
    "onet": Signature(
        name="onet",
        image=_planes(48, 48),
        outputs=(_floats("regression", 4), _floats("landmarks", 10), _floats("probability")),
        threshold=0.7,
    ),
}

# With a centre both vectors, without one the vector of the network alone.
FACENET_CENTRED = Signature(
    name="facenet",
    image=_pixels(160, 160),
    outputs=(_floats("embedding", 512), _floats("compatible", 512)),
)
FACENET = Signature(name="facenet", image=_pixels(160, 160), outputs=(_floats("embedding", 512),))
SFACE = Signature(name="sface", image=_pixels(112, 112), outputs=(_floats("embedding", 128),))
