"""A ledger that an earlier version made is upgraded, verifies, and keeps every standing, on both engines."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from ledger.client.verify.log import verify_log
from ledger.protocol.encoding import parse_time
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.policy.shipped import policy_text
from ledger.server.appeals import staff_actions
from ledger.server.db import migrate
from ledger.server.db.engine import reading
from ledger.server.log.policy_queries import texts
from ledger.tlog.checkpoint import parse_verifier_key
from tests import pg
from tests.conftest import ENGINES
from tests.counts import trials
from tests.rotations import log_of
from tests.server.conftest import Clock, LedgerFixture
from tests.support import Platform, ledger_settings, opened, publish
from tests.upgrade.story import PEOPLE, observe, people

HERE = Path(__file__).parent
VERSIONS = sorted({path.name.split(".")[0] for path in HERE.glob("*.tar.gz")})


@dataclass
class Upgraded:
    """An upgraded ledger, what the earlier version said, and the checkpoint that it signed last."""

    ledger: LedgerFixture
    said: list[dict[str, Any]]
    note: str


def restore(url: str, folder: Path) -> None:
    """Put the database of an extracted archive where `url` points to."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        (folder / "ledger.db").rename(str(parsed.database))
        return
    # The dump makes its schema itself.
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public")
    command = [
        str(pg.binaries(folder, None) / "bin" / "psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1",
        f"--host={parsed.query['host']}", f"--username={parsed.username}", f"--file={folder / 'ledger.sql'}",
        str(parsed.database),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((version, name), marks=getattr(pytest.mark, name)) for version in VERSIONS for name in ENGINES
    ],
    ids=lambda param: "-".join(param),
)
def upgraded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pg_admin_url: str
) -> Iterator[Upgraded]:
    version, engine = request.param
    folder = tmp_path_factory.mktemp("upgraded")
    with tarfile.open(HERE / f"{version}.{engine}.tar.gz") as archive:
        archive.extractall(folder, filter="tar")
    admin = make_url(pg_admin_url)
    url = f"sqlite:///{folder / 'upgraded.db'}"
    if engine == "postgresql":
        url = pg.create_database(admin).render_as_string(hide_password=False)
    restore(url, folder)
    said = json.loads((folder / "said.json").read_text())
    note = (folder / "guard" / "checkpoint").read_text()
    migrate.upgrade(url)
    clock = Clock()
    clock.moment = parse_time(said["end"])
    acme, acme2 = Platform("acme", "acme-group", "acme-1"), Platform("acme2", "acme-group", "acme2-1")
    bolt = Platform("bolt", "bolt-group", "bolt-1", profile="EU")
    with opened(ledger_settings(url, folder), clock) as rt:
        yield Upgraded(LedgerFixture(rt, clock, acme, acme2, bolt), said["said"], note)
    if engine == "postgresql":
        pg.drop_database(url)


def test_there_is_an_earlier_ledger() -> None:
    assert VERSIONS


def test_it_keeps_every_standing_and_report_verifies_and_works_on(upgraded: Upgraded) -> None:
    """In one test, because the last step changes the ledger."""
    first = records_of(upgraded.said[0])
    for moment in range(trials(2, 4)):
        # At the end of the story under both keys; then when events have aged, expired, or begun to count.
        before = upgraded.said[(0, 2, 1, 3)[moment]]
        epochs = (1, 2) if moment == 0 else (2,)
        records = records_of(before)
        # Later a few of the records that stay as they were, and all that change.
        recorded = [
            number
            for number in range(PEOPLE)
            if moment == 0 or number % trials(6, 1) == 0 or records[number] != first[number]
        ]
        now = observe(upgraded.ledger, parse_time(before["at"]), epochs, recorded)
        assert records_of(json.loads(json.dumps(now)), recorded) == {number: records[number] for number in recorded}
        assert now["lookups"] == [entry for entry in before["lookups"] if entry[0] in epochs]
    has_the_text_of_its_policy(upgraded)
    verifies_from_the_first_entry(upgraded)
    decides_a_case_that_was_open(upgraded)


def records_of(said: dict[str, Any], people: Iterable[int] = range(PEOPLE)) -> dict[int, list[Any]]:
    """What is said of each person's record."""
    return {number: [entry for entry in said["records"] if entry[0] == number] for number in people}


def verifies_from_the_first_entry(upgraded: Upgraded) -> None:
    ledger = upgraded.ledger
    publish(ledger.rt.settings)
    origin, public_key = parse_verifier_key(ledger.rt.keys.log_verifier_key)
    report = verify_log(log_of(ledger.rt), origin, public_key, upgraded.note)
    assert report.entries_count >= (report.last_seen_size or 0) > 60


def has_the_text_of_its_policy(upgraded: Upgraded) -> None:
    """The log pins it by hash; ledgers of before had no table for it."""
    with reading(upgraded.ledger.rt.engine) as connection:
        stored = texts(connection)
    (first,) = upgraded.ledger.rt.policies.timeline.published
    assert {digest: one.text for digest, one in stored.items()} == {first.sha256: policy_text(first.version)}


def decides_a_case_that_was_open(upgraded: Upgraded) -> None:
    ledger = upgraded.ledger
    ledger.clock.moment = parse_time(upgraded.said[0]["at"])
    (case,) = {entry[4] for entry in upgraded.said[0]["records"] if entry[2] == "disputed"}
    reviewer = Staff(500, "reviewer")
    staff_actions.take(ledger.rt.context, case, reviewer)
    staff_actions.decide(ledger.rt.context, case, reviewer, Outcome.UPHELD, "The carrier's record is clear.")
    assert ledger.lookup(people(ledger, 18, 2), epoch=2)["tier"] == "watch"
