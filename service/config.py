"""Every setting, with its default, unit and meaning; read once, from a file and the environment.

A setting `key` of `[section]` can be overridden by the environment variable
`FACETTE_SECTION_KEY`. `config.toml.example` is generated from the descriptions here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from service.domain.errors import ConfigError

ENVIRONMENT_PREFIX = "FACETTE_"
CONFIG_PATH_VARIABLE = "FACETTE_CONFIG"


def _words(value: object) -> object:
    """Let the environment give a list as words separated by commas."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerConfig(_Section):
    """Where the service listens, and how much it takes on."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on")
    max_body_bytes: int = Field(
        25 * 1024 * 1024, ge=1024, description="largest request body, in bytes"
    )
    max_requests_in_flight: int = Field(
        256,
        ge=1,
        description="requests worked on or waiting at once; beyond it a request is refused "
        "with 429 before its body is read",
    )
    upload_timeout_s: float = Field(
        60.0, gt=0, description="seconds that a request's body may take to arrive"
    )
    shutdown_timeout_s: int = Field(
        30, ge=1, description="seconds that requests in flight get to finish on shutdown"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least serious log line written: debug, info, warning or error"
    )
    log_json: bool = Field(False, description="write log lines as JSON objects")


class AuthConfig(_Section):
    """Who may call."""

    token: str = Field(
        min_length=8,
        description="the secret that every caller sends, as 'Authorization: Bearer <token>' or in "
        "a 'token' header; at least 8 characters",
    )


class PathsConfig(_Section):
    """Where things lie; relative paths start at the configuration file's folder."""

    data_dir: Path = Field(Path("data"), description="folder of the embedded database")
    upload_dir: Path = Field(Path("data/uploads"), description="folder of the stored image files")
    models_dir: Path = Field(Path("models"), description="folder of the exported models")


class DatabaseConfig(_Section):
    """The PostgreSQL server. Leave the whole section out to use the embedded one."""

    host: str = Field("localhost", description="host name, or the folder of a unix socket")
    port: int = Field(5432, ge=1, le=65535, description="TCP port")
    dbname: str = Field("facette", description="database; it needs the pgvector extension")
    user: str = Field("facette", description="role; it owns the tables")
    password: str = Field("", description="the role's password")


class DatabasePoolConfig(_Section):
    """Connections to the database, embedded or not."""

    max_connections: int = Field(8, ge=1, le=1000, description="most connections held at once")
    acquire_timeout_s: float = Field(
        10.0, gt=0, description="seconds to wait for a free connection before answering 503"
    )
    statement_timeout_s: float = Field(30.0, gt=0, description="longest one statement may run")


class DetectionConfig(_Section):
    """What counts as a face. The cascade's defaults are facenet-pytorch's."""

    min_face_size: int = Field(
        20, ge=12, le=4096, description="smallest face looked for, in pixels of the photo"
    )
    thresholds: Annotated[
        tuple[
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
        ],
        BeforeValidator(_words),
    ] = Field((0.6, 0.7, 0.7), description="smallest face probability after P-Net, R-Net and O-Net")
    factor: float = Field(
        0.709, gt=0.1, lt=0.95, description="ratio of neighbouring scales of the image pyramid"
    )
    min_confidence: float = Field(
        0.90, ge=0, le=1, description="smallest final probability of what is stored as a face"
    )
    max_detections: int = Field(
        256, ge=1, description="most faces taken from one photo, the most probable ones"
    )
    max_candidates: int = Field(
        4096, ge=1, description="most boxes that pass from P-Net to R-Net, the most probable ones"
    )


class ImagesConfig(_Section):
    """What is accepted as an image."""

    max_pixels: int = Field(
        32_000_000, ge=1, description="largest width x height, checked before decoding"
    )


class MatchConfig(_Section):
    """When two faces are one person."""

    max_distance: float = Field(
        0.0,
        ge=0,
        le=2,
        description="largest cosine distance at which a face joins a cluster; "
        "0 = what the model's manifest recommends",
    )
    exact_search_max_faces: int = Field(
        20_000,
        ge=0,
        description="tenants with at most so many faces are searched exactly, larger ones through "
        "the HNSW index",
    )
    hnsw_ef_search: int = Field(
        200, ge=1, le=1000, description="candidates the HNSW index keeps while searching"
    )


class InferenceConfig(_Section):
    """How the models run."""

    provider: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes CUDA when ONNX Runtime offers it; cpu or cuda force one"
    )
    workers: int = Field(
        0, ge=0, le=1024, description="threads that decode and run models; 0 = the usable cores"
    )
    intra_op_threads: int = Field(
        1, ge=1, le=1024, description="threads inside one model call; workers x this = cores used"
    )
    max_photos_in_work: int = Field(
        0,
        ge=0,
        description="photos held decoded at once, which bounds memory; 0 = two for each worker",
    )
    max_batch_faces: int = Field(8, ge=1, description="faces in one FaceNet call")
    max_batch_crops: int = Field(128, ge=1, description="crops in one R-Net or O-Net call")


class Config(_Section):
    """The whole configuration; `database` is None for the embedded server."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig
    paths: PathsConfig = PathsConfig()
    database: DatabaseConfig | None = None
    database_pool: DatabasePoolConfig = DatabasePoolConfig()
    detection: DetectionConfig = DetectionConfig()
    images: ImagesConfig = ImagesConfig()
    match: MatchConfig = MatchConfig()
    inference: InferenceConfig = InferenceConfig()


SECTIONS: dict[str, type[_Section]] = {
    "server": ServerConfig,
    "auth": AuthConfig,
    "paths": PathsConfig,
    "database": DatabaseConfig,
    "database_pool": DatabasePoolConfig,
    "detection": DetectionConfig,
    "images": ImagesConfig,
    "match": MatchConfig,
    "inference": InferenceConfig,
}


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file and lay the environment over it.

    Args:
        path: a TOML file; it may be missing when the environment holds the token.
        environment: variables to read, `os.environ` by default.

    Raises:
        ConfigError: a syntax error, an unknown key or a bad value, named with its line.
    """
    environment = os.environ if environment is None else environment
    overrides = _from_environment(environment)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if "token" not in overrides.get("auth", {}):
            raise ConfigError(
                f"{path} does not exist: run `facette init` to create it, or set "
                f"{ENVIRONMENT_PREFIX}AUTH_TOKEN"
            ) from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    for section, settings in overrides.items():
        if not isinstance(values.setdefault(section, {}), dict):
            raise ConfigError(_describe(path, text, (section,), "must be a [section]"))
        values[section].update(settings)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        lines = [_problem(path, text, overrides, problem) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None
    base = path.resolve().parent
    paths = config.paths.model_copy(
        update={name: base / getattr(config.paths, name) for name in PathsConfig.model_fields}
    )
    return config.model_copy(update={"paths": paths})


_EXAMPLE_HEAD = """\
# Facette's settings. A line like "#port = 8000" shows a default: uncomment it to change it.
# The environment overrides the file: FACETTE_SERVER_PORT=8080 is [server] port.
"""


def render_example(token: str) -> str:
    """A configuration file that documents every setting; only the token is set."""
    blocks = [_EXAMPLE_HEAD]
    for name, section in SECTIONS.items():
        # An active [database] section would mean an external server.
        lines = [f"# {section.__doc__}", f"#[{name}]" if name == "database" else f"[{name}]"]
        for key, info in section.model_fields.items():
            required = info.default is PydanticUndefined
            setting = f"{key} = {_toml(token if required else info.default)}"
            lines += [f"# {info.description}", setting if required else f"#{setting}"]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f"{value:_}" if isinstance(value, int) and value >= 100_000 else str(value)


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    known = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section, model in SECTIONS.items()
        for key in model.model_fields
    }
    found: dict[str, dict[str, str]] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_PATH_VARIABLE:
            continue
        if variable not in known:
            raise ConfigError(f"environment variable {variable}: there is no such setting")
        section, key = known[variable]
        found.setdefault(section, {})[key] = value
    return found


def _problem(
    path: Path, text: str, overrides: Mapping[str, Mapping[str, str]], problem: Any
) -> str:
    location = tuple(str(part) for part in problem["loc"])
    message = {
        "extra_forbidden": "there is no such setting",
        "missing": "this setting is required",
    }.get(problem["type"], problem["msg"][:1].lower() + problem["msg"][1:])
    if len(location) > 1 and location[1] in overrides.get(location[0], {}):
        variable = f"{ENVIRONMENT_PREFIX}{location[0]}_{location[1]}".upper()
        return f"environment variable {variable}: {message}"
    return _describe(path, text, location, message)


def _describe(path: Path, text: str, location: tuple[str, ...], message: str) -> str:
    line = _line_of(text, location)
    where = f"{path}, line {line}" if line else str(path)
    name = f"[{location[0]}] {location[1]}" if len(location) > 1 else f"[{location[0]}]"
    return f"{where}: {name}: {message}"


def _line_of(text: str, location: tuple[str, ...]) -> int | None:
    """Line of a key inside its section, or of the section's header; None when neither is there."""
    section = header = None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[\s*([^\]\s]+)\s*\]", line):
            section = match[1].strip("\"'")
            if section == location[0]:
                header = number
        elif match := re.match(r"\s*([\w\"'.-]+?)\s*=", line):
            dotted = match[1].replace('"', "").replace("'", "")
            full = f"{section}.{dotted}" if section else dotted
            if full == ".".join(location[:2]) or (full == location[0] and len(location) == 1):
                return number
    return header
