"""Refreshes and verifies the JavaScript libraries that the console is served with.

    python requirements/vendor.py           fetches them anew from the package registry
    python requirements/vendor.py --check   compares the committed files with their sums, offline

The console has no build step, so the published modules are served as they are, but for the names
that they import: a browser finds `./preact.js`, and does not find `preact`. `npm pack` fetches a
package from the registry that npm is configured for. Each archive must have the integrity that is
pinned here, so another registry cannot give other code. `sums.txt` beside the modules has the
SHA-256 of every file, as `sha256sum` writes it. To take a new release, change its version and its
integrity, which `npm view <name>@<version> dist.integrity` tells.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "service" / "api" / "console" / "static" / "vendor"
SUMS = "sums.txt"
LICENCES = "licences.txt"


@dataclass(frozen=True)
class Package:
    """A package of the registry, and what the console takes out of it.

    integrity: SHA-512 of its archive in Base64, as the registry tells it. files: the path in the
    archive of each vendored file. exports: names that a script without modules defines, by file;
    each becomes the default export.
    """

    name: str
    version: str
    integrity: str
    files: Mapping[str, str]
    exports: Mapping[str, str] = field(default_factory=dict)


PACKAGES = (
    Package(
        "preact",
        "11.2.0",
        "/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==",
        {"preact.js": "dist/preact.mjs", "hooks.js": "hooks/dist/hooks.mjs"},
    ),
    Package(
        "htm",
        "3.1.1",
        "983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        {"htm.js": "dist/htm.module.js"},
    ),
    Package(
        "@preact/signals-core",
        "1.14.5",
        "vcRv7Ityz5JVmeiVqIluLFzT/PDS/AlhHUpw3/aUWqcVUs6bDGIPXE/6RSC4evBNWYvnniozg5Syfj33al3gkg==",
        {"signals-core.js": "dist/signals-core.module.js"},
    ),
    Package(
        "@preact/signals",
        "2.11.4",
        "Rb+5RPo9gWSaHtzJeauhHxiC8KP/IF2DEPkHPEOGOnuy2wnJzRqyeLRankUCYd6ADqtxS6GnWGv6Ie343d8aYw==",
        {"signals.js": "dist/signals.module.js"},
    ),
    Package(
        "uplot",
        "1.6.32",
        "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {"uplot.js": "dist/uPlot.iife.min.js", "uplot.css": "dist/uPlot.min.css"},
        {"uplot.js": "uPlot"},
    ),
)
MODULES = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}
_SOURCE_MAP = re.compile(r"\n?//# sourceMappingURL=\S+\s*$")
_IMPORT = re.compile(r"""(\bfrom|\bimport)\s*(["'])([^"']+)\2""")


class VendorError(Exception):
    """A package, or a vendored file, is not what it should be."""


def fetch(package: Package, folder: Path) -> Path:
    """The archive of a package, with the pinned integrity.

    Raises:
        VendorError: the registry gave another archive.
        CalledProcessError: npm did not get it.
    """
    named = f"{package.name}@{package.version}"
    done = subprocess.run(  # noqa: S603
        ["npm", "pack", "--silent", named, "--pack-destination", str(folder)],  # noqa: S607
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    archive = folder / done.stdout.split()[-1]
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != package.integrity:
        raise VendorError(f"{named} has the integrity {digest}, and {package.integrity} is pinned")
    return archive


def unpack(package: Package, archive: Path) -> tuple[dict[str, bytes], str]:
    """The vendored files of a package by their names, and its licence."""
    with tarfile.open(archive) as opened:

        def read(path: str) -> str:
            member = opened.extractfile(f"package/{path}")
            if member is None:
                raise VendorError(f"{package.name} {package.version} has no file {path}")
            return member.read().decode()

        files = {name: adapt(package, name, read(path)) for name, path in package.files.items()}
        return files, read("LICENSE").strip()


def adapt(package: Package, name: str, text: str) -> bytes:
    """A published file as a browser can load it without a build step.

    Raises:
        VendorError: it imports a module that is not vendored.
    """

    def relative(found: re.Match[str]) -> str:
        if found[3] not in MODULES:
            raise VendorError(f"{package.name} imports {found[3]}, which is not vendored")
        return f"{found[1]}{found[2]}{MODULES[found[3]]}{found[2]}"

    text = _SOURCE_MAP.sub("", text)
    if name in package.exports:
        return f"{text.rstrip()}\nexport default {package.exports[name]};\n".encode()
    if name.endswith(".js"):
        text = _IMPORT.sub(relative, text)
    return f"{text.rstrip()}\n".encode()


def refresh() -> None:
    """Write the folder anew: the files, their licences and their sums."""
    files: dict[str, bytes] = {}
    licences = []
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            taken, licence = unpack(package, fetch(package, Path(folder)))
            files.update(taken)
            names = ", ".join(taken)
            licences.append(f"{package.name} {package.version} ({names})\n\n{licence}\n")
    files[LICENCES] = "\n\n".join(licences).encode()
    VENDOR.mkdir(parents=True, exist_ok=True)
    for old in VENDOR.iterdir():
        old.unlink()
    for name, content in files.items():
        (VENDOR / name).write_bytes(content)
    sums = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    (VENDOR / SUMS).write_text("".join(sums), encoding="utf-8")


def check(folder: Path = VENDOR) -> list[str]:
    """What differs between the folder and its sums, a sentence each; empty where nothing does."""
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    told = {name: digest for digest, name in (line.split("  ") for line in lines)}
    expected = {LICENCES, *(name for package in PACKAGES for name in package.files)}
    present = {each.name for each in folder.iterdir()} - {SUMS}
    wrong = [f"{name} has no sum" for name in sorted(expected - told.keys())]
    wrong += [f"{name} is not pinned" for name in sorted((told.keys() | present) - expected)]
    for name in sorted(told):
        if name not in present:
            wrong.append(f"{name} is missing")
        elif hashlib.sha256((folder / name).read_bytes()).hexdigest() != told[name]:
            wrong.append(f"{name} differs from its sum")
    return wrong


def main(arguments: list[str]) -> str | None:
    """Fetch, or check with `--check`; what is wrong, None where nothing is."""
    if arguments == ["--check"]:
        wrong = check()
        return f"{'; '.join(wrong)}: python requirements/vendor.py" if wrong else None
    if arguments:
        return "usage: python requirements/vendor.py [--check]"
    try:
        refresh()
    except VendorError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
