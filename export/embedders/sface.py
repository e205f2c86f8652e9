"""SFace of OpenCV Zoo, as one graph from pixels to unit vectors.

Zhong et al., SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition, IEEE
Transactions on Image Processing 30, 2021, https://arxiv.org/abs/2205.12010.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from export.embedders import curves, facts
from export.embedders.embedder import Embedder, unit
from export.graphs import convert
from export.graphs.fold import UnitLength
from export.graphs.fold_mtcnn import SplitPReLU
from export.graphs.sface_file import MEAN, SHA256, Layer, Layers, read, weights_path
from export.graphs.signature import SFACE
from export.verification.samples import Pixels
from export.verification.verify import Outputs, Reference
from service.runtime.manifest import FaceCrop

_WEIGHTS = f"mobilenet-v1/sface-2021dec/{SHA256[:12]}"
_DIMENSION = 128

# Template of OpenCV's FaceRecognizerSF::alignCrop; its input is RGB, 0 to 255.
CROP = FaceCrop(
    kind="landmarks",
    size=112,
    template=(
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ),
)


class SFace(Embedder):
    """SFace with the weights of the installed package.

    Raises:
        WeightsError: they cannot be found or are not the expected ones.
        RecordError: a recorded curve cannot be read.
    """

    precisions = ("fp16",)

    def __init__(self) -> None:
        self._path = weights_path()
        self.signature = SFACE
        self.weights = _WEIGHTS
        self.source = facts.sface_source(SHA256)
        self.embeddings = (curves.facts(f"{_WEIGHTS}/landmarks", CROP, "embedding", _DIMENSION),)

    def to_onnx(self) -> bytes:
        """See `Embedder`."""
        return convert.to_onnx(SFACE, network(read(self._path)))

    def reference(self) -> Reference:
        """The package's own file, run by ONNX Runtime, and unit length by NumPy."""
        return _original(self._path)


def network(layers: Layers) -> nn.Module:
    """Float32 [n, 3, 112, 112] RGB, 0 to 255 -> float32 [n, 128], unit length."""
    return _Network(layers).float().eval()


class _Network(nn.Module):
    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({each.name: _Block(each) for each in layers.convolutions})
        outputs, inputs = layers.weight.shape
        self.linear = nn.Linear(inputs, outputs)
        self.linear.weight = nn.Parameter(torch.from_numpy(layers.weight))
        self.linear.bias = nn.Parameter(torch.from_numpy(layers.bias))
        self.unit = UnitLength()

    def forward(self, images: Tensor) -> Tensor:
        # Not folded into the weights: the zeros that pad the first layer stand for the mean.
        maps = images - MEAN
        for layer in self.layers.values():
            maps = layer(maps)
        unit: Tensor = self.unit(self.linear(maps.flatten(1)))
        return unit


class _Block(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        channels, _, kernel, _ = layer.weight.shape
        self.conv = nn.Conv2d(
            layer.weight.shape[1] * layer.groups,
            channels,
            kernel,
            stride=layer.stride,
            padding=layer.padding,
            groups=layer.groups,
        )
        self.conv.weight = nn.Parameter(torch.from_numpy(layer.weight))
        self.conv.bias = nn.Parameter(torch.from_numpy(layer.bias))
        prelu = nn.PReLU(channels)
        prelu.weight = nn.Parameter(torch.from_numpy(layer.slope))
        self.prelu = SplitPReLU(prelu, 4)

    def forward(self, maps: Tensor) -> Tensor:
        bent: Tensor = self.prelu(self.conv(maps))
        return bent


def _original(path: Path) -> Reference:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # ONNX Runtime warns of each weight that is also an input
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    picture, *unused = session.get_inputs()
    # The file declares its 8-bit weights as inputs, too, and reads none of these inputs.
    zeros = {each.name: np.zeros(each.shape, np.float32) for each in unused}

    def run(images: Pixels) -> Outputs:
        planes = images.transpose(0, 3, 1, 2).astype(np.float32)
        vectors = [
            session.run(None, {picture.name: planes[place : place + 1], **zeros})[0]
            for place in range(len(planes))
        ]
        return {"embedding": unit(np.concatenate(vectors))}

    return run
