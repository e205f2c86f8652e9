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
from typing import Any

import numpy as np
import pytest

from export.embedders import records
from export.embedders.curves import Curve
from service import __version__
from service.api import errors as api_errors
from service.api import legacy
from service.api.contract.pages import PAGES
from service.api.error_table import WHEN, entries
from service.api.flat import FLAT_OPERATIONS
from service.api.operations import PROBES
from service.api.v1.operations import OPERATIONS
from service.cli import serving
from service.cli.program import program as facette_program
from service.config import (
    CLIENT_VARIABLES,
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
from tests.support import errors_page, operations_page, settings_page
from tests.support.command import facette

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
    *("bench/README.md", "models/README.md"),
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
OTHER_VARIABLES = {CONFIG_PATH_VARIABLE, *CLIENT_VARIABLES, "FACETTE_SECTION_KEY"}
# Dotted names that are no settings: a field of the manifest, attributes of spans, packages, a call.
NO_SETTINGS = {
    *("embedding.space", "facette.request_id", "facette.error_code"),
    *("service.store", "gc.freeze", "torch.set_num_threads"),
    *("review.answered", "person.rejoined", "tenant.calibrated"),
}
# A command, or one of the groups `keys` and `people`, and the rest of its line.
_COMMAND = re.compile(r"(?:^|[/\s(])facette ((?:keys|people) [a-z-]+|[a-z]+(?:-[a-z]+)*)([^)#\n]*)")
FILE_SUFFIXES = {
    "toml",
    "conf",
    "py",
    "md",
    "yml",
    "json",
    "csv",
    "onnx",
    "pt",
    "sql",
    "svg",
    "env",
}


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


def rows_of(document: str, pattern: str) -> list[tuple[str, ...]]:
    found = re.findall(pattern, text_of(document), re.MULTILINE)
    assert found, f"{document} has no line like {pattern}"
    assert len(found) == len(set(found)), f"{document} has a line twice"
    return found


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ("README.md", r"^\| `(GET|POST|PUT|PATCH|DELETE) (/\S+)` \|"),
        ("docs/api.md", r"^### `(GET|POST|PUT|PATCH|DELETE) (/\S+)`$"),
    ],
)
def test_page_describes_exactly_the_routes_beside_the_product_api(document: str, line: str) -> None:
    described = {(each.method, each.path) for each in FLAT_OPERATIONS}
    described |= {("GET", each.path) for each in PROBES}
    assert set(rows_of(document, line)) == described


def test_page_of_the_api_lists_exactly_the_operations_of_the_contract() -> None:
    page = operations_page.PAGE.read_text(encoding="utf-8")
    assert operations_page.render(page) == page, "run python -m tests.support.operations_page"
    listed = {
        (method, path, scope)
        for method, path, scope in rows_of("docs/api.md", r"^\| `([A-Z]+) (/\S*)` \| (\w*) \|")
    }
    assert {row for row in listed if row[2]} == {
        (each.method, each.path, str(each.scope)) for each in OPERATIONS
    }
    assert {row for row in listed if not row[2]} == {("GET", each.path, "") for each in PAGES}


def test_page_of_errors_is_the_rendered_one() -> None:
    page = errors_page.PAGE.read_text(encoding="utf-8")
    assert errors_page.render(page) == page, "run python -m tests.support.errors_page"


def test_table_of_errors_has_exactly_those_that_a_caller_can_get() -> None:
    expected = {(status, kind.code) for kind, status in answered_errors()}
    assert {(each.status, each.code) for each in entries(WHEN)} == expected
    shown = rows_of("docs/errors.md", r"^\| (\d{3}) \| `(\w+)` \|")
    assert {(int(status), code) for status, code in shown} == expected


def answered_errors() -> Iterator[tuple[type[FacetteError], int]]:
    """Every error class that some line of the service raises at a request, with its status."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "service").rglob("*.py"))
    for kind in (FacetteError, *descendants(FacetteError)):
        if kind not in NEVER_ANSWERED and re.search(
            rf"raise {kind.__name__}\b|(?<!class )\b{kind.__name__}\(", source
        ):
            yield kind, api_errors.status_of_kind(kind)


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
    greeting = serving.greeting(Path("config.toml"), config, "127.0.0.1", config.server.port)
    (line,) = re.findall(r"^ +(curl .*)$", greeting, re.MULTILINE)
    assert f"    {line}\n" in text_of("README.md")


def test_example_answer_has_the_fields_of_a_real_one() -> None:
    (answer,) = json_examples("docs/api.md")
    detection = Detection(Box(0, 0, 1, 1), ((0.0, 0.0),) * 5, 1.0)
    quality = FaceQuality(1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0)
    embedded = EmbeddedFace(detection, np.zeros(512, dtype=np.float32), quality)
    face = NewFace("f", "c", embedded, FacialArea(0, 0, 1, 1), False, None, True)  # type: ignore[arg-type]
    assert set(answer) == fields_of(legacy.insert_image)
    (shown,) = answer["faces"]
    assert shape_of(shown) == shape_of(legacy._new_face(face))
    assert answer["face_ids"] == {shown["face_id"]: shown["cluster_id"]}


def test_short_answer_in_readme_is_the_full_one_without_the_faces() -> None:
    (short,), (full,) = json_examples("README.md"), json_examples("docs/api.md")
    assert short == {key: value for key, value in full.items() if key != "faces"}


def test_example_errors_are_real_ones() -> None:
    problem, error = json_examples("docs/errors.md")
    real = api_errors.error_response(MissingParameterError("tenant_id"))
    assert json.loads(bytes(real.body)) == error
    missing, request_id = MissingParameterError("image"), problem["request_id"]
    real = api_errors.error_response(missing, problem_of=request_id)
    assert json.loads(bytes(real.body)) == problem


def json_examples(document: str) -> list[dict[str, Any]]:
    found = re.findall(r"^```json\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)
    return [json.loads(example) for example in found]


def fields_of(handler: Callable[..., object]) -> set[str]:
    """Of the JSON object that a handler answers with: the keys that stand furthest left."""
    source = textwrap.dedent(inspect.getsource(handler))
    keys = [(len(indent), key) for indent, key in re.findall(r'^( *)"(\w+)": ', source, re.M)]
    return {key for indent, key in keys if indent == min(keys)[0]}


def shape_of(value: object) -> object:
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    return [shape_of(item) for item in value] if isinstance(value, list | tuple) else ()


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", "docs/operations.md", "docs/figures.md", "bench/README.md"],
)
def test_every_make_target_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = {name for code in code_in(document) for name in re.findall(r"\bmake ([a-z-]+)", code)}
    assert named
    assert named <= targets


@pytest.mark.parametrize(
    "document", ["README.md", "docs/operations.md", "docs/commandline.md", "models/README.md"]
)
def test_every_facette_command_named_exists(document: str) -> None:
    calls = {
        (command, *re.findall(r"(?<!\S)--[a-z-]+", rest))
        for code in code_in(document)
        for command, rest in _COMMAND.findall(code)
    }
    assert calls
    for command, *options in calls:
        shown = facette(ROOT, *command.split(), "--help")
        assert shown.returncode == 0, f"facette {command}: {shown.stderr}"
        for option in options:
            assert option in shown.stdout, f"facette {command} has no {option}"


def test_every_setting_named_in_a_document_exists() -> None:
    dotted = [
        (section, key)
        for document in DOCUMENTS
        for code in inline_code_in(document)
        for section, key in re.findall(r"^([a-z_]+)\.([a-z_]+)$", code)
        if key not in FILE_SUFFIXES and f"{section}.{key}" not in NO_SETTINGS
    ]
    assert dotted
    unknown = [
        f"{section}.{key}"
        for section, key in dotted
        if section not in SECTIONS or key not in SECTIONS[section].model_fields
    ]
    assert not unknown
    sections = [
        name
        for document in DOCUMENTS
        if document != "CHANGELOG.md"  # which names sections of former releases
        for code in inline_code_in(document)
        for name in re.findall(r"^\[(\w+)\]$", code)
    ]
    assert sections
    assert set(sections) <= set(SECTIONS)


def test_page_of_settings_is_the_rendered_one() -> None:
    page = settings_page.PAGE.read_text(encoding="utf-8")
    assert settings_page.render(page) == page, "run python -m tests.support.settings_page"
    shown = rows_of("docs/configuration.md", r"^\| `(\w+)\.(\w+)` \| ([^|]+?) \|")
    assert {(section, key) for section, key, _ in shown} == {
        (section, key) for section, model in SECTIONS.items() for key in model.model_fields
    }
    for section, key, default in shown:
        if default != "required":
            expected = json.loads(
                json.dumps(SECTIONS[section].model_fields[key].default, default=str)
            )
            assert tomllib.loads(f"value = {default}")["value"] == expected, f"{section}.{key}"


def recorded(space: str) -> Curve:
    """What the export has recorded of a space, and puts into the manifest."""
    found = records.read_all(ROOT / "export" / "curves", Curve)
    (curve,) = (each for each in found if re.fullmatch(space, each.space))
    return curve


@pytest.mark.parametrize(
    ("name", "space", "dimension"),
    [
        ("FaceNet", r"inception-resnet-v1/casia-webface/\w+/box1\.2-centred-\w+", 512),
        ("SFace", r"mobilenet-v1/sface-.*", 128),
    ],
)
def test_chance_and_distances_shown_are_those_the_service_uses(
    name: str, space: str, dimension: int
) -> None:
    curve = recorded(space)
    facts = EmbeddingFacts(
        dimension=dimension,
        metric="cosine",
        crop=FaceCrop(kind="box", size=160),
        **{key: value for key, value in curve if key in EmbeddingFacts.model_fields},
    )
    limit = match_rule(facts).limit
    (cells,) = rows_of("docs/matching.md", rf"^\| {name} \| [\d,]+ \| ([\d.%]+), \S+ \| (.*) \|$")
    chance, rest = cells
    assert chance == f"{curve.recommended_max_wrong_joins:.2%}"
    shown = [cell.split(", ")[0] for cell in rest.split(" | ")]
    assert shown == [f"{limit.at(people):.3f}" for people in (10, 1_000, 100_000)]


@pytest.mark.parametrize(
    "file",
    [
        *("CONTRIBUTING.md", "docs/configuration.md", "docs/operations.md"),
        *("docker-compose.yml", "Dockerfile", "deploy/systemd/facette.env"),
    ],
)
def test_every_environment_variable_named_is_a_setting(file: str) -> None:
    named = set(re.findall(rf"\b{ENVIRONMENT_PREFIX}[A-Z_]*[A-Z]", text_of(file)))
    assert named or file == "CONTRIBUTING.md"
    assert named <= VARIABLES | OTHER_VARIABLES


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    here = (ROOT / document).parent
    text = re.sub(r"^```.*?^```", "", text_of(document), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
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
        if re.fullmatch(r"(service|export|bench|tests|docs|requirements)(/[\w.]+)*/?", code)
    ]
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("subject", "file", "defined"),
    [
        ("the matching rule", "service/domain/matching.py", "class MatchRule"),
        ("`server.max_body_bytes`", "service/config/sections.py", "max_body_bytes: int"),
        ("body limit is enforced", "service/api/boundary.py", "raise BodyTooLargeError"),
        ("the S3 client", "service/store/blob/s3.py", "class S3"),
        ("a metric", "service/telemetry/metrics.py", "class Metrics"),
        ("`detection.thresholds`", "service/config/sections.py", "thresholds: Annotated"),
    ],
)
def test_table_of_places_leads_to_the_definition(subject: str, file: str, defined: str) -> None:
    text = text_of("CONTRIBUTING.md")
    table = text[text.index("## Where to change what") : text.index("## Words")]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    (places,) = (places for wanted, places in rows if subject in wanted)
    assert f"`{file}`" in places
    assert defined in text_of(file)


def test_example_of_a_change_names_things_that_are_where_it_says() -> None:
    text = text_of("CONTRIBUTING.md")
    named = re.findall(r"`(\w+)`\s+(?:of|in|to `\w+` in)\s+`([\w/]+\.(?:py|sql))`", text)
    assert len(named) >= 8
    assert [(name, file) for name, file in named if name not in text_of(file)] == []


def test_glossary_is_short_and_sorted_out() -> None:
    text = text_of("CONTRIBUTING.md")
    glossary = text[text.index("## Words") : text.index("## Style")]
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", glossary, re.MULTILINE)[2:]
    assert 10 <= len(words) == len(set(words)) <= 25


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
    command, bound, _ = facette_program.parse_args(arguments, exit_on_error=False)
    assert command is serving.serve
    assert f"EXPOSE {bound.arguments['port']}\n" in text_of("Dockerfile")
