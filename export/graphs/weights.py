"""FaceNet's weights: from the installed package, from facenet-pytorch's download, or a file."""

from __future__ import annotations

import hashlib
import http.client
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from export.errors import WeightsDownloadError, WeightsMismatchError
from export.graphs import frozen_graph
from export.graphs.networks import facenet_module
from export.recipe import WeightsChoice
from service.runtime.manifest import file_sha256

# File names under which facenet-pytorch 2.5.3 publishes and caches its state dicts.
_DOWNLOADS = {
    "vggface2": "20180402-114759-vggface2.pt",
    "casia-webface": "20180408-102900-casia-webface.pt",
}
_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/tag/v2.2.9"


@dataclass(frozen=True)
class Weights:
    """A state dict without classifier, with its name and the hash of its file.

    state: float32 tensors under InceptionResnetV1's own names.
    """

    name: str
    state: dict[str, Tensor]
    file_sha256: str

    @property
    def digest(self) -> str:
        """Hex SHA-256 over names, shapes and values: equal weights have equal digests."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state.items()):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def space(self) -> str:
        """Id of the embedding space these weights span."""
        return f"inception-resnet-v1/{self.name}/{self.digest[:12]}"


def load(choice: WeightsChoice, network: nn.Module) -> Weights:
    """Read the chosen weights and put them into `network`, an InceptionResnetV1.

    Raises:
        WeightsError: they cannot be found, fetched or used.
    """
    if choice.path is not None:
        name, path = choice.path.stem, choice.path
        state = _read_file(path)
    elif choice.download:
        name, path = choice.kind, _download(choice.kind)
        state = _read_file(path)
    else:
        name, path = choice.kind, frozen_graph.graph_path()
        state = frozen_graph.read_state_dict(path, network)
    state = _fitting(path.name, state, network)
    network.load_state_dict(state, strict=False)
    return Weights(name=name, state=state, file_sha256=file_sha256(path))


def _download(kind: str) -> Path:
    """facenet-pytorch's own download into torch's cache; a cached file is used again."""
    module = facenet_module()
    file = _DOWNLOADS[kind]
    advice = (
        f"the weights '{kind}' could not be downloaded: fetch {file} from {_RELEASE} "
        "on a connected machine and pass its path as --weights"
    )
    try:
        module.InceptionResnetV1(pretrained=kind)
    except (OSError, http.client.HTTPException) as error:
        # A cut-off connection leaves no file: facenet-pytorch moves it in place when complete.
        raise WeightsDownloadError(f"{advice} ({type(error).__name__})") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        raise WeightsMismatchError(
            f"the downloaded {file} is damaged: remove it from torch's cache and run again"
        ) from None
    return Path(module.get_torch_home()) / "checkpoints" / file


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise WeightsMismatchError(f"'{path}' is not a state dict that torch can read") from None
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()
    ):
        raise WeightsMismatchError(f"'{path}' holds no state dict: names mapped to tensors")
    return dict(loaded)


def _fitting(file: str, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The part of a state dict that an embedder uses, checked against the network."""

    def used(name: str) -> bool:
        # The classifier over the training identities and the training step counters.
        return not name.startswith("logits.") and not name.endswith("num_batches_tracked")

    expected = {name: t.shape for name, t in network.state_dict().items() if used(name)}
    found = {name: tensor for name, tensor in state.items() if used(name)}
    if missing := sorted(expected.keys() - found.keys()):
        raise WeightsMismatchError(
            f"'{file}' is no InceptionResnetV1 state dict: "
            f"{len(missing)} of {len(expected)} tensors are missing, such as '{missing[0]}'"
        )
    if extra := sorted(found.keys() - expected.keys()):
        raise WeightsMismatchError(
            f"'{file}' is no InceptionResnetV1 state dict: "
            f"it has {len(extra)} unknown tensors, such as '{extra[0]}'"
        )
    for name, shape in expected.items():
        tensor = found[name]
        if tensor.shape != shape:
            raise WeightsMismatchError(
                f"'{file}': '{name}' has shape {tuple(tensor.shape)}, not {tuple(shape)}"
            )
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise WeightsMismatchError(f"'{file}': '{name}' does not hold finite real numbers")
    return {name: found[name].to(torch.float32) for name in expected}
