"""The file of the master secret: made once by whoever is first, private, replaced as a whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.domain.errors import KeysUnavailableError
from service.domain.keys import MasterSecret
from service.store.access.master import ConfiguredMasterSecret, MasterSecretFile

DAY = timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master-secret.json"


@pytest.fixture
def file(path: Path) -> MasterSecretFile:
    found = MasterSecretFile(path, may_create=True)
    assert found.ensure()
    return found


def _ensure(path: Path, go: object, told: object) -> None:
    go.wait()  # type: ignore[attr-defined]
    file = MasterSecretFile(path, may_create=True)
    made = file.ensure()
    told.put((made, file.read().current.master_id))  # type: ignore[attr-defined]


def test_processes_that_start_at_once_agree(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    go, told = context.Event(), context.Queue()
    processes = [context.Process(target=_ensure, args=(path, go, told)) for _ in range(4)]
    for each in processes:
        each.start()
    go.set()
    outcomes = [told.get(timeout=60) for _ in processes]
    for each in processes:
        each.join()
    assert sorted(made for made, _ in outcomes) == [False, False, False, True]
    assert len({master_id for _, master_id in outcomes}) == 1
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        file = MasterSecretFile(path, may_create=True)
        file.ensure()
        file.rotate(DAY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    facts = file.facts()
    assert facts is not None
    assert facts.is_private


def test_a_file_that_is_there_is_kept(file: MasterSecretFile, path: Path) -> None:
    again = MasterSecretFile(path, may_create=True)
    assert not again.ensure()
    assert again.read() == file.read()


def test_a_named_file_is_never_made(path: Path) -> None:
    with pytest.raises(KeysUnavailableError, match="missing"):
        MasterSecretFile(path, may_create=False).ensure()
    assert not path.exists()


def test_a_rotation_is_seen_by_a_running_service_and_keeps_the_former_one_for_a_time(
    file: MasterSecretFile, path: Path
) -> None:
    running = MasterSecretFile(path, may_create=False)
    former = running.read().current
    now = datetime.now(UTC)
    file.rotate(2 * DAY)
    after = running.read()
    assert after.current.master_id != former.master_id
    found = after.find(former.master_id, now)
    assert found is not None
    assert found.value == former.value
    assert after.find(former.master_id, now + 3 * DAY) is None


def test_former_secrets_are_dropped_when_their_time_is_over(file: MasterSecretFile) -> None:
    now = datetime.now(UTC)
    first = file.read().current
    file.rotate(DAY, lambda: now)
    second = file.read().current
    file.rotate(DAY, lambda: now + DAY / 2)
    assert {each.master_id for each in file.read().former} == {first.master_id, second.master_id}
    file.rotate(DAY, lambda: now + 1.25 * DAY)
    assert first.master_id not in {each.master_id for each in file.read().former}
    assert second.master_id in {each.master_id for each in file.read().former}


def test_a_rotation_that_keeps_nothing_ends_all_former_secrets(file: MasterSecretFile) -> None:
    file.rotate(DAY)
    file.rotate(timedelta())
    assert file.read().former == ()


def test_a_lost_file_is_said_and_another_one_has_another_secret(
    file: MasterSecretFile, path: Path
) -> None:
    lost = file.read().current
    path.unlink()
    with pytest.raises(KeysUnavailableError, match="missing"):
        file.read()
    assert file.ensure()
    assert file.read().find(lost.master_id, datetime.now(UTC)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "{}",
        '{"version": 2, "current": "' + "00" * 32 + '", "former": []}',
        '{"version": 1, "current": "00", "former": []}',
        '{"version": 1, "current": 5, "former": []}',
        '{"version": 1, "current": "' + "zz" * 32 + '", "former": []}',
        '{"version": 1, "current": "' + "00" * 32 + '", "former": [{"secret": "x"}]}',
        '{"version": 1, "current": "' + "00" * 32 + '", "former": 7}',
        "[" * 100_000,
    ],
    ids=range(13),
)
def test_a_damaged_file_is_said_and_left_as_it_is(path: Path, text: str) -> None:
    path.write_text(text)
    file = MasterSecretFile(path, may_create=True)
    for act in (file.read, file.ensure):
        with pytest.raises(KeysUnavailableError, match="damaged"):
            act()
    assert path.read_text() == text


def test_no_error_tells_a_secret_or_a_path(file: MasterSecretFile, path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 9}))
    with pytest.raises(KeysUnavailableError) as refused:
        file.read()
    assert content["current"] not in refused.value.message
    assert str(path) not in refused.value.message


def test_a_file_that_others_can_read_is_not_private(file: MasterSecretFile, path: Path) -> None:
    path.chmod(0o640)
    facts = file.facts()
    assert facts is not None
    assert not facts.is_private


def test_configured_secrets_are_the_current_one_and_the_former_one() -> None:
    both = ConfiguredMasterSecret("c" * 32, "f" * 32).read()
    now = datetime.now(UTC)
    assert both.current.master_id == MasterSecret(b"c" * 32).master_id
    assert both.find(MasterSecret(b"f" * 32).master_id, now) is not None
    assert ConfiguredMasterSecret("c" * 32).read().former == ()
