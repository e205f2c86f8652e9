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
from export.graphs.signature import StageName
from service.runtime.manifest import file_sha256

_PARENT = "_facette_facenet_pytorch"

_STAGE_CLASSES: dict[StageName, str] = {"pnet": "PNet", "rnet": "RNet", "onet": "ONet"}
_STAGE_SHA256: dict[StageName, str] = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}


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


def packaged_weights(package: str, file: str, install: str, sha256: str) -> Path:
    """A file of weights in an installed package, after checking that it is the one known here.

    Another file is not read: a pickled file of weights can execute code.

    Args:
        package: top-level, as it is imported. file: below its folder.
        install: the release that has the file, as pip names it.

    Raises:
        MissingExtraError: the package is not installed.
        WeightsNotFoundError: the package lacks the file.
        WeightsMismatchError: it is another file.
    """
    path = package_folder(package) / file
    name, _, version = install.partition("==")
    if not path.is_file():
        raise WeightsNotFoundError(
            f"the installed {name} has no {file}: install version {version} again"
        )
    if file_sha256(path) != sha256:
        raise WeightsMismatchError(
            f"the installed {name} has another {file}: install version {version} again"
        )
    return path


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
        WeightsMismatchError: it has another one.
    """
    return packaged_weights(
        "facenet_pytorch", f"data/{stage}.pt", "facenet-pytorch==2.5.3", _STAGE_SHA256[stage]
    )


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
