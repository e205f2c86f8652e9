"""Which embedding model the database is searched by."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from service.domain.errors import ConfigError
from service.domain.types import ModelSpace
from service.store.database.statements import SQL


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """The model that made the vectors which searches compare.

    space: identifies its weights. name: of the folder it was found in when it was chosen.
    """

    space: ModelSpace
    name: str


async def active_model(connection: asyncpg.Connection) -> ActiveModel | None:
    """The model of the database; None before the first one was chosen."""
    row = await connection.fetchrow(SQL["active_model"])
    return None if row is None else ActiveModel(ModelSpace(row["space"]), row["name"])


async def adopt_model(
    connection: asyncpg.Connection, model: ActiveModel, instead_of: ActiveModel | None
) -> ActiveModel:
    """Choose the first model, or one in the place of a model that has no vectors yet.

    Args:
        connection: of the tables' owner.
        instead_of: the model that was found active, and cannot be had; None where there was none.

    Returns:
        The model that is active then.

    Raises:
        ConfigError: no model was chosen yet, there are vectors, and none of them is the model's.
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
    """Let the database be searched by a model; inserts under another are refused from then on.

    To be called in a transaction that keeps inserts out.
    """
    await connection.execute(SQL["lock_models"])
    await connection.execute(SQL["retire_models"], model.space)
    await connection.execute(SQL["activate_model"], model.space, model.name)
