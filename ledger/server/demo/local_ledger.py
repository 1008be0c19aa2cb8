"""A complete ledger in one folder: keys, SQLite database, member platforms, and the real server in a child process.

`local_ledger` is a ledger whose key one holder has (1 of 1), for `replay`; `local_holders` has the one of `demo`, whose
key three holders share. All data is kept, so that the next run uses the same ledger.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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


class LocalService:
    """A command of this program in a child process, which listens on a free port until `stop`. Its log goes to the end
    of a file."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start `arguments`, a command that prints its address as JSON when it listens. Raises OSError."""
        self._log = log
        with log.open("ab") as log_file:
            self._process = _spawn([*arguments, "--port", "0"], environment, log_file)

    def url(self) -> str:
        """Wait until the service listens, and return its address. Raises ConfigurationError if it does not start. Call
        it once."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            return str(json.loads(line)["url"])
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"A process of the demo did not start; {self._log} says why.") from error

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def stop(self) -> None:
        """End the process, and wait for that. It may have ended already."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def local_ledger(
    folder: Path, platforms: Mapping[str, str], *, service: str, profile: str = "CN"
) -> Iterator[dict[str, RefundLedger]]:
    """Run a ledger of one key holder in `folder` with these platforms (name -> control group) and yield an open SDK for
    each.

    Raises ConfigurationError if the folder's ledger is damaged or the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = local_settings(folder, service)
    _initialise(settings)
    for name, control_group in platforms.items():
        enrol_if_new(settings, folder, name, control_group, profile)
    with ExitStack() as stack:
        server = LocalService(["serve"], environment_of(settings), folder / "server.log")
        stack.callback(server.stop)
        url = server.url()
        yield {name: stack.enter_context(open_platform(folder, name, url)) for name in platforms}


@contextmanager
def open_platform(folder: Path, name: str, url: str, cards: Path | None = None) -> Iterator[RefundLedger]:
    """Yield the SDK of an enrolled platform for the server at `url`, with the holders' cards in `cards`. Raises
    ConfigurationError, HolderMismatch."""
    suite = folder / f"{name}.suite.json"
    _set_url(suite, url)
    ledger = RefundLedger(suite, folder / f"{name}.pem", state_dir=folder / "state" / name, cards=cards)
    try:
        yield ledger
    finally:
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
    from ledger.server.log.genesis import init_keys

    try:
        init_keys(settings, datetime.now(UTC))
    except ConfigurationError:
        # A complete ledger from an earlier run, or a damaged one, which is reported when its keys are read.
        check_ledger(settings)


def check_ledger(settings: Settings) -> None:
    """Migrate the ledger of an earlier run to this version, and check that keys and log belong together. Raises
    ConfigurationError, DatabaseUnavailable."""
    from ledger.server.db.engine import reading
    from ledger.server.db.migrate import upgrade
    from ledger.server.db.opening import open_database
    from ledger.server.log.logged_keys import load_server_keys

    upgrade(settings.database_url)
    engine = open_database(settings, pool_size=1)
    try:
        with reading(engine) as connection:
            load_server_keys(settings, connection)
    finally:
        engine.dispose()


def _spawn(arguments: Sequence[str], environment: Mapping[str, str], log_file: IO[bytes]) -> subprocess.Popen[str]:
    """Start a command of this program with `--json`."""
    return subprocess.Popen(
        [sys.executable, "-m", "ledger", "--json", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
    )


def enrol_if_new(settings: Settings, folder: Path, name: str, control_group: str, profile: str) -> None:
    """Enrol a platform of the ledger in `folder`, unless it is one already. Raises ConfigurationError."""
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
