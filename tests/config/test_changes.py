"""A configuration read again: what it changes now, what waits for a restart."""

from __future__ import annotations

from typing import Any

from service.config import Config
from service.config.changes import changes

_TOKEN = "a-token-for-tests"


def _config(**sections: Any) -> Config:
    return Config.model_validate({"auth": {"token": _TOKEN}, **sections})


def test_same_configuration_changes_nothing() -> None:
    found = changes(_config(), _config())
    assert (found.applied, found.waiting) == ((), ())
    assert found.config == _config()


def test_what_can_change_while_serving_is_taken_over_and_named() -> None:
    read = _config(
        auth={"token": "another-token"},
        match={"max_distance": 0.3, "max_fmr": 1e-4, "max_wrong_joins": 0.05},
        quality={"min_for_matching": 0.3},
        server={"max_wait_ms": 7.0},
        images={"max_pixels": 4_000_000},
    )
    found = changes(_config(), read)
    assert found.config == read
    assert set(found.applied) == {
        "auth.token",
        "match.max_distance",
        "match.max_fmr",
        "match.max_wrong_joins",
        "quality.min_for_matching",
        "server.max_wait_ms",
        "images.max_pixels",
    }
    assert found.waiting == ()


def test_what_needs_a_restart_keeps_its_value_and_is_named() -> None:
    read = _config(
        server={"port": 9000, "processes": 3, "max_wait_ms": 7.0},
        paths={"data_dir": "elsewhere", "models_dir": "other-models"},
        database_pool={"max_connections": 3},
        tracing={"sample_ratio": 0.5},
        blobs={"orphan_grace_s": 60.0, "secret_access_key": "rotated"},
    )
    found = changes(_config(), read)
    assert found.applied == (
        "server.max_wait_ms",
        "paths.models_dir",
        "blobs.secret_access_key",
    )
    assert set(found.waiting) == {
        "server.port",
        "server.processes",
        "paths.data_dir",
        "database_pool.max_connections",
        "tracing.sample_ratio",
        "blobs.orphan_grace_s",
    }
    assert found.config == _config(
        server={"max_wait_ms": 7.0},
        paths={"models_dir": "other-models"},
        blobs={"secret_access_key": "rotated"},
    )


def test_database_section_that_comes_or_goes_waits_for_a_restart() -> None:
    without, with_section = _config(), _config(database={"host": "db.example"})
    came, went = changes(without, with_section), changes(with_section, without)
    assert (came.waiting, went.waiting) == (("database",), ("database",))
    assert came.config.database is None
    assert went.config.database == with_section.database
