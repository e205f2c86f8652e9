"""The S3 server of all tests of blobs, which are one group: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.moto_server import S3Server


@pytest.fixture(scope="session")
def started_server() -> Iterator[S3Server]:
    found = S3Server().start()
    yield found
    found.stop()


@pytest.fixture
def server(started_server: S3Server) -> Iterator[S3Server]:
    """A server that runs. A test may stop it, and is alone with it."""
    yield started_server
    if not started_server.is_running:
        started_server.start()
