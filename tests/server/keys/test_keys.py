"""`keys init` and the checks before a server runs: no file is overwritten, and a wrong key is never used."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.errors import ConfigurationError
from ledger.protocol.encoding import b64url
from ledger.protocol.voprf import derive_secret
from ledger.server.db.engine import reading
from ledger.server.keys import files as keys
from ledger.server.keys.files import LOG_FILE, OPRF_FILE, SESSION_FILE, load_log_key, raw_public
from ledger.server.log import queries as log_store
from ledger.server.log.checkpoint_lock import CHECKPOINT_FILE, CheckpointLock
from ledger.server.log.genesis import init_keys
from ledger.server.log.logged_keys import logged_keys
from ledger.server.log.publisher import run
from ledger.server.runtime import open_runtime
from ledger.server.settings import Settings
from tests.support import new_ledger, opened

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FILES = (OPRF_FILE, SESSION_FILE, LOG_FILE)


def fresh(make_database: Callable[..., str], folder: Path) -> Settings:
    return Settings(database_url=make_database("sqlite"), keys_dir=folder / "keys", guard_dir=folder / "guard")


def contents(settings: Settings) -> dict[str, str]:
    return {path.name: path.read_text() for path in settings.keys_dir.iterdir()}


def test_the_genesis_names_the_keys_and_the_policy(settings: Settings) -> None:
    with opened(settings) as rt:
        with reading(rt.engine) as connection:
            logged = logged_keys(connection)
            head = log_store.read_head(connection)
            published = log_store.latest_checkpoint(connection)
        assert logged["holders"] == [
            {"id": "ledger", "public_key": b64url(rt.keys.in_state("current")[0].row.public_key)}
        ]
        assert logged["log"] == {"origin": settings.origin, "key": rt.keys.log_verifier_key}
        assert head is not None
        assert published is not None
        assert (head.size, published.size) == (2, 2), "signed before anybody is served"
        assert b64url(rt.keys.in_state("current")[0].need_secret()) not in repr(rt.keys)


def test_key_files_are_for_their_owner_alone(settings: Settings) -> None:
    for name in FILES:
        assert (settings.keys_dir / name).stat().st_mode & 0o777 == 0o600
    (settings.keys_dir / OPRF_FILE).chmod(0o640)
    with pytest.raises(ConfigurationError, match="mode 0600"):
        open_runtime(settings)


def test_nothing_is_ever_overwritten(settings: Settings) -> None:
    before = contents(settings)
    guard = (settings.guard_dir / CHECKPOINT_FILE).read_text()
    with pytest.raises(ConfigurationError, match="never overwrites"):
        init_keys(settings, NOW)
    assert contents(settings) == before
    assert (settings.guard_dir / CHECKPOINT_FILE).read_text() == guard


@pytest.mark.parametrize("missing", FILES)
def test_a_lost_key_file_is_not_made_anew(settings: Settings, missing: str) -> None:
    (settings.keys_dir / missing).unlink()
    with pytest.raises(ConfigurationError, match="never made anew"):
        init_keys(settings, NOW)
    assert not (settings.keys_dir / missing).exists()


def test_a_log_without_its_keys_gets_no_new_ones(settings: Settings) -> None:
    shutil.rmtree(settings.keys_dir)
    with pytest.raises(ConfigurationError, match="not in the key folder"):
        init_keys(settings, NOW)
    assert not settings.keys_dir.exists()


def test_an_empty_database_under_an_old_guard_is_refused(make_database: Callable[..., str], tmp_path: Path) -> None:
    settings = new_ledger(make_database("sqlite"), tmp_path)
    lost = settings.model_copy(update={"database_url": make_database("sqlite")})
    with pytest.raises(ConfigurationError, match="longer log"):
        init_keys(lost, NOW)


def test_init_finishes_what_a_crash_left(make_database: Callable[..., str], tmp_path: Path) -> None:
    settings = fresh(make_database, tmp_path)
    keys.create_key_files(settings)  # killed here: keys, but neither guard nor genesis
    before = contents(settings)
    done = init_keys(settings, NOW)
    assert (done.created_keys, done.log_size) == (False, 2)
    assert contents(settings) == before
    open_runtime(settings).close()


def test_init_while_a_publisher_runs_is_refused(make_database: Callable[..., str], tmp_path: Path) -> None:
    settings = fresh(make_database, tmp_path)
    keys.create_key_files(settings)
    guard = CheckpointLock(settings.guard_dir, settings.origin, raw_public(load_log_key(settings)))
    assert guard.try_lock()
    with pytest.raises(ConfigurationError, match="publisher holds the guard"):
        init_keys(settings, NOW)
    guard.close()


def test_a_server_with_another_oprf_key_does_not_start(settings: Settings) -> None:
    path = settings.keys_dir / OPRF_FILE
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "secret": b64url(derive_secret(b"x" * 32, b"another"))}))
    with pytest.raises(ConfigurationError, match="call everyone clear"):
        open_runtime(settings)


@pytest.mark.parametrize("change", [{"epoch": 2}, {"holder": "somebody"}])
def test_a_server_with_another_epoch_or_holder_does_not_start(settings: Settings, change: dict[str, object]) -> None:
    path = settings.keys_dir / OPRF_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigurationError, match="call everyone clear"):
        open_runtime(settings)


def test_a_server_under_another_service_id_does_not_start(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="another service id"):
        open_runtime(settings.model_copy(update={"service": "elsewhere.example"}))


@pytest.mark.parametrize("text", ["", "not base64url!", b64url(b"short")])
def test_a_damaged_key_file_is_named(settings: Settings, text: str) -> None:
    (settings.keys_dir / SESSION_FILE).write_text(text)
    with pytest.raises(ConfigurationError, match=r"session\.key is damaged"):
        open_runtime(settings)


@pytest.mark.parametrize("text", ["", "{}", '{"epoch": 1}', '{"epoch": "x", "holder": 1, "secret": 2}', "[]"])
def test_a_damaged_oprf_file_is_named(settings: Settings, text: str) -> None:
    (settings.keys_dir / OPRF_FILE).write_text(text)
    with pytest.raises(ConfigurationError, match=r"oprf\.json is damaged"):
        open_runtime(settings)


def test_a_publisher_with_another_log_key_does_not_start(settings: Settings) -> None:
    (settings.keys_dir / LOG_FILE).write_text(b64url(b"z" * 32))
    with pytest.raises(ConfigurationError, match="not the one that the log names"):
        run(settings, threading.Event())


def test_an_empty_database_says_what_to_do(make_database: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="keys init"):
        open_runtime(fresh(make_database, tmp_path))
