"""The model sets of a models directory: one in the directory itself, others in folders of it.

A folder's embedder may span a second, compatible space beside its own: then it gives two sets,
which share their files.
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
    """Four models, their manifest, and one of the embeddings that they give.

    name: of the folder, with `-compatible` for its second embedding; `default` and `compatible`
    for the models directory itself.
    space: of the embeddings.
    output: of the embedder that gives them.
    """

    name: str
    folder: Path
    space: str
    output: str


def model_sets(models: Path) -> list[ModelSet]:
    """Every model set of a models directory, the default one first, its compatible one second.

    A folder whose manifest cannot be used is left out, with a warning.

    Raises:
        ModelError: the default set's manifest cannot be used.
    """
    found = _sets(models, DEFAULT_NAME, COMPATIBLE_NAME)
    for folder in sorted(path.parent for path in models.glob(f"*/{MANIFEST_NAME}")):
        # What begins with a dot is about to be published; two names are given already.
        if folder.name.startswith(".") or folder.name in (DEFAULT_NAME, COMPATIBLE_NAME):
            continue
        try:
            found += _sets(folder, folder.name, f"{folder.name}-{COMPATIBLE_NAME}")
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


def _sets(folder: Path, *names: str) -> list[ModelSet]:
    """One set for each embedding of a folder, by these names in turn."""
    embeddings = load_manifest(folder).models["embedder"].embeddings
    if not embeddings:
        raise ModelError(f"{folder / MANIFEST_NAME} does not declare an embedding")
    return [
        ModelSet(name, folder, facts.space, facts.output)
        for name, facts in zip(names, embeddings, strict=False)
    ]
