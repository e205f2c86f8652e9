"""The examples of the client's README, run against a service."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from bench.common.server import TOKEN, ServiceProcess
from tests.support.folders import ROOT

README = ROOT / "clients" / "python" / "README.md"


def test_the_examples_do_what_they_say(
    service: ServiceProcess, folder: Path, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACETTE_URL", service.url)
    monkeypatch.setenv("FACETTE_KEY", TOKEN)
    monkeypatch.chdir(folder)
    text = README.read_text(encoding="utf-8").replace('"family"', f'"{tenant}"')
    examples = doctest.DocTestParser().get_doctest(text, {}, README.name, str(README), 0)
    assert len(examples.examples) > 20
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append)
    assert result.failed == 0, "".join(said)
