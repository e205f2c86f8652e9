"""Reads a configuration from a file and the environment, and names what is wrong with it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.config.sections import AUDIT_WORDS, SECTIONS, Config, PathsConfig
from service.domain.errors import ConfigError

ENVIRONMENT_PREFIX = "FACETTE_"
CONFIG_PATH_VARIABLE = "FACETTE_CONFIG"
CLIENT_VARIABLES = ("FACETTE_URL", "FACETTE_KEY")
"""Where a client finds a service, and what it shows there: nothing that a service is set by."""


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
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be read: {reason}") from error
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
    try:
        base = path.resolve().parent
    except OSError as error:
        raise ConfigError(
            f"{path} has no folder, since the working folder does not exist any more "
            f"({error.strerror}): change to another folder"
        ) from error
    paths = config.paths.model_copy(
        update={name: base / getattr(config.paths, name) for name in PathsConfig.model_fields}
    )
    audit, auth = config.audit, config.auth
    if audit.destination not in AUDIT_WORDS:
        audit = audit.model_copy(update={"destination": str(base / audit.destination)})
    if auth.master_secret_file:
        auth = auth.model_copy(update={"master_secret_file": str(base / auth.master_secret_file)})
    return config.model_copy(update={"paths": paths, "audit": audit, "auth": auth})


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    known = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section, model in SECTIONS.items()
        for key in model.model_fields
    }
    found: dict[str, dict[str, str]] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if variable == CONFIG_PATH_VARIABLE or variable in CLIENT_VARIABLES:
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
        "value_error": str(problem.get("ctx", {}).get("error", "")),
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
