"""File descriptors: how many this process may have open."""

from __future__ import annotations

import logging
import resource

_logger = logging.getLogger(__name__)


def raise_descriptor_limit() -> int:
    """Raise the limit to the highest that this process may have; returns how many it has now."""
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == highest:
        return limit
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    except (OSError, ValueError) as error:  # some systems name a limit that they do not grant
        _logger.warning("the limit of file descriptors stays: %s", error)
        return limit
    return highest
