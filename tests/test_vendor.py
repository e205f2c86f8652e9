"""The console is served with the libraries that are pinned, and is small."""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.folders import ROOT

STATIC = ROOT / "service" / "api" / "console" / "static"
# Loaded with the page of the service's status alone.
LATER = {"uplot.js"}
MAX_SHELL_BYTES = 120_000


@pytest.fixture(scope="module")
def vendor() -> ModuleType:
    """The program that fetches and checks them."""
    spec = importlib.util.spec_from_file_location("vendor", ROOT / "requirements" / "vendor.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["vendor"] = module
    spec.loader.exec_module(module)
    return module


def test_the_vendored_files_are_the_ones_with_pinned_sums(vendor: ModuleType) -> None:
    assert vendor.check() == []


def test_a_file_that_differs_is_missing_or_is_too_many_is_named(
    vendor: ModuleType, tmp_path: Path
) -> None:
    folder = shutil.copytree(vendor.VENDOR, tmp_path / "vendor")
    (folder / "htm.js").write_text("export default null;\n")
    (folder / "hooks.js").unlink()
    (folder / "more.js").touch()
    assert vendor.check(folder) == [
        "more.js is not pinned",
        "hooks.js is missing",
        "htm.js differs from its sum",
    ]


def test_a_module_that_imports_what_is_not_vendored_is_refused(vendor: ModuleType) -> None:
    package = vendor.PACKAGES[0]
    kept = vendor.adapt(package, "a.js", 'import{h}from"preact";\n//# sourceMappingURL=a.js.map\n')
    assert kept == b'import{h}from"./preact.js";\n'
    with pytest.raises(vendor.VendorError, match="preact imports react, which is not vendored"):
        vendor.adapt(package, "a.js", 'import{h}from"react"')


def test_the_shell_is_small_when_it_is_compressed() -> None:
    files = [each for each in STATIC.rglob("*") if each.suffix in (".js", ".css", ".html", ".svg")]
    shell = [each for each in files if each.name not in LATER]
    assert sum(len(gzip.compress(each.read_bytes())) for each in shell) < MAX_SHELL_BYTES
