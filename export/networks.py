"""facenet-pytorch's network classes, loaded without its package initialiser.

`facenet_pytorch/__init__.py` imports torchvision, whose releases are each tied to one torch
release; none is needed for the networks themselves. So the two modules that define them are
imported under a private parent package whose `__path__` is the installed folder.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from export.errors import MissingExtraError, WeightsMismatchError, WeightsNotFoundError
from export.signature import StageName

_PARENT = "_facette_facenet_pytorch"

_STAGE_CLASSES: dict[StageName, str] = {"pnet": "PNet", "rnet": "RNet", "onet": "ONet"}


def package_folder(package: str) -> Path:
    """Folder of an installed top-level package, found without importing it.

    Raises:
        MissingExtraError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the package '{package}' is not installed: install Facette's 'export' extra"
        )
    return Path(spec.origin).parent


@functools.cache
def facenet_module() -> ModuleType:
    """facenet-pytorch's `models/inception_resnet_v1.py`."""
    return _load("inception_resnet_v1")


def inception_resnet_v1() -> nn.Module:
    """A new InceptionResnetV1 in evaluation mode, with random weights.

    float32 [n, 3, 160, 160], standardised -> float32 [n, 512], unit length.
    """
    network = facenet_module().InceptionResnetV1()
    assert isinstance(network, nn.Module)
    return network.eval()


def mtcnn_weights_path(stage: StageName) -> Path:
    """The state dict that facenet-pytorch ships for one MTCNN stage.

    Raises:
        WeightsNotFoundError: the installed package lacks it.
    """
    path = package_folder("facenet_pytorch") / "data" / f"{stage}.pt"
    if not path.is_file():
        raise WeightsNotFoundError(
            f"the installed facenet-pytorch has no data/{stage}.pt: install version 2.5.3 again"
        )
    return path


def mtcnn_stage(stage: StageName) -> nn.Module:
    """P-Net, R-Net or O-Net with facenet-pytorch's weights, in evaluation mode.

    float32 [n, 3, h, w], standardised -> (regression, probabilities) or, for O-Net,
    (regression, landmarks, probabilities); probabilities are [no face, face] in dimension 1.

    Raises:
        WeightsNotFoundError: the weights file is missing.
        WeightsMismatchError: it is not this stage's.
    """
    network = getattr(_load("mtcnn"), _STAGE_CLASSES[stage])(pretrained=False)
    assert isinstance(network, nn.Module)
    state = torch.load(mtcnn_weights_path(stage), map_location="cpu", weights_only=True)
    assert isinstance(state, Mapping)
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise WeightsMismatchError(
            f"facenet-pytorch's data/{stage}.pt does not fit its own network: install it again"
        ) from None
    return network.eval()


def _load(module: str) -> ModuleType:
    if _PARENT not in sys.modules:
        parent = ModuleType(_PARENT)
        parent.__path__ = [str(package_folder("facenet_pytorch") / "models")]
        sys.modules[_PARENT] = parent
        # mtcnn.py takes two helpers from this submodule for its own detection loop, which is not
        # used here; the submodule itself would import torchvision.
        detection = ModuleType(f"{_PARENT}.utils.detect_face")
        for helper in ("detect_face", "extract_face"):
            setattr(detection, helper, None)
        sys.modules[detection.__name__] = detection
    return importlib.import_module(f"{_PARENT}.{module}")
