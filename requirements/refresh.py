"""Pins every dependency anew: `make lock`.

Resolves pyproject.toml once, with all the extras of a CPU installation, and writes the files
beside this one: each package with its version and the SHA-256 of every file of it.

- `serve.txt`, `setup.txt`, `test.txt`: what `requirements/install` installs, PyTorch apart.
- `torch.txt`: PyTorch, of the usual index and of the index of its CPU builds.
- `torch-cuda.txt`: the libraries that the build of the usual index loads on Linux.
- `tools.txt`: uv and pip-audit, with which this is done.

uv resolves for every platform and Python at once. It cannot merge two indexes into one version's
hashes, so the hashes of the CPU builds stand in `torch-cpu.sha256`, as `sha256sum` writes them;
after a change of PyTorch's version they are copied from that index by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
PYPROJECT = HERE.parent / "pyproject.toml"

# The extras of each set. onnxruntime's three builds exclude one another: the CPU's is pinned.
EXTRAS = {
    "serve": ("cpu", "heic", "s3", "tracing"),
    "setup": ("cpu", "embedded", "export", "heic"),
    "test": ("bench", "cpu", "embedded", "export", "heic", "report", "s3", "test", "tracing"),
}
TOOLS = "uv\npip-audit\n"

# What only the CUDA build of PyTorch needs.
_CUDA = re.compile(r"(nvidia|cuda|triton)\b")
_HEADER = "# Written by `make lock`.\n"


def compile_requirements(uv: str, sources: list[str], *options: str, text: str = "") -> list[str]:
    """The resolved requirements, one string each with its hashes.

    Raises: CalledProcessError: there is no solution, or the index cannot be reached.
    """
    done = subprocess.run(  # noqa: S603
        [
            *(uv, "pip", "compile", *sources, *options),
            *("--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
            *("--no-header", "--no-annotate", "--no-emit-index-url"),
        ],
        input=text,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return re.findall(r"^\S.*(?:\n .*)*\n", done.stdout, re.MULTILINE)


def build_requirements() -> str:
    """What building Facette itself needs, a line each."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    return "\n".join(project["build-system"]["requires"]) + "\n"


def with_cpu_builds(torch: str) -> str:
    """The requirement on PyTorch, with the hashes of its CPU builds added."""
    version = torch.split("==")[1].split()[0]
    lines = (HERE / "torch-cpu.sha256").read_text(encoding="utf-8").splitlines()
    files = [line.split() for line in lines]
    hashes = [digest for digest, name in files if name.startswith(f"torch-{version}+cpu-")]
    if not hashes:
        sys.exit(f"torch-cpu.sha256 holds no build of PyTorch {version}: copy them from its index")
    return torch.rstrip("\n") + "".join(f" \\\n    --hash=sha256:{one}" for one in hashes) + "\n"


def write(name: str, requirements: list[str]) -> None:
    """One file of the pinned sets."""
    (HERE / f"{name}.txt").write_text(_HEADER + "".join(requirements), encoding="utf-8")


def main(uv: str) -> None:
    """Resolves and writes all files; uv: the program."""
    everything = compile_requirements(
        uv,
        [str(PYPROJECT), "-"],
        *(f"--extra={name}" for name in EXTRAS["test"]),
        text=build_requirements(),
    )
    torch = [one for one in everything if one.startswith("torch==")]
    cuda = [one for one in everything if _CUDA.match(one)]
    apart = [f"--no-emit-package={re.split('[=;@ ]', one)[0]}" for one in (*torch, *cuda)]
    write("torch", [with_cpu_builds(torch[0])])
    write("torch-cuda", cuda)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(everything)
        file.flush()
        for name, extras in EXTRAS.items():
            chosen = compile_requirements(
                uv,
                [str(PYPROJECT), "-"],
                *(f"--extra={extra}" for extra in extras),
                *apart,
                f"--constraint={file.name}",
                text=build_requirements(),
            )
            write(name, chosen)
    write("tools", compile_requirements(uv, ["-"], text=TOOLS))


if __name__ == "__main__":
    main(sys.argv[1])
