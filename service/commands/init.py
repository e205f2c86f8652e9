"""`facette init`: a configuration file, and what is left to do before the first start."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import service
from service.commands.extras import install_command, missing_extras
from service.config import ENVIRONMENT_PREFIX, Config, load_config, render_example
from service.config.sections import PathsConfig
from service.domain.errors import ModelError
from service.runtime.manifest import MANIFEST_NAME, load_manifest

_MODELS_VARIABLE = f"{ENVIRONMENT_PREFIX}PATHS_MODELS_DIR"


def run_init(path: Path, command: str) -> int:
    """Create the configuration file if there is none; print what it is for and what is left to do.

    Args:
        path: the configuration file. An existing one is never changed.
        command: the shell's name of this program, with the options that lead to the file.

    Raises:
        ConfigError: the existing file or the environment cannot be used.
        OSError: the file cannot be written.
    """
    text = render_example(secrets.token_urlsafe(32), models_dir=_models_elsewhere(path))
    try:
        # Created with mode 0600, since it holds the token.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{path} is there already; nothing was changed")
    else:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        print(f"{path} was created, with a random token")
    config = load_config(path)
    models = _models_there(config)
    print(f"models:   {models or f'none in {config.paths.models_dir} yet'}")
    print(f"database: {_database(config)}")
    print("next:")
    for step in _steps(config, command, has_models=models is not None):
        print(f"  {step}")
    return 0


def models_folder(path: Path) -> Path:
    """The folder of the models by the configuration, which may be missing or have no token.

    Raises:
        ConfigError: the file or the environment cannot be used.
    """
    no_token = {f"{ENVIRONMENT_PREFIX}AUTH_TOKEN": secrets.token_urlsafe(32)}
    return load_config(path, {**no_token, **os.environ}).paths.models_dir


def _models_elsewhere(path: Path) -> Path | None:
    """The folder of exported models that a new configuration has to name, if any.

    None where the models are in the usual place, or the environment names the place.
    """
    usual = path.parent / PathsConfig().models_dir
    if _MODELS_VARIABLE in os.environ or (usual / MANIFEST_NAME).is_file():
        return None
    # Beside the environment, as in the image, or in the checkout that this program runs from.
    places = (Path(sys.prefix), Path(service.__file__).parents[1])
    folders = (place / PathsConfig().models_dir for place in places)
    return next((folder for folder in folders if (folder / MANIFEST_NAME).is_file()), None)


def _models_there(config: Config) -> str | None:
    """The exported models in words; None where there are none that can be used."""
    try:
        manifest = load_manifest(config.paths.models_dir)
    except ModelError:
        return None
    return f"{manifest.weights}, in {config.paths.models_dir}"


def _database(config: Config) -> str:
    if (server := config.database) is not None:
        return f"{server.dbname} at {server.host}:{server.port}, as configured"
    return f"the embedded PostgreSQL, in {config.paths.data_dir}; [database] would name a server"


def _steps(config: Config, command: str, *, has_models: bool) -> Iterator[str]:
    """The commands that are left to run, in order."""
    wanted = ["cpu"]
    wanted += ["embedded"] if config.database is None else []
    wanted += [] if has_models else ["export"]
    if missing := missing_extras(*wanted):
        yield install_command(*missing)
    if not has_models:
        yield f"{command} export"
    yield f"{command} serve"
