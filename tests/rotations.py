"""What tests of a key rotation need: elements computed from the keys themselves, and the log as an auditor reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, select

from ledger.client.identity.suite import Service
from ledger.client.verify.log import Fetch
from ledger.client.verify.rotation import RotationReport, read_places, verify_rotation
from ledger.protocol import sodium
from ledger.protocol.identifiers import Kind, canonical
from ledger.protocol.voprf import hash_to_group
from ledger.server.db.engine import reading
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.keys.epochs import EpochRow, read_epochs
from ledger.server.keys.files import load_oprf
from ledger.server.log import queries as log_store
from ledger.server.log import reader as log_service
from ledger.server.reports.reports import submit_report
from ledger.server.rotation.retire import retire
from ledger.server.rotation.run import rotate
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from ledger.tlog.checkpoint import parse_verifier_key
from ledger.tlog.entries import parse_leaf
from ledger.tlog.merkle import parse_tile_path
from tests.support import Platform, publish, report_payload

if TYPE_CHECKING:
    from tests.server.conftest import LedgerFixture

GRACE = timedelta(days=30)

on_one_engine = pytest.mark.parametrize(
    "migrated_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True
)
"""For what has nothing to do with the database."""

Subjects = list[tuple[Kind, bytes]]


def phone(number: int) -> str:
    """A phone number for each `number` below 10,000."""
    return f"+861380013{number:04d}"


def subjects_under(settings: Settings, epoch: int, number: int) -> Subjects:
    """Phone and payment of a person under `epoch`: the secret times the hash, without blinding or stored elements."""
    secret = load_oprf(settings, epoch)[2]
    raw = ((Kind.PHONE, phone(number)), (Kind.PAYMENT, f"alipay/2088{number:012d}"))
    return [(kind, sodium.scalarmult(secret, hash_to_group(canonical(kind, value)))) for kind, value in raw]


def epochs(engine: Engine) -> dict[int, EpochRow]:
    """All key epochs."""
    with reading(engine) as connection:
        return {row.epoch: row for row in read_epochs(connection)}


def places(engine: Engine, table: type[Subject] | type[Listing], epoch: int) -> set[tuple[int, int]]:
    """(report, slot) of every row of `table` under `epoch`."""
    with reading(engine) as connection:
        rows = connection.execute(select(table.report_id, table.slot).where(table.epoch == epoch))
        return {(report_id, slot) for report_id, slot in rows}


def body_of(engine: Engine, index: int) -> dict[str, Any]:
    """The body of a governance entry."""
    with reading(engine) as connection:
        leaf = log_store.read_leaf(connection, index)
    assert leaf is not None
    body = parse_leaf(bytes(leaf)).body
    assert body is not None
    return dict(body)


def log_of(rt: Runtime) -> Fetch:
    """The served log, without a server."""

    def fetch(path: str) -> bytes:
        if path == "checkpoint":
            return log_service.checkpoint(rt.engine).encode()
        _, level, rest = path.split("/", 2)
        number, index, width = parse_tile_path(level, rest)
        if number == "entries":
            return log_service.entries(rt.engine, index, width)
        return log_service.tile(rt.engine, int(number), index, width)

    return fetch


def audited(rt: Runtime, folder: Path, log_key: str | None = None, pinned: Service | None = None) -> RotationReport:
    """What the auditor's check says of `folder`, after the publisher has signed."""
    publish(rt.settings)
    origin, public_key = parse_verifier_key(log_key or rt.keys.log_verifier_key)
    fetch = log_of(rt)
    note = fetch("checkpoint").decode()
    return verify_rotation(folder, read_places(folder), fetch, note, pinned, origin, public_key)


def batches(folder: Path) -> Sequence[Path]:
    """The batch files of a folder, in order."""
    return sorted(folder.glob("batch-*.rot"))


def change_facts(folder: Path, **changes: int) -> None:
    """Let `rotation.json` point to other entries."""
    path = folder / "rotation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rotated(ledger: LedgerFixture, **options: Any) -> Any:
    """Rotate, and let this process notice."""
    done = rotate(ledger.rt.settings, ledger.rt.engine, ledger.clock, **options)
    ledger.rt.members.refresh()
    return done


def report(ledger: LedgerFixture, platform: Platform, number: int, epoch: int, **changes: Any) -> dict[str, Any]:
    """Report a person under `epoch`."""
    subjects = subjects_under(ledger.rt.settings, epoch, number)
    payload = report_payload(ledger.rt, platform, subjects, epoch=epoch, **changes)
    stored = submit_report(ledger.rt.reports, platform.member(), payload, payload["signature"]).result(10)
    return dict(json.loads(stored.body))


def seen(ledger: LedgerFixture, number: int, epoch: int) -> tuple[Any, ...]:
    """What a lookup under `epoch` says of a person."""
    answer = ledger.lookup(subjects_under(ledger.rt.settings, epoch, number), epoch=epoch)
    return tuple(answer[name] for name in ("tier", "points", "events", "reporters", "matched_kinds"))


def retired(ledger: LedgerFixture) -> None:
    ledger.clock.moment += GRACE
    retire(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    ledger.rt.members.refresh()
