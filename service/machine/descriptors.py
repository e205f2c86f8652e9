"""The limit of open file descriptors."""

from __future__ import annotations

import logging
import resource

_logger = logging.getLogger(__name__)


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard limit; returns the limit in force."""
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == highest:
        return limit
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    except (
        OSError,
        ValueError,
    ) as error:  # some systems report a hard limit that they do not grant
        _logger.warning("the limit of file descriptors stays: %s", error)
        return limit
    return highest
