"""A complete ledger in one folder: keys, SQLite database, member platforms, and the real server in a child process.

Used by `demo` and `replay`. All data is kept, so that the next run uses the same ledger.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ledger.cli.operator.platforms import enrol, write_suite
from ledger.cli.operator.server import environment_of, read_settings
from ledger.client import RefundLedger
from ledger.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from ledger.server.settings import Settings

STOP_SECONDS = 20
BUILDER_SECONDS = 30.0
SCOPES = ["appeal", "log", "lookup", "report"]


@contextmanager
def local_ledger(
    folder: Path, platforms: Mapping[str, str], *, service: str, profile: str = "CN"
) -> Iterator[dict[str, RefundLedger]]:
    """Run a ledger in `folder` with these platforms (name -> control group) and yield an open SDK for each.

    Raises ConfigurationError if the folder's ledger is damaged or the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = local_settings(folder, service)
    _initialise(settings)
    for name, control_group in platforms.items():
        _enrol_if_new(settings, folder, name, control_group, profile)
    with _server(settings, folder / "server.log") as url:
        opened: dict[str, RefundLedger] = {}
        try:
            for name in platforms:
                suite = folder / f"{name}.suite.json"
                _set_url(suite, url)
                opened[name] = RefundLedger(suite, folder / f"{name}.pem", state_dir=folder / "state" / name)
            yield opened
        finally:
            for ledger in opened.values():
                ledger.close()


def publish_snapshot(folder: Path, service: str) -> datetime:
    """Publish a snapshot of the ledger in `folder` and return its `as_of`. Waits while the server builds one itself.

    Raises Unavailable after BUILDER_SECONDS, ConfigurationError if the log key cannot be read.
    """
    from ledger.server.keys.files import load_log_key
    from ledger.server.snapshots.builder import build_and_publish, builder_engine

    settings = local_settings(folder, service)
    engine = builder_engine(settings)
    deadline = time.monotonic() + BUILDER_SECONDS
    try:
        while True:
            try:
                published = build_and_publish(
                    settings, engine, load_log_key(settings), datetime.now(UTC), random_bytes=secrets.token_bytes
                )
                return published.manifest.as_of
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    finally:
        engine.dispose()


def local_settings(folder: Path, service: str) -> Settings:
    """Return the settings of the ledger in `folder`. Raises ConfigurationError."""
    return read_settings(
        database_url=f"sqlite:///{folder / 'ledger.db'}",
        service=service,
        environment="test",
        keys_dir=folder / "keys",
        guard_dir=folder / "guard",
        snapshots_dir=folder / "snapshots",
        attachments_dir=folder / "attachments",
        host="127.0.0.1",
        port=0,
        publish_interval_ms=200,
    )


def _initialise(settings: Settings) -> None:
    from ledger.server.db.engine import reading
    from ledger.server.db.migrate import upgrade
    from ledger.server.db.opening import open_database
    from ledger.server.log.genesis import init_keys
    from ledger.server.log.logged_keys import load_server_keys

    try:
        init_keys(settings, datetime.now(UTC))
    except ConfigurationError:
        # A complete ledger from an earlier run, or a damaged one, which is reported when its keys are read.
        upgrade(settings.database_url)
        engine = open_database(settings, pool_size=1)
        try:
            with reading(engine) as connection:
                load_server_keys(settings, connection)
        finally:
            engine.dispose()


@contextmanager
def _server(settings: Settings, log: Path) -> Iterator[str]:
    with log.open("ab") as log_file:
        process = _spawn(environment_of(settings), log_file)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            url = str(json.loads(line)["url"])
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"The server did not start; {log} says why.") from error
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _spawn(environment: dict[str, str], log_file: IO[bytes]) -> subprocess.Popen[str]:
    """Start `serve` on a free port."""
    return subprocess.Popen(
        [sys.executable, "-m", "ledger", "--json", "serve", "--port", "0"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
    )


def _enrol_if_new(settings: Settings, folder: Path, name: str, control_group: str, profile: str) -> None:
    from ledger.server.db.opening import open_database
    from ledger.server.platforms.members import list_platforms

    suite = folder / f"{name}.suite.json"
    engine = open_database(settings, pool_size=1)
    try:
        if any(member.platform == name for member, _ in list_platforms(engine)):
            return
        suite.unlink(missing_ok=True)
        enrol(
            settings,
            engine,
            name=name,
            control_group=control_group,
            profile=profile,
            scopes=SCOPES,
            kid=f"{name}-1",
            quota=None,
            key_path=folder / f"{name}.pem",
            suite_path=suite,
            url=None,
        )
    finally:
        engine.dispose()


def _set_url(suite: Path, url: str) -> None:
    """Write the address into the suite file, because the port is different in each run."""
    try:
        text = json.dumps({**json.loads(suite.read_text(encoding="utf-8")), "url": url}, indent=2) + "\n"
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{suite.name} is missing or damaged; start with a fresh folder.") from error
    write_suite(suite, text)
