"""The documents and container files say what the code does."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from export.embedders import records
from export.embedders.curves import Curve
from service import __version__, cli
from service.api import errors as api_errors
from service.api import legacy
from service.api.routes import build_routes
from service.config import (
    CONFIG_PATH_VARIABLE,
    ENVIRONMENT_PREFIX,
    SECTIONS,
    AuthConfig,
    Config,
    render_example,
)
from service.domain.errors import (
    ArchiveError,
    ConfigError,
    FacetteError,
    ForeignBlobsError,
    LostFacesError,
    MissingParameterError,
    ModelError,
    ProviderError,
    TenantExistsError,
    WithdrawnError,
)
from service.domain.types import (
    Box,
    Detection,
    EmbeddedFace,
    FaceQuality,
    FacialArea,
    NewFace,
)
from service.runtime.manifest import EmbeddingFacts, FaceCrop
from service.runtime.matching import match_rule

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *("docs/matching.md", "docs/search.md", "docs/security.md", "models/README.md"),
)
SECRETS = ("FACETTE_AUTH_TOKEN", "POSTGRES_PASSWORD")

# Raised while the service starts or the command line runs, when no request is open, or after the
# caller hung up, when nobody is there to be answered.
NEVER_ANSWERED = {
    ArchiveError,
    ConfigError,
    ForeignBlobsError,
    LostFacesError,
    ModelError,
    ProviderError,
    TenantExistsError,
    WithdrawnError,
}
VARIABLES = {
    f"{ENVIRONMENT_PREFIX}{section}_{key}".upper()
    for section, model in SECTIONS.items()
    for key in model.model_fields
}
# What a document may name that is no setting: the file's place, and the pattern of all names.
OTHER_VARIABLES = {CONFIG_PATH_VARIABLE, "FACETTE_SECTION_KEY"}
FILE_SUFFIXES = {"toml", "conf", "py", "md", "yml", "json", "csv", "onnx", "pt", "sql", "svg"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_in(name: str) -> list[str]:
    """Inline code, fenced blocks and indented blocks of a document."""
    text = text_of(name)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"^ {4,}(\S.*)$", rest, re.MULTILINE) + inline_code_in(name)


def inline_code_in(name: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", text_of(name), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def rows_in_readme(pattern: str) -> list[tuple[str, ...]]:
    found = re.findall(pattern, text_of("README.md"), re.MULTILINE)
    assert found, f"README.md has no table row like {pattern}"
    assert len(found) == len(set(found)), "a row stands twice"
    return found


def test_readme_lists_exactly_the_routes_that_are_served() -> None:
    served = {
        (method, route.path)
        for route in build_routes(lambda: None)  # type: ignore[arg-type, return-value]
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert set(rows_in_readme(r"^\| `(GET|POST|PUT|PATCH|DELETE) (/\S+)` \|")) == served


def test_readme_lists_exactly_the_errors_that_a_caller_can_get() -> None:
    expected = {(str(status), kind.code) for kind, status in answered_errors()}
    assert set(rows_in_readme(r"^\| (\d{3}) \| `(\w+)` \|")) == expected


def answered_errors() -> Iterator[tuple[type[FacetteError], int]]:
    """Every error class that some line of the service raises at a request, with its status."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "service").rglob("*.py"))
    for kind in (FacetteError, *descendants(FacetteError)):
        if kind not in NEVER_ANSWERED and re.search(
            rf"raise {kind.__name__}\b|(?<!class )\b{kind.__name__}\(", source
        ):
            yield kind, api_errors.status_of(kind.__new__(kind))


def descendants(kind: type[FacetteError]) -> Iterator[type[FacetteError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("service."):
            yield child
            yield from descendants(child)


def test_readme_shows_the_line_that_the_service_prints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / ".venv" / "bin" / "facette"
    program.parent.mkdir(parents=True)
    program.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program)])
    config = Config(auth=AuthConfig(token="a-long-enough-token"))
    greeting = cli._greeting(Path("config.toml"), config, "127.0.0.1", config.server.port)
    (line,) = re.findall(r"^ +(curl .*)$", greeting, re.MULTILINE)
    assert f"    {line}\n" in text_of("README.md")


def test_example_answer_in_readme_has_the_fields_of_a_real_one() -> None:
    examples = re.findall(r"^```json\n(.*?)^```", text_of("README.md"), re.MULTILINE | re.DOTALL)
    answer, error = (json.loads(example) for example in examples)
    detection = Detection(Box(0, 0, 1, 1), ((0.0, 0.0),) * 5, 1.0)
    quality = FaceQuality(1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0)
    embedded = EmbeddedFace(detection, np.zeros(512, dtype=np.float32), quality)
    face = NewFace("f", "c", embedded, FacialArea(0, 0, 1, 1), False, None, True)  # type: ignore[arg-type]
    assert set(answer) == fields_of(legacy.insert_image)
    (shown,) = answer["faces"]
    assert shape_of(shown) == shape_of(legacy._new_face(face))
    assert answer["face_ids"] == {shown["face_id"]: shown["cluster_id"]}
    real = api_errors.error_response(MissingParameterError("tenant_id"))
    assert json.loads(bytes(real.body)) == error


def fields_of(handler: Callable[..., object]) -> set[str]:
    """Of the JSON object that a handler answers with: the keys that stand furthest left."""
    source = textwrap.dedent(inspect.getsource(handler))
    keys = [(len(indent), key) for indent, key in re.findall(r'^( *)"(\w+)": ', source, re.M)]
    return {key for indent, key in keys if indent == min(keys)[0]}


def shape_of(value: object) -> object:
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    return [shape_of(item) for item in value] if isinstance(value, list | tuple) else ()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    named = {name for code in code_in(document) for name in re.findall(r"\bmake ([a-z]+)", code)}
    assert named
    assert named <= targets


@pytest.mark.parametrize("document", ["README.md", "models/README.md"])
def test_every_facette_command_named_exists(document: str) -> None:
    calls = {
        (command, *re.findall(r"(?<!\S)--[a-z-]+", rest))
        for code in code_in(document)
        for command, rest in re.findall(r"(?:^|[/\s(])facette ([a-z]+(?:-[a-z]+)*)([^)#\n]*)", code)
    }
    assert calls
    for command, *options in calls:
        shown = subprocess.run(
            [sys.executable, "-m", "service.cli", command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0, f"facette {command}: {shown.stderr}"
        for option in options:
            assert option in shown.stdout, f"facette {command} has no {option}"


def test_every_setting_named_in_a_document_exists() -> None:
    dotted = [
        (section, key)
        for document in DOCUMENTS
        for code in inline_code_in(document)
        for section, key in re.findall(r"^([a-z_]+)\.([a-z_]+)$", code)
        if key not in FILE_SUFFIXES and f"{section}.{key}" not in {"embedding.space"}
    ]
    assert dotted
    unknown = [
        f"{section}.{key}"
        for section, key in dotted
        if section not in SECTIONS or key not in SECTIONS[section].model_fields
    ]
    assert not unknown
    sections = [
        name for code in inline_code_in("README.md") for name in re.findall(r"^\[(\w+)\]$", code)
    ]
    assert sections
    assert set(sections) <= set(SECTIONS)


def test_defaults_in_readme_are_the_real_ones() -> None:
    for section, key, shown in rows_in_readme(r"^\| `(\w+)\.(\w+)` \| ([^|]+?) \|"):
        default = SECTIONS[section].model_fields[key].default
        default = str(default) if isinstance(default, Path) else default
        assert tomllib.loads(f"value = {shown}")["value"] == default, f"{section}.{key}"


def recorded(space: str) -> Curve:
    """What the export has recorded of a space, and puts into the manifest."""
    found = records.read_all(ROOT / "export" / "curves", Curve)
    (curve,) = (each for each in found if re.fullmatch(space, each.space))
    return curve


FACENET = r"inception-resnet-v1/casia-webface/\w+/box1\.2-centred-\w+"


def test_chances_in_readme_are_those_the_export_recommends() -> None:
    text = " ".join(text_of("README.md").split())
    shown = re.findall(
        r"by default the chance is ([\d.]+) % for FaceNet, ([\d.]+) % for SFace", text
    )
    recommended = tuple(
        f"{100 * recorded(space).recommended_max_wrong_joins:g}"
        for space in (FACENET, r"mobilenet-v1/sface-.*")
    )
    assert shown == [recommended]


def test_distances_in_readme_are_those_of_the_curve_and_the_chance() -> None:
    curve = recorded(FACENET)
    facts = EmbeddingFacts(
        dimension=512,
        metric="cosine",
        crop=FaceCrop(kind="box", size=160),
        **{key: value for key, value in curve if key in EmbeddingFacts.model_fields},
    )
    limit = match_rule(facts).limit
    text = " ".join(text_of("README.md").split())
    shown = re.findall(
        r"from (0\.\d+) with one person to (0\.\d+) with 1,000 and (0\.\d+) with 10,000", text
    )
    assert shown == [tuple(f"{limit.at(people):.3f}" for people in (1, 1_000, 10_000))]


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", "docker-compose.yml", "Dockerfile"]
)
def test_every_environment_variable_named_is_a_setting(file: str) -> None:
    named = set(re.findall(rf"\b{ENVIRONMENT_PREFIX}[A-Z_]*[A-Z]", text_of(file)))
    assert named or file == "CONTRIBUTING.md"
    assert named <= VARIABLES | OTHER_VARIABLES


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    here = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = here / path if path else ROOT / document
        assert linked.is_file(), f"{document} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in anchors, f"{document} links to {target}"


def test_every_path_named_in_contributing_exists() -> None:
    named = [
        code
        for code in inline_code_in("CONTRIBUTING.md")
        if re.fullmatch(r"(service|export|bench|tests)(/[\w.]+)*/?", code) and "NNNN" not in code
    ]
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_configuration_example_is_the_rendered_one() -> None:
    (token,) = re.findall(r"render_example as r; print\(r\('([^']+)'\)", text_of("CONTRIBUTING.md"))
    assert render_example(token) == text_of("config.toml.example")


def test_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[(\S+)\]", text_of("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == __version__


def test_licence_is_complete() -> None:
    text = text_of("LICENSE")
    assert re.findall(r"^   (\d+)\. ", text, re.MULTILINE) == [str(n) for n in range(1, 10)]
    assert text.index("END OF TERMS AND CONDITIONS") < text.index("APPENDIX: How to apply")


@pytest.mark.parametrize("secret", SECRETS)
def test_compose_file_has_no_default_secret(secret: str) -> None:
    uses = re.findall(rf"\$\{{?{secret}(\S*)", text_of("docker-compose.yml"))
    assert uses
    assert all(use.startswith(":?") for use in uses)


def test_compose_file_is_valid_with_the_secrets() -> None:
    checked = compose_config(dict.fromkeys(SECRETS, "a-secret-for-tests"))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("missing", SECRETS)
def test_compose_file_is_refused_without_a_secret(missing: str) -> None:
    given = {name: "a-secret-for-tests" for name in SECRETS if name != missing}
    checked = compose_config(given)
    assert checked.returncode != 0
    assert missing in checked.stderr


def compose_config(secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        found = subprocess.run(["docker", "compose", "version"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("docker is not installed")
    if found.returncode != 0:
        pytest.skip("docker has no compose plugin here")
    return subprocess.run(
        # No .env file of this checkout may stand in for a missing secret.
        ["docker", "compose", "--env-file", os.devnull, "config", "--quiet"],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k not in SECRETS}, **secrets},
        capture_output=True,
        text=True,
    )


def test_image_starts_with_a_command_that_exists() -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text_of("Dockerfile"), re.MULTILINE)
    program, *arguments = json.loads(entry)
    assert program == "facette"
    options = cli._parser().parse_args(arguments)
    assert options.run is cli._serve
    assert f"EXPOSE {options.port}\n" in text_of("Dockerfile")
