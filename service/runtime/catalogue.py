"""The model sets of a models directory: one in the directory itself, others in its folders.

An embedder may give embeddings of a second, compatible space. Its folder then holds two sets, which
share their files.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import ConfigError, ModelError
from service.runtime.manifest import MANIFEST_NAME, load_manifest

_logger = logging.getLogger(__name__)

DEFAULT_NAME = "default"
COMPATIBLE_NAME = "compatible"


@dataclass(frozen=True, slots=True)
class ModelSet:
    """Four models, their manifest, and one space of their embeddings.

    name: the name of the folder, with `-compatible` for the second space; `default` and
        `compatible` for the models directory itself.
    space: the space of the embeddings.
    output: the output of the embedder that holds them.
    """

    name: str
    folder: Path
    space: str
    output: str


def model_sets(models: Path) -> list[ModelSet]:
    """All model sets of a models directory, the default set first, its compatible set second.

    A folder with an unusable manifest is left out, with a warning.

    Raises:
        ModelError: the manifest of the default set cannot be used.
    """
    found = _sets(models, DEFAULT_NAME, COMPATIBLE_NAME)
    for folder in sorted(path.parent for path in models.glob(f"*/{MANIFEST_NAME}")):
        # A folder with a leading dot is not published yet. The two names are taken.
        if folder.name.startswith(".") or folder.name in (DEFAULT_NAME, COMPATIBLE_NAME):
            continue
        try:
            found += _sets(folder, folder.name, f"{folder.name}-{COMPATIBLE_NAME}")
        except ModelError as error:
            _logger.warning("model set left out: %s", error.message)
    return found


def named_model_set(models: Path, name: str) -> ModelSet:
    """The model set of a name.

    Raises:
        ConfigError: there is no usable set of this name.
        ModelError: the manifest of the default set cannot be used.
    """
    sets = {each.name: each for each in model_sets(models)}
    if name not in sets:
        raise ConfigError(
            f"there is no model '{name}' in {models} (available: {', '.join(sets)}): export one "
            f"with `facette export --weights WEIGHTS --models-dir {models / 'NAME'}`"
        )
    return sets[name]


def model_set_of_space(models: Path, space: str, name: str) -> ModelSet:
    """The model set whose embeddings are of a space.

    Args:
        name: the name under which the set was chosen; decides among several sets of the space.

    Raises:
        ConfigError: there is no such set.
        ModelError: the manifest of the default set cannot be used.
    """
    sets = model_sets(models)
    fitting = [each for each in sets if each.space == space]
    if not fitting:
        available = ", ".join(f"{each.name} ({each.space})" for each in sets)
        raise ConfigError(
            f"the database is searched by the model {name} ({space}), which is not in {models} "
            f"(available: {available}): add it, or change to an available model with "
            "`facette reembed --model NAME`"
        )
    return next((each for each in fitting if each.name == name), fitting[0])


def _sets(folder: Path, *names: str) -> list[ModelSet]:
    """One set for each embedding of a folder, with these names in order."""
    embeddings = load_manifest(folder).models["embedder"].embeddings
    if not embeddings:
        raise ModelError(f"{folder / MANIFEST_NAME} does not declare an embedding")
    return [
        ModelSet(name, folder, facts.space, facts.output)
        for name, facts in zip(names, embeddings, strict=False)
    ]
