"""The active model of the database: the embedding model whose vectors are searched."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from service.domain.errors import ConfigError
from service.domain.types import ModelSpace
from service.store.database.statements import SQL


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """The embedding model whose vectors are searched.

    space: the space of its vectors.
    name: the name of its folder at the time when it became active.
    """

    space: ModelSpace
    name: str


async def active_model(connection: asyncpg.Connection) -> ActiveModel | None:
    """The active model; None if no model is active yet."""
    row = await connection.fetchrow(SQL["active_model"])
    return None if row is None else ActiveModel(ModelSpace(row["space"]), row["name"])


async def adopt_model(
    connection: asyncpg.Connection, model: ActiveModel, instead_of: ActiveModel | None
) -> ActiveModel:
    """Make a model active if no model is, or if the active model has no vectors yet.

    Args:
        connection: a connection as the owner of the tables.
        model: the model to make active.
        instead_of: the active model that the caller saw, whose files are missing; None if the
            caller saw no active model.

    Returns:
        The model that is active afterwards. It is another one if another process was faster, or if
        the active model has vectors.

    Raises:
        ConfigError: no model is active, and the database has vectors of other models only.
    """
    async with connection.transaction():
        await connection.execute(SQL["exclude_inserts"])
        await connection.execute(SQL["lock_models"])
        found = await active_model(connection)
        if found != instead_of:  # another process came first
            assert found is not None
            return found
        space = await connection.fetchval(SQL["some_space"])
        if found is not None and space is not None:
            return found
        if not await connection.fetchval(SQL["knows_no_space_but"], model.space):
            raise ConfigError(
                f"the faces in the database were embedded by another model, {space}, than the one "
                f"in paths.models_dir, {model.space}: put that one back, or embed the faces "
                f"again with `facette reembed --model {model.name}`"
            )
        await activate_model(connection, model)
        return model


async def activate_model(connection: asyncpg.Connection, model: ActiveModel) -> None:
    """Make a model active; inserts with vectors of another model are refused from then on.

    Call it in a transaction that excludes inserts.
    """
    await connection.execute(SQL["lock_models"])
    await connection.execute(SQL["retire_models"], model.space)
    await connection.execute(SQL["activate_model"], model.space, model.name)
