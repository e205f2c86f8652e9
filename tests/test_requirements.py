"""What set-up installs: pinned, by hash, agreeing with pyproject.toml, PyTorch without CUDA."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
FILES = ("serve", "setup", "test", "tools", "torch", "torch-cuda")
EXTRAS = {
    "serve": ("cpu", "heic", "s3", "tracing"),
    "setup": ("cpu", "embedded", "export", "heic"),
    "test": ("bench", "cpu", "embedded", "export", "heic", "report", "s3", "test", "tracing"),
}


def pinned(name: str) -> dict[str, Requirement]:
    """The requirements of a file, by name; of two for different platforms, ours."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(re.split(r"\s+--hash", line)[0])
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = requirement
    assert found
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_package_has_one_version_and_hashes(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", "")
    for line in text.splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r"[\w.-]+==[^\s;]+( ; .+?)?(\s+--hash=sha256:[0-9a-f]{64})+", line)


@pytest.mark.parametrize("name", EXTRAS)
def test_the_pins_are_what_pyproject_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in EXTRAS[name]:
        asked += project["project"]["optional-dependencies"][extra]
    found = pinned(name) | pinned("torch")
    for requirement in map(Requirement, asked):
        if requirement.marker is None or requirement.marker.evaluate():
            (version,) = found[canonicalize_name(requirement.name)].specifier
            assert version.operator == "=="
            assert requirement.specifier.contains(version.version), requirement


def test_all_sets_pin_the_same_versions() -> None:
    whole = pinned("test")
    for name in ("serve", "setup"):
        for package, requirement in pinned(name).items():
            assert str(requirement.specifier) == str(whole[package].specifier)


def test_what_is_installed_here_is_what_is_pinned() -> None:
    for package, requirement in (pinned("test") | pinned("torch")).items():
        assert requirement.specifier.contains(importlib.metadata.version(package)), package


def test_serving_needs_neither_pytorch_nor_the_export() -> None:
    assert {"torch", "facenet-pytorch", "onnx"}.isdisjoint(pinned("serve"))


@pytest.mark.parametrize("file", ["Dockerfile", "docker-compose.yml"])
def test_images_are_named_by_digest(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    images = re.findall(r"^FROM (\S+)|^\s+image: (\S+)", text, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    others = {"".join(pair) for pair in images} - set(stages)
    assert others
    for image in others:
        assert re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", image)


def wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    """An empty package."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in needs)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def index(folder: Path, *wheels: Path) -> str:
    """A package index of these files, as an address."""
    for file in wheels:
        name = canonicalize_name(file.name.split("-")[0])
        page = folder / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        page.write_text(f'<a href="{file.as_uri()}#sha256={digest}">{file.name}</a>')
    folder.mkdir(exist_ok=True)
    return folder.as_uri()


def pin(file: Path, *wheels: Path) -> None:
    """A file of requirements on these files alone."""
    lines = []
    for one in wheels:
        name, version = one.name.split("-")[:2]
        digest = hashlib.sha256(one.read_bytes()).hexdigest()
        lines.append(f"{name}=={version.split('+')[0]} --hash=sha256:{digest}\n")
    file.write_text("".join(lines))


class Checkout:
    """A checkout of a product that depends on PyTorch alone, and a copy of an environment."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder = folder
        self.requirements = folder / "requirements"
        self.requirements.mkdir()
        shutil.copy(REQUIREMENTS / "install", self.requirements)
        files = folder / "files"
        files.mkdir()
        self.cuda_build = wheel(files, "torch", "2.13.0", "nvidia-cublas")
        self.cublas = wheel(files, "nvidia_cublas", "13.1.0")
        self.cpu_build = wheel(files, "torch", "2.13.0+cpu")
        self.usual = index(folder / "usual", self.cuda_build, self.cublas)
        self.cpu = index(folder / "cpu", self.cpu_build)
        pin(self.requirements / "torch-cuda.txt", self.cublas)
        self.pin_torch(self.cuda_build, self.cpu_build)
        (self.requirements / "setup.txt").write_text("")
        (folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            '[project]\nname = "product"\nversion = "1"\n[tool.setuptools]\npackages = []\n'
        )
        self.environment = folder / "environment"
        shutil.copytree(environment, self.environment, symlinks=True)
        self.python = self.environment / "bin" / "python"

    def pin_torch(self, *wheels: Path) -> None:
        hashes = " ".join(
            f"--hash=sha256:{hashlib.sha256(one.read_bytes()).hexdigest()}" for one in wheels
        )
        (self.requirements / "torch.txt").write_text(f"torch==2.13.0 {hashes}\n")

    def install(self, torch_index: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Runs the set-up; the machine's own settings of pip are left out."""
        return subprocess.run(
            [self.requirements / "install", self.python, "setup", *options],
            env={
                "PATH": os.environ["PATH"],
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": self.usual,
                "TORCH_INDEX": torch_index,
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    def installed(self) -> dict[str, str]:
        (site,) = self.environment.glob("lib/python*/site-packages")
        found = importlib.metadata.distributions(path=[str(site)])
        return {canonicalize_name(one.name): one.version for one in found}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the pip and the setuptools of this one."""
    made = tmp_path_factory.mktemp("made") / "environment"
    venv.create(made, with_pip=False, system_site_packages=False)
    site = next(made.glob("lib/python*/site-packages"))
    here = Path(importlib.metadata.distribution("setuptools").locate_file(""))
    # The commands of setuptools are named in its metadata.
    (metadata,) = here.glob("setuptools-*.dist-info")
    for part in ("pip", "setuptools", "_distutils_hack", metadata.name):
        (site / part).symlink_to(here / part)
    return made


@pytest.fixture
def checkout(tmp_path: Path, environment: Path) -> Checkout:
    return Checkout(tmp_path, environment)


def test_pytorch_comes_from_the_index_of_its_cpu_builds(checkout: Checkout) -> None:
    done = checkout.install(checkout.cpu)
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""
    assert checkout.installed()["torch"] == "2.13.0+cpu"
    assert "nvidia-cublas" not in checkout.installed()
    assert "product" in checkout.installed()


@pytest.mark.parametrize("why", ["nothing there", "another file"])
def test_where_there_is_no_cpu_build_the_usual_index_serves(checkout: Checkout, why: str) -> None:
    address = {
        "nothing there": index(checkout.folder / "empty"),
        "another file": checkout.cpu,
    }[why]
    if why == "another file":
        checkout.pin_torch(checkout.cuda_build)
    done = checkout.install(address)
    assert done.returncode == 0, done.stdout
    assert f"cannot be had from {address}: taking PyTorch from the usual index" in done.stdout
    assert checkout.installed()["torch"] == "2.13.0"
    assert checkout.installed()["nvidia-cublas"] == "13.1.0"


def test_an_empty_index_means_the_usual_one(checkout: Checkout) -> None:
    done = checkout.install("")
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""
    assert checkout.installed()["torch"] == "2.13.0"


def test_the_product_may_be_left_out(checkout: Checkout) -> None:
    done = checkout.install(checkout.cpu, "--dependencies")
    assert (done.returncode, done.stdout) == (0, "")
    assert checkout.installed()["torch"] == "2.13.0+cpu"
    assert "product" not in checkout.installed()


def test_a_file_that_is_not_the_pinned_one_is_refused(checkout: Checkout) -> None:
    checkout.pin_torch(checkout.cublas)
    done = checkout.install(checkout.cpu)
    assert done.returncode != 0
    assert "hash" in done.stdout.lower()
    assert "torch" not in checkout.installed()
