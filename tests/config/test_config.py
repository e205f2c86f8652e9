"""Settings: where they come from, and how a mistake in them is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.app.settings import analysis_settings
from service.config import (
    ENVIRONMENT_PREFIX,
    SECTIONS,
    Config,
    load_config,
    render_example,
)
from service.domain.errors import ConfigError
from service.machine.memory import usable_memory_bytes

ROOT = Path(__file__).resolve().parents[2]
TOKEN = '[auth]\ntoken = "a-long-enough-token"\n'
# For each setting that is not a plain number or flag: a value other than its default.
OTHER_VALUES = {
    "match.rejoin": "auto",
    "server.host": "0.0.0.0",
    "server.log_level": "debug",
    "server.cors_origins": "https://app.example, http://localhost:5173",
    "server.trusted_proxies": "10.0.0.0/8, 192.0.2.7/32",
    "auth.token": "another-long-token",
    "auth.master_secret": "a-master-secret-of-40-random-characters",
    "auth.former_master_secret": "another-secret-of-40-random-characters",
    "auth.master_secret_file": "/srv/master-secret.json",
    "audit.destination": "off",
    "paths.data_dir": "/srv/data",
    "paths.upload_dir": "/srv/uploads",
    "paths.models_dir": "/srv/models",
    "blobs.url": "s3://photos/of/people",
    "blobs.endpoint": "https://store.example:9000",
    "blobs.region": "eu-central-1",
    "blobs.access_key_id": "key",
    "blobs.secret_access_key": "s3cret",
    "database.host": "db.example",
    "database.dbname": "people",
    "database.user": "writer",
    "database.password": "s3cret",
    "detection.thresholds": "0.5, 0.6,0.65",
    "server.operations_host": "127.0.0.9",
    "inference.model": "second",
    "inference.precision": "fp32",
    "tracing.endpoint": "http://collector.example:4318/v1/traces",
    "inference.provider": "cpu",
    "inference.screen": "off",
}
# What a setting needs beside it.
NEEDED = {"auth.former_master_secret": {"FACETTE_AUTH_MASTER_SECRET": "x" * 32}}
SETTINGS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def load(path: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path.write_text(text, encoding="utf-8")
    return load_config(path, environment or {})


def problems(path: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, text, environment)
    return str(caught.value).splitlines()


def other_value(section: str, key: str) -> str:
    """A value, as the environment gives it, that is valid and not the default."""
    if (known := OTHER_VALUES.get(f"{section}.{key}")) is not None:
        return known
    default = SECTIONS[section].model_fields[key].default
    if isinstance(default, bool):
        return str(not default).lower()
    if isinstance(default, int):
        return str(default + 1)
    assert isinstance(default, float), f"add a value for {section}.{key} to OTHER_VALUES"
    return str(default / 2 + 0.1)


def test_a_token_is_all_that_a_file_needs(path: Path) -> None:
    config = load(path, TOKEN)
    assert config.auth.token == "a-long-enough-token"
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8000)


def test_without_a_database_section_there_is_no_external_database(path: Path) -> None:
    assert load(path, TOKEN).database is None


def test_an_empty_database_section_means_a_local_server(path: Path) -> None:
    database = load(path, TOKEN + "[database]\n").database
    assert database is not None
    assert (database.host, database.port, database.dbname) == ("localhost", 5432, "facette")


def test_the_file_of_the_proof_of_concept_loads_unchanged(path: Path) -> None:
    config = load(
        path,
        """\
[database]
dbname = "faces"
user = "postgres"
password = "postgres"
host = "localhost"
port = "5432"

[paths]
upload_dir = "uploads"

[auth]
token = "change-this-token"
""",
    )
    assert config.database is not None
    assert config.database.model_dump() == {
        "host": "localhost",
        "port": 5432,
        "dbname": "faces",
        "user": "postgres",
        "password": "postgres",
    }
    assert config.paths.upload_dir == path.parent / "uploads"
    assert config.auth.token == "change-this-token"


def test_the_example_in_the_repository_shows_the_settings_as_they_are() -> None:
    example = (ROOT / "config.toml.example").read_text(encoding="utf-8")
    assert example == render_example("change-me-to-a-long-random-secret")


def test_the_example_changes_nothing_but_the_token(path: Path) -> None:
    assert load(path, render_example("a-long-enough-token")) == load(path, TOKEN)


def test_the_example_names_every_setting() -> None:
    lines = [line.removeprefix("#") for line in render_example("x").splitlines()]
    section, found = "", []
    for line in lines:
        if line.startswith("["):
            section = line.strip("[]")
        elif " = " in line and line.split(" = ")[0].isidentifier():
            found.append((section, line.split(" = ")[0]))
    assert [setting for setting in found if setting in SETTINGS] == SETTINGS


def test_the_database_section_of_the_example_is_valid_once_it_is_active(path: Path) -> None:
    text = render_example("a-long-enough-token")
    config = load(path, text.replace("#[database]", "[database]"))
    assert config.database == load(path, TOKEN + "[database]\n").database


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_every_setting_can_come_from_the_environment(path: Path, section: str, key: str) -> None:
    variable = f"{ENVIRONMENT_PREFIX}{section}_{key}".upper()
    value = other_value(section, key)
    config = load(path, TOKEN, {variable: value, **NEEDED.get(f"{section}.{key}", {})})
    found: Any = getattr(getattr(config, section), key)
    assert found != SECTIONS[section].model_fields[key].default
    if isinstance(found, tuple):
        assert found == tuple(type(found[0])(part.strip()) for part in value.split(","))
    elif isinstance(found, bool):
        assert str(found).lower() == value
    else:
        assert found == type(found)(value)


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_the_environment_goes_before_the_file(path: Path, section: str, key: str) -> None:
    if section == "auth":
        text = TOKEN
    else:
        default = SECTIONS[section].model_fields[key].default
        shown = f'"{default}"' if isinstance(default, str | Path) else str(default).lower()
        text = f"{TOKEN}[{section}]\n{key} = {shown.replace('(', '[').replace(')', ']')}\n"
    before = load(path, text)
    variable = f"{ENVIRONMENT_PREFIX}{section}_{key}".upper()
    needed = NEEDED.get(f"{section}.{key}", {})
    after = load(path, text, {variable: other_value(section, key), **needed})
    assert getattr(getattr(after, section), key) != getattr(getattr(before, section), key)


def test_one_variable_of_the_database_makes_it_external(path: Path) -> None:
    database = load(path, TOKEN, {"FACETTE_DATABASE_HOST": "db"}).database
    assert database is not None
    assert (database.host, database.port) == ("db", 5432)


def test_variables_of_other_programs_are_left_alone(path: Path) -> None:
    environment = {"PATH": "/bin", "PORT": "1", "FACETTES": "3", "FACETTE": "4"}
    assert load(path, TOKEN, environment) == load(path, TOKEN)


def test_the_path_of_the_file_is_no_setting(path: Path) -> None:
    assert load(path, TOKEN, {"FACETTE_CONFIG": "/etc/facette.toml"}) == load(path, TOKEN)


@pytest.mark.parametrize("variable", ["FACETTE_SERVER_PRT", "FACETTE_PORT", "FACETTE_"])
def test_an_unknown_variable_is_an_error(path: Path, variable: str) -> None:
    (problem,) = problems(path, TOKEN, {variable: "1"})
    assert problem == f"environment variable {variable}: there is no such setting"


def test_a_bad_variable_is_named_and_not_the_file(path: Path) -> None:
    (problem,) = problems(path, TOKEN + "[server]\nport = 1\n", {"FACETTE_SERVER_PORT": "high"})
    assert problem.startswith("environment variable FACETTE_SERVER_PORT: ")
    assert str(path) not in problem


def test_a_bad_part_of_a_list_in_a_variable_is_named(path: Path) -> None:
    (problem,) = problems(path, TOKEN, {"FACETTE_DETECTION_THRESHOLDS": "0.6,2,0.7"})
    assert problem.startswith("environment variable FACETTE_DETECTION_THRESHOLDS: ")


def test_a_good_variable_replaces_a_bad_value_of_the_file(path: Path) -> None:
    config = load(path, TOKEN + "[server]\nport = 0\n", {"FACETTE_SERVER_PORT": "81"})
    assert config.server.port == 81


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        ("prt = 8000", "[server] prt"),  # unknown
        ("port = 0", "[server] port"),  # out of range
        ("port = 70000", "[server] port"),
        ('port = "http"', "[server] port"),  # wrong type
        ("port = 80.5", "[server] port"),
        ("port = [80]", "[server] port"),
        ('log_level = "verbose"', "[server] log_level"),
        ("log_json = 7", "[server] log_json"),
        ("host = 127", "[server] host"),
        ('"port" = 0', "[server] port"),
        ("  port=0", "[server] port"),
    ],
)
def test_a_mistake_is_named_with_setting_and_line(path: Path, line: str, setting: str) -> None:
    (problem,) = problems(path, f"# a comment\n{TOKEN}\n[server]\n# another\n{line}\n")
    assert problem.startswith(f"{path}, line 7: {setting}: ")


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("[detection]\nthresholds = [0.6, 0.7]", "[detection] thresholds"),
        ("[detection]\nthresholds = [0.6, 0.7, 1.5]", "[detection] thresholds"),
        ("[match]\nmax_distance = nan", "[match] max_distance"),
        ("[match]\nmax_distance = inf", "[match] max_distance"),
        ("[match]\nmax_fmr = nan", "[match] max_fmr"),
        ("[match]\nmax_fmr = 1.0", "[match] max_fmr"),
        ("[match]\nmax_wrong_joins = 1.0", "[match] max_wrong_joins"),
        ("[match]\nmax_wrong_joins = -0.01", "[match] max_wrong_joins"),
        ("[quality]\nmin_for_matching = 1.01", "[quality] min_for_matching"),
        ('[inference]\nmodel = ""', "[inference] model"),
        ('[server]\ncors_origins = ["https://app.example/"]', "[server] cors_origins"),
        ('[server]\ncors_origins = ["https://*.example"]', "[server] cors_origins"),
        ('[server]\ncors_origins = ["https://App.example"]', "[server] cors_origins"),
        ('[server]\ncors_origins = ["app.example"]', "[server] cors_origins"),
        ('[server]\ncors_origins = ["null"]', "[server] cors_origins"),
    ],
)
def test_values_without_sense_are_refused(path: Path, text: str, setting: str) -> None:
    assert all(
        problem.startswith(f"{path}, line 4: {setting}: ")
        for problem in problems(path, f"{TOKEN}{text}\n")
    )


def test_a_key_of_the_same_name_in_another_section_is_not_blamed(path: Path) -> None:
    text = f"{TOKEN}[database]\nport = 5432\n[server]\nport = 0\n"
    (problem,) = problems(path, text)
    assert problem.startswith(f"{path}, line 6: [server] port: ")


def test_an_unknown_section_is_named_with_its_line(path: Path) -> None:
    (problem,) = problems(path, f"{TOKEN}\n[sever]\nport = 1\n")
    assert problem == f"{path}, line 4: [sever]: there is no such setting"


def test_a_setting_outside_its_section_is_named_with_its_line(path: Path) -> None:
    (problem,) = problems(path, f"port = 1\n{TOKEN}")
    assert problem == f"{path}, line 1: [port]: there is no such setting"


@pytest.mark.parametrize("environment", [{}, {"FACETTE_SERVER_PORT": "80"}])
def test_a_value_in_place_of_a_section_is_named_with_its_line(
    path: Path, environment: dict[str, str]
) -> None:
    (problem,) = problems(path, f"server = 8000\n{TOKEN}", environment)
    assert problem.startswith(f"{path}, line 1: [server]: ")


def test_all_problems_are_listed(path: Path) -> None:
    text = '[auth]\ntoken = "short"\n[server]\nport = 0\nprt = 1\n[sever]\n'
    found = problems(path, text, {"FACETTE_MATCH_MAX_DISTANCE": "3"})
    assert [problem.rsplit(": ", 1)[0] for problem in found if "line" in problem] == [
        f"{path}, line 4: [server] port",
        f"{path}, line 5: [server] prt",
        f"{path}, line 2: [auth] token",
        f"{path}, line 6: [sever]",
    ]
    assert sum("FACETTE_MATCH_MAX_DISTANCE" in problem for problem in found) == 1
    assert len(found) == 5


@pytest.mark.parametrize(
    ("text", "where"),
    [("", ""), ("[server]\nport = 1\n", ""), ("[auth]\n", ", line 1")],
)
def test_a_missing_token_is_asked_for(path: Path, text: str, where: str) -> None:
    (problem,) = problems(path, text)
    assert problem.startswith(f"{path}{where}: [auth]")
    assert problem.endswith(": this setting is required")


def test_a_problem_never_shows_the_token(path: Path) -> None:
    found = problems(path, '[auth]\ntoken = "hunter2"\n[database]\npassword = 7331\n')
    assert len(found) == 2
    assert not any("hunter2" in problem or "7331" in problem for problem in found)


def test_a_syntax_error_is_named_with_its_line(path: Path) -> None:
    (problem,) = problems(path, f"{TOKEN}[server]\nport = = 1\n")
    assert problem.startswith(f"{path}: ")
    assert "line 4" in problem


def test_a_file_that_is_no_text_cannot_be_read(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00token")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path, {})


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, {})


def test_a_missing_file_says_what_to_do(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)
    assert "facette init" in str(caught.value)
    assert "FACETTE_AUTH_TOKEN" in str(caught.value)


def test_the_environment_alone_is_enough(path: Path) -> None:
    config = load_config(path, {"FACETTE_AUTH_TOKEN": "a-long-enough-token"})
    assert config == load(path, TOKEN)


def test_the_process_environment_is_read_by_default(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(TOKEN)
    monkeypatch.setenv("FACETTE_SERVER_PORT", "8123")
    assert load_config(path).server.port == 8123


def test_relative_paths_start_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "config.toml").write_text(TOKEN + '[paths]\ndata_dir = "../var"\n')
    monkeypatch.chdir(tmp_path)
    paths = load_config(Path("etc/config.toml"), {}).paths
    assert paths.data_dir.resolve() == tmp_path / "var"
    assert paths.upload_dir == folder / "data" / "uploads"
    assert paths.models_dir == folder / "models"


def test_absolute_paths_stay_where_they_are(path: Path) -> None:
    paths = load(path, TOKEN + '[paths]\nupload_dir = "/srv/uploads"\n').paths
    assert paths.upload_dir == Path("/srv/uploads")


def test_a_loaded_configuration_cannot_be_changed(path: Path) -> None:
    config = load(path, TOKEN)
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "url", ["s3://", "https://photos", "s3://a/b//c", "s3://UPPER", "s3://a b"]
)
def test_bucket_that_is_none_is_named(path: Path, url: str) -> None:
    (problem,) = problems(path, TOKEN + f'[blobs]\nurl = "{url}"\n')
    assert "line 4: [blobs] url: " in problem
    assert "must be s3://bucket or s3://bucket/prefix, or empty" in problem


def test_secret_of_the_bucket_is_not_shown(path: Path) -> None:
    config = load(path, TOKEN + '[blobs]\nsecret_access_key = "s3cret-of-the-bucket"\n')
    assert config.blobs.secret_access_key == "s3cret-of-the-bucket"
    assert "s3cret-of-the-bucket" not in repr(config) + str(config.blobs)


def test_memory_for_decoded_photos_is_shared_by_the_processes(path: Path) -> None:
    given = load(path, TOKEN + "[inference]\nmax_decoded_mb = 300\n[server]\nprocesses = 3\n")
    assert analysis_settings(given).max_decoded_bytes == 100 * 2**20


@pytest.mark.parametrize(("workers", "wanted_mb"), [(1, 512), (2, 512), (4, 768)])
def test_memory_for_decoded_photos_grows_with_the_workers(
    path: Path, workers: int, wanted_mb: int
) -> None:
    settings = analysis_settings(load(path, TOKEN + f"[inference]\nworkers = {workers}\n"))
    wanted = min(wanted_mb * 2**20, usable_memory_bytes() // 4)
    assert settings.max_decoded_bytes == wanted
    limits = settings.decoding
    assert limits.max_decoded_bytes <= 512 * 2**20


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} ", "\t{}\n\n", "{}\u00a0"])
@pytest.mark.parametrize("from_file", [True, False])
def test_white_space_around_a_value_is_removed(path: Path, around: str, from_file: bool) -> None:
    """A secret store or a file leaves it there, and no header, host or key can have it."""
    values = {
        "auth.token": "a-long-enough-token",
        "server.host": "0.0.0.0",
        "server.log_level": "debug",
        "blobs.endpoint": "https://store.example",
        "blobs.secret_access_key": "s3cret",
        "database.host": "db.example",
    }
    written = {name: around.format(value) for name, value in values.items()}
    if from_file:
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in written.items()]
        config = load(path, "".join(lines))
    else:
        names = {name: f"FACETTE_{name.replace('.', '_').upper()}" for name in written}
        config = load(path, "", {names[name]: value for name, value in written.items()})
    for name, value in values.items():
        section, _, key = name.partition(".")
        assert getattr(getattr(config, section), key) == value


@pytest.mark.parametrize("name", ["database.password", "database.user", "paths.upload_dir"])
def test_blanks_at_the_ends_are_kept_where_they_are_legal(path: Path, name: str) -> None:
    section, _, key = name.partition(".")
    config = load(path, TOKEN, {f"FACETTE_{section}_{key}".upper(): " two words \n"})
    assert str(getattr(getattr(config, section), key)).removeprefix(f"{path.parent}/") == (
        " two words "
    )


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("AUTH_TOKEN", " " * 12, "at least 8 characters"),
        ("AUTH_TOKEN", "short  \n", "at least 8 characters"),
        ("AUTH_TOKEN", "пароль-token", "must have printable ASCII characters only"),
        ("AUTH_TOKEN", "two\nlines-of-a-token", "must not have control characters"),
        ("AUTH_TOKEN", "a-token-with-\x7f", "must not have control characters"),
        ("SERVER_HOST", "", "at least 1 character"),
        ("DATABASE_HOST", " ", "at least 1 character"),
        ("DATABASE_PASSWORD", "one\ntwo", "must not have control characters"),
        ("BLOBS_ACCESS_KEY_ID", "one\ttwo", "must not have control characters"),
        ("PATHS_DATA_DIR", "", "must not be empty"),
        ("PATHS_DATA_DIR", "one\ntwo", "must not have control characters"),
    ],
)
def test_a_value_that_cannot_work_is_refused_in_one_line(
    path: Path, name: str, value: str, reason: str
) -> None:
    (problem,) = problems(path, TOKEN, {f"FACETTE_{name}": value})
    assert problem.startswith(f"environment variable FACETTE_{name}: ")
    assert reason in problem


def test_a_relative_path_in_a_removed_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the working folder does not exist any more"):
        load_config(Path("config.toml"), {"FACETTE_AUTH_TOKEN": "a-long-enough-token"})
