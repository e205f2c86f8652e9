"""Who acts: the key on whose behalf a request changes something."""

from __future__ import annotations

from contextvars import ContextVar

ACTING_KEY: ContextVar[str | None] = ContextVar("acting_key", default=None)
"""Id of the key of the current request; None for the configured token and for commands."""
