"""The model sets of a models directory: one in the directory itself, others in folders of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import ConfigError, ModelError
from service.runtime.manifest import MANIFEST_NAME, Manifest, load_manifest

_logger = logging.getLogger(__name__)

DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class ModelSet:
    """Four models and their manifest, in a folder of their own.

    name: of the folder; `default` for the models directory itself.
    space: of the embeddings.
    """

    name: str
    folder: Path
    space: str


def model_sets(models: Path) -> list[ModelSet]:
    """Every model set of a models directory, the default one first.

    A folder whose manifest cannot be used is left out, with a warning.

    Raises:
        ModelError: the default set's manifest cannot be used.
    """
    found = [_model_set(DEFAULT_NAME, models)]
    for folder in sorted(path.parent for path in models.glob(f"*/{MANIFEST_NAME}")):
        # What begins with a dot is about to be published; the default set has its name already.
        if folder.name.startswith(".") or folder.name == DEFAULT_NAME:
            continue
        try:
            found.append(_model_set(folder.name, folder))
        except ModelError as error:
            _logger.warning("models left out: %s", error.message)
    return found


def named_model_set(models: Path, name: str) -> ModelSet:
    """The model set of a name.

    Raises:
        ConfigError: there is none that can be used.
        ModelError: the default set's manifest cannot be used.
    """
    sets = {each.name: each for each in model_sets(models)}
    if name not in sets:
        raise ConfigError(
            f"there is no model '{name}' in {models} (there is {', '.join(sets)}): export one with "
            f"`facette export --weights WEIGHTS --models-dir {models / 'NAME'}`"
        )
    return sets[name]


def model_set_of_space(models: Path, space: str, name: str) -> ModelSet:
    """The model set whose vectors can be compared with those of a space.

    Args:
        name: what it was called when it was chosen; goes first where several have the space.

    Raises:
        ConfigError: there is none.
        ModelError: the default set's manifest cannot be used.
    """
    sets = model_sets(models)
    fitting = [each for each in sets if each.space == space]
    if not fitting:
        there = ", ".join(f"{each.name} ({each.space})" for each in sets)
        raise ConfigError(
            f"the database is searched by the model {name} ({space}), which is not in {models}; "
            f"there is {there}: put it there, or change over to one that is there with "
            "`facette reembed --model NAME`"
        )
    return next((each for each in fitting if each.name == name), fitting[0])


def _model_set(name: str, folder: Path) -> ModelSet:
    return ModelSet(name, folder, _space(folder, load_manifest(folder)))


def _space(folder: Path, manifest: Manifest) -> str:
    embedding = manifest.models["facenet"].embedding
    if embedding is None:
        raise ModelError(f"{folder / MANIFEST_NAME} does not declare an embedding of facenet")
    return embedding.space
