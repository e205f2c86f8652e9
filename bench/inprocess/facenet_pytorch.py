"""facenet-pytorch, used as its documentation shows it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from export import recipe
from export.graphs import networks
from export.graphs.weights import load

NAME = "facenet-pytorch"
STAND_IN = (
    "facenet-pytorch's detector needs torchvision's batched_nms, which cannot be imported beside "
    "this torch: OpenCV's compiled NMSBoxesBatched takes its place"
)
_PARENT = "_bench_facenet_pytorch"


class FacenetPytorch:
    """Its MTCNN and InceptionResnetV1 at their defaults, eager, all faces kept.

    One thing is not its own: torchvision's `batched_nms`, whose package cannot be imported beside
    this torch. OpenCV's compiled one takes its place.

    Args:
        threads: intra-op threads of PyTorch.
        min_face_size: in pixels; 20 is its default.
        weights: a name or file that `facette export --weights` takes.
    """

    def __init__(
        self, threads: int, min_face_size: int = 20, weights: str = "casia-webface"
    ) -> None:
        torch.set_num_threads(threads)
        self._detector = _mtcnn_module().MTCNN(keep_all=True, min_face_size=min_face_size)
        self._network = networks.inception_resnet_v1()
        load(recipe.parse_weights(weights, download=False), self._network)

    def save_weights(self, path: Path) -> None:
        """The network's weights as the state dict file that facenet-pytorch publishes."""
        torch.save(self._network.state_dict(), path)

    def detect(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Boxes of the faces of a photo: uint8 [height, width, 3] RGB -> float32 [n, 4]."""
        boxes, _ = self._detector.detect(pixels)
        return np.empty((0, 4), np.float32) if boxes is None else np.asarray(boxes, np.float32)

    def embed(self, faces: torch.Tensor) -> NDArray[np.float32]:
        """float32 [n, 3, 160, 160], standardised -> float32 [n, 512], unit vectors."""
        with torch.inference_mode():
            embeddings: NDArray[np.float32] = self._network(faces).numpy()
        return embeddings

    def analyze(self, data: bytes) -> NDArray[np.float32]:
        """A JPEG file's bytes to the embeddings of its faces, float32 [n, 512]."""
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise ValueError("the photo does not decode")
        faces = self._detector(image)
        if faces is None:
            return np.empty((0, 512), np.float32)
        return self.embed(faces)


def standardised(crops: NDArray[np.uint8], *, channels_last: bool = False) -> torch.Tensor:
    """uint8 [n, 160, 160, 3] RGB as `FacenetPytorch.embed` takes them.

    In memory the channels come first, as in what its own MTCNN returns, unless asked otherwise.
    """
    faces = (torch.from_numpy(crops).permute(0, 3, 1, 2).to(torch.float32) - 127.5) / 128.0
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return faces.contiguous(memory_format=layout)


def _mtcnn_module() -> ModuleType:
    """facenet-pytorch's `models/mtcnn.py` with its own detection loop."""
    if _PARENT not in sys.modules:
        parent = ModuleType(_PARENT)
        parent.__path__ = [str(networks.package_folder("facenet_pytorch") / "models")]
        sys.modules[_PARENT] = parent
        with _StandIns(
            {
                "torchvision": {},
                "torchvision.transforms": {"functional": _namespace(to_tensor=_to_tensor)},
                "torchvision.ops": {},
                "torchvision.ops.boxes": {"batched_nms": _batched_nms},
            }
        ):
            importlib.import_module(f"{_PARENT}.mtcnn")
    return sys.modules[f"{_PARENT}.mtcnn"]


class _StandIns:
    """Modules of these names and contents, for the time of the block."""

    def __init__(self, modules: dict[str, dict[str, Any]]) -> None:
        self._modules = modules
        self._before: dict[str, ModuleType | None] = {}

    def __enter__(self) -> None:
        for name, contents in self._modules.items():
            self._before[name] = sys.modules.get(name)
            module = _namespace(**contents)
            module.__path__ = []
            sys.modules[name] = module

    def __exit__(self, *_: object) -> None:
        for name, module in self._before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _namespace(**contents: Any) -> ModuleType:
    module = ModuleType("stand_in")
    module.__dict__.update(contents)
    return module


def _to_tensor(image: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, threshold: float
) -> torch.Tensor:
    """torchvision's signature over OpenCV, which takes boxes as x y width height."""
    if not len(boxes):
        return torch.empty(0, dtype=torch.int64)
    corners = boxes.numpy()
    rectangles = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    # Its type stubs ask for lists; it takes arrays, and takes them without copying.
    suppress: Any = cv2.dnn.NMSBoxesBatched
    kept = suppress(rectangles, scores.numpy(), groups.numpy().astype(np.int32), 0.0, threshold)
    return torch.as_tensor(np.asarray(kept, dtype=np.int64).reshape(-1))
