"""The operator's commands about a shared key, killed before every durable step: nothing is lost, and nothing is half.

The same command is run again after each kill, with a later one, until it is through. In between the ledger answers:
everyone who was reported is listed, and the whole log verifies.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import inspect, make_url

from ledger.server.db.engine import open_engine, reading
from ledger.server.keys.cards import load_ledger_card
from ledger.server.keys.factors import factor_path
from ledger.server.log.queries import read_head
from ledger.server.settings import Settings
from tests.counts import LONG, trials
from tests.forked import ForkedProcess
from tests.rotations import audited, epochs
from tests.sharing import OPERATOR, Holders, Made, SharedLedger, opened_shared, shared_ledger
from tests.support import ROOT, ledger_settings, server_environment, sqlite_schema

pytestmark = pytest.mark.one_engine
"""Killed on both engines in `make soak`; in `make test` the id of a test chooses one."""

KILLED = -signal.SIGKILL
DONE = 0
REFUSED = 1
EXISTS = 2
"""Exit status where everything exists already."""

Act = Callable[[int, list[str]], int]


@contextmanager
def runner(settings: Settings) -> Iterator[Act]:
    process = ForkedProcess(
        "tests.faults.key_runner",
        [],
        environment={**os.environ, **server_environment(settings)},
        folder=ROOT,
        talk=True,
        stderr=2,
    )

    def act(count: int, command: list[str]) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{count} {json.dumps(command)}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    try:
        yield act
    finally:
        process.close()
        process.wait(20)


def killed_until_through(
    act: Act, command: list[str], check: Callable[[], None], *, step: int, done: tuple[int, ...] = (DONE,)
) -> int:
    """Run the command with kills at every `step`-th place until it is through; the number of kills."""
    kills, count = 0, 1
    while True:
        status = act(count, command)
        if status != KILLED:
            assert status in done, status
            return kills
        kills += 1
        count += step
        check()


def secrets_of(settings: Settings) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in settings.keys_dir.glob("[a-z]*")}


def test_the_beginning_of_a_shared_ledger(database_url: str, tmp_path: Path) -> None:
    settings = ledger_settings(database_url, tmp_path)
    file = make_url(database_url).database
    if database_url.startswith("sqlite") and file is not None and not LONG:
        Path(file).write_bytes(sqlite_schema())  # the next test begins without a schema
    known: dict[str, bytes] = {}

    def check_files() -> None:
        known.update({name: text for name, text in secrets_of(settings).items() if name not in known})
        assert secrets_of(settings) == known, "a file that was there is another one"

    prepare = ["keys", "init", "--threshold", "--organisation", OPERATOR, "--url", "https://ledger.example"]
    with runner(settings) as act:
        assert killed_until_through(act, prepare, check_files, step=trials(3, 1)) >= 4
        check_files()
        holders = Holders(load_ledger_card(settings))
        made = holders.generate().write(tmp_path / "files")
        begin = ["keys", "init", *made.options(tmp_path / "files", "card")]
        step, kills, count = trials(3, 1), 0, 1
        while (status := act(count, begin)) == KILLED:
            kills, count = kills + 1, count + step
            check_files()
        # A kill after the commit of the first entries leaves a whole ledger, which the publisher signs later.
        assert status in (DONE, EXISTS)
        assert kills >= 3
        check_files()
    with opened_shared(settings, holders, made) as ledger:
        ledger.report(1)
        assert ledger.seen(1)[2] == 1
        assert ledger.verified().sharings_count == 1


def test_the_beginning_is_whole_or_not_there(database_url: str, tmp_path: Path) -> None:
    """After every kill the log has no entry, or both with the holders of the database."""
    settings = ledger_settings(database_url, tmp_path)
    with runner(settings) as act:
        prepare = ["keys", "init", "--threshold", "--organisation", OPERATOR, "--url", "https://ledger.example"]
        assert act(1_000, prepare) == DONE
        holders = Holders(load_ledger_card(settings))
        made = holders.generate().write(tmp_path / "files")
        sizes = []
        for count in trials((2, 9), range(1, 30)):
            status = act(count, ["keys", "init", *made.options(tmp_path / "files", "card")])
            engine = open_engine(settings.database_url, pool_size=1)
            head = None
            if inspect(engine).has_table("log_head"):
                with reading(engine) as connection:
                    head = read_head(connection)
            size = 0 if head is None else head.size
            rows = epochs(engine) if size else {}
            engine.dispose()
            sizes.append(size)
            assert size in (0, 2)
            assert len(rows) == (1 if size else 0)
            assert not size or [holder.holder for holder in rows[1].holders] == ["north", "south", "west"]
            if status == EXISTS:
                break
        assert sizes == sorted(sizes)


def test_a_refresh_and_a_rotation(database_url: str, tmp_path: Path) -> None:
    settings, holders, first = shared_ledger(database_url, tmp_path)
    with opened_shared(settings, holders, first) as ledger, runner(settings) as act:
        ledger.report(1)
        refresh(act, ledger, holders.refresh(), tmp_path / "refresh")
        rotate(act, ledger, holders.rotate(), tmp_path / "rotate")


def refresh(act: Act, ledger: SharedLedger, made: Made, folder: Path) -> None:
    command = ["keys", "publish", *made.write(folder).options(folder, "card")]

    def check() -> None:
        ledger.rt.members.refresh()
        row = ledger.rt.keys.current
        logged = ledger.verified().sharings_count
        assert (row.generation, len(row.holders)) == (logged, 3), "the entry and the holders, or neither"
        assert ledger.seen(1)[2] == 1

    assert killed_until_through(act, command, check, step=trials(2, 1)) >= 1
    check()
    assert ledger.rt.keys.current.generation == 2


def rotate(act: Act, ledger: SharedLedger, made: Made, folder: Path) -> None:
    settings = ledger.rt.settings
    command = ["rotate", *made.write(folder).options(folder, "card", "certificate")]
    announce = [*command, "--announce-only"]
    path = factor_path(settings, 2)
    factor: list[bytes] = []

    def check() -> None:
        rows = epochs(ledger.rt.engine)
        assert 2 not in rows or path.exists(), "an epoch is announced with its factor on disk"
        if path.exists():
            assert path.stat().st_mode & 0o777 == 0o600
            factor.append(path.read_bytes())
            assert factor[-1] == factor[0]
        ledger.rt.members.refresh()
        assert ledger.seen(1, 1, 2)[2] == 1
        assert ledger.verified().sharings_count == 1 + len(rows)

    assert killed_until_through(act, announce, check, step=trials(4, 1)) >= 2
    check()
    # Killed after the switch has committed, it is refused until the old epoch is retired, like every rotation.
    assert killed_until_through(act, command, check, step=trials(20, 1), done=(DONE, REFUSED)) >= 1
    ledger.rt.members.refresh()
    assert [row.state for row in epochs(ledger.rt.engine).values()] == ["previous", "current"]
    assert ledger.seen(1, 1, 2) == ledger.seen(1, 2, 1)
    assert ledger.seen(1, 2, 1)[2] == 1
    assert audited(ledger.rt, settings.keys_dir / "rotation-1-2").elements == 2
    assert factor_path(settings, 2).read_bytes() == factor[0]
