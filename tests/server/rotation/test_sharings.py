"""Refresh, resharing and rotation of a key that several holders share, on both engines, with real ceremonies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from ledger.client.identity.suite import parse_service
from ledger.errors import (
    CeremonyFault,
    ConfigurationError,
    HolderMismatch,
    InvalidProof,
    InvalidRequest,
    InvalidSignature,
    LedgerError,
    RotationRefused,
    StaleEpoch,
    Unavailable,
)
from ledger.protocol import sodium
from ledger.protocol.encoding import b64url
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.keys import KeyEpoch
from ledger.server.db.tables.oprf import OprfGrant
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.keys.factors import factor_path
from ledger.server.log.writer import open_head
from ledger.server.platforms.suite import suite
from ledger.server.rotation import run as rotation
from ledger.server.rotation.announce import RotationFiles
from ledger.server.rotation.retire import SETTLE, destroy_settled, retire
from ledger.server.rotation.sharings import append_sharing, publish_sharing
from ledger.server.runtime import open_runtime
from ledger.server.webhooks import emit
from tests.rotations import GRACE, audited, body_of, epochs, on_one_engine, places
from tests.sharing import Holders, Made, SharedLedger, copied_shared_ledger, opened_shared


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[SharedLedger]:
    with opened_shared(*copied_shared_ledger(database_url, tmp_path)) as ledger:
        yield ledger


def published(ledger: SharedLedger, made: Made) -> int:
    """Publish a refresh or resharing; the index of its entry. This process notices without a restart."""
    done = publish_sharing(ledger.rt.settings, ledger.rt.engine, made.sharing, ledger.clock())
    ledger.rt.members.refresh()
    return done.entry_index


def files_of(made: Made) -> RotationFiles:
    return RotationFiles(made.sharing, tuple(made.certificates.values()))


def rotated(ledger: SharedLedger, made: Made | None) -> rotation.Switched:
    files = None if made is None else files_of(made)
    done = rotation.rotate(ledger.rt.settings, ledger.rt.engine, ledger.clock, files=files)
    ledger.rt.members.refresh()
    return done


def rows(engine: Engine) -> list[tuple[object, ...]]:
    with reading(engine) as connection:
        subjects = connection.execute(select(Subject.__table__).order_by(Subject.report_id, Subject.slot)).all()
        listings = connection.execute(select(Listing.__table__).order_by(Listing.report_id, Listing.slot)).all()
    return [tuple(row) for row in (*subjects, *listings)]


@pytest.mark.one_engine
def test_a_refresh_changes_the_holders_and_no_tag(ledger: SharedLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []

    def emitting(*arguments: Any) -> None:
        sent.append(arguments[-1])
        emit.emit_all(*arguments)

    monkeypatch.setattr("ledger.server.rotation.convert.emit_all", emitting)
    ledger.report(1)
    before, seen = rows(ledger.rt.engine), ledger.seen(1)
    refreshed = ledger.holders.refresh()
    index = published(ledger, refreshed)
    assert rows(ledger.rt.engine) == before
    assert ledger.seen(1, 1, 2) == ledger.seen(1) == seen, "elements of either generation are the same"
    body = body_of(ledger.rt.engine, index)
    assert (body["kind"], body["epoch"], body["generation"], body["threshold"]) == ("refresh", 1, 2, 2)
    assert (body["previous_entry"], body["statement_entry"]) == (0, index)
    (epoch,) = suite(ledger.rt.settings, ledger.rt.keys, ledger.rt.policies.timeline, ledger.clock())["epochs"]
    assert (epoch["generation"], epoch["entry_index"]) == (2, index)
    assert {holder["public_key"] for holder in epoch["holders"]}.isdisjoint(
        holder["public_key"] for holder in body_of(ledger.rt.engine, 0)["holders"]
    )
    assert sent == [{"epoch": 1, "state": "refreshed", "entry_index": index}]
    ledger.report(2, 1, 2)
    assert ledger.seen(2)[2] == 1, "a report with shares of the new generation is one under the same key"
    assert ledger.verified().sharings_count == 2


@on_one_engine
def test_publishing_again_only_stores_addresses(ledger: SharedLedger) -> None:
    made = ledger.holders.refresh()
    index = published(ledger, made)
    moved = ledger.holders.holders["north"]
    moved.url = "https://north-2.example"
    card = {**made.cards, "north": made.moved("north", moved)}
    again = publish_sharing(
        ledger.rt.settings, ledger.rt.engine, Made(made.statement, card, {}, {}).sharing, ledger.clock()
    )
    assert (again.is_new, again.entry_index) == (False, index)
    ledger.rt.members.refresh()
    assert ledger.rt.keys.current.holders[0].url == "https://north-2.example"
    assert ledger.verified().sharings_count == 2


@on_one_engine
def test_a_resharing_needs_the_holders_that_leave(ledger: SharedLedger) -> None:
    ledger.report(1)
    seen = ledger.seen(1)
    for name in ("east", "mid"):
        ledger.holders.add(name, f"{name.capitalize()} Ltd")
    made = ledger.holders.reshare(2, ["north", "east", "mid"])
    assert len(made.leaving) == 2
    alone = Made(made.statement, made.cards, {}, {})
    with pytest.raises(InvalidSignature):
        published(ledger, alone)
    index = published(ledger, made)
    body = body_of(ledger.rt.engine, index)
    assert (body["kind"], len(body["endorsements"])) == ("reshare", 5)
    assert {holder["id"] for holder in body["holders"]} == {"north", "east", "mid"}
    assert ledger.seen(1, 1, 2) == seen
    assert ledger.verified().sharings_count == 2


@on_one_engine
def test_sharings_that_do_not_follow_are_refused(ledger: SharedLedger) -> None:
    settings, engine, now = ledger.rt.settings, ledger.rt.engine, ledger.clock()
    second = ledger.holders.refresh()
    third = ledger.holders.refresh()
    with pytest.raises(HolderMismatch):
        publish_sharing(settings, engine, third.sharing, now)
    published(ledger, second)
    published(ledger, third)
    with pytest.raises(HolderMismatch):
        publish_sharing(settings, engine, second.sharing, now)
    turned = ledger.holders.rotate()
    with pytest.raises(InvalidRequest, match="rotate --card"):
        publish_sharing(settings, engine, turned.sharing, now)
    # Two machines have both checked: the second one finds the first one's entry under the head.
    with writing(engine) as connection, pytest.raises(RotationRefused):
        open_head(connection, now)
        append_sharing(connection, settings, second.sharing, now)
    assert ledger.verified().sharings_count == 3


def test_a_rotation_by_the_holders(ledger: SharedLedger) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    for number in range(4):
        ledger.report(number)
    seen = [ledger.seen(number) for number in range(6)]
    published(ledger, ledger.holders.refresh())
    turned = ledger.holders.rotate()
    with pytest.raises(RotationRefused, match="holder rotate"):
        rotated(ledger, None)
    announced = rotation.announce(settings, engine, ledger.clock(), files=files_of(turned))
    assert (announced.epoch, announced.state, announced.threshold, announced.generation) == (2, "next", 2, 1)
    assert announced.public_key == turned.statement.keys.public_key
    with reading(engine) as connection:
        assert connection.execute(select(OprfGrant)).all() == [], "holders grant elements, the ledger evaluates none"
    path = factor_path(settings, 2)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_bytes()
    done = rotated(ledger, turned)
    assert path.read_bytes() == text
    assert (done.elements, done.old_epoch, done.new_epoch) == (8, 1, 2)
    assert [ledger.seen(number, 2, 1) for number in range(6)] == seen
    assert [ledger.seen(number, 1, 2) for number in range(6)] == seen, "grace"
    assert places(engine, Listing, 1) == places(engine, Listing, 2)
    # Reports in the grace are listed under both epochs, whichever they were made under.
    ledger.report(4, 1, 2)
    ledger.report(5, 2, 1)
    for number in (4, 5):
        assert ledger.seen(number, 1, 2)[2] == ledger.seen(number, 2, 1)[2] == 1
    report = audited(ledger.rt, done.audit_dir)
    assert (report.elements, report.threshold, report.holders, report.sharings) == (8, 2, ("north", "south", "west"), 3)
    pinned = parse_service(suite(settings, ledger.rt.keys, ledger.rt.policies.timeline, ledger.clock()))
    assert audited(ledger.rt, done.audit_dir, pinned=pinned) == report
    other = Holders(ledger.holders.card).generate().statement.keys
    foreign = replace(pinned, epochs=tuple([replace(epoch, keys=other) for epoch in pinned.epochs]))
    with pytest.raises(HolderMismatch, match="suite file"):
        audited(ledger.rt, done.audit_dir, pinned=foreign)
    # The holders may refresh the new key while the old one still answers.
    published(ledger, ledger.holders.refresh())
    assert ledger.seen(4, 2, 2)[2] == 1
    ledger.clock.moment += GRACE
    retire(settings, engine, ledger.clock)
    ledger.rt.members.refresh()
    with pytest.raises(StaleEpoch):
        ledger.seen(1, 1, 2)
    late = audited(ledger.rt, settings.keys_dir / "rotation-1-2-late")
    assert (late.elements, late.late, late.sharings) == (2, True, 3)
    (settings.keys_dir / f".{path.name}.0123456789abcdef").write_bytes(text)  # a killed write left it
    ledger.clock.moment += 2 * SETTLE
    assert destroy_settled(settings, engine, ledger.clock) == [1]
    assert not [file.name for file in settings.keys_dir.iterdir() if "factor" in file.name]
    assert places(engine, Subject, 1) == set()
    assert ledger.seen(4, 2, 2)[2] == 1
    assert ledger.verified().sharings_count == 4
    assert [row.state for row in epochs(engine).values()] == ["retired", "current"]
    # And once more, from the refreshed generation.
    assert rotated(ledger, ledger.holders.rotate()).new_epoch == 3
    assert ledger.seen(4, 3, 1)[2] == 1
    assert ledger.verified().sharings_count == 5


@pytest.mark.one_engine
def test_a_refresh_of_the_announced_key_does_not_stop_its_rotation(ledger: SharedLedger) -> None:
    ledger.report(1)
    known = ledger.holders.now
    rotation.announce(ledger.rt.settings, ledger.rt.engine, ledger.clock(), files=files_of(ledger.holders.rotate()))
    turned = ledger.holders.now
    refreshed = ledger.holders.refresh()
    ledger.holders.now = known
    old = ledger.holders.refresh()
    with pytest.raises(HolderMismatch):
        published(ledger, old)
    ledger.holders.now = refreshed.statement
    index = published(ledger, refreshed)
    body = body_of(ledger.rt.engine, index)
    assert (body["kind"], body["epoch"], body["next"]["epoch"], body["next"]["generation"]) == ("refresh", 1, 2, 2)
    assert body["next"]["statement_entry"] == index
    assert turned is not None
    done = rotated(ledger, None)
    assert (done.new_epoch, done.elements) == (2, 2)
    assert ledger.seen(1, 2, 2)[2] == 1
    assert audited(ledger.rt, done.audit_dir).sharings == 3
    assert ledger.verified().sharings_count == 3


@on_one_engine
def test_false_files_of_a_rotation_announce_nothing(ledger: SharedLedger, tmp_path: Path) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    known = ledger.holders.now
    turned = ledger.holders.rotate()
    ledger.holders.now = known
    other = ledger.holders.rotate()
    good = files_of(turned)
    altered = json.loads(good.certificates[0])
    altered["payload"] = ("A" if altered["payload"][-9] != "A" else "B").join(
        (altered["payload"][:-9], altered["payload"][-8:])
    )
    refused: list[tuple[type[LedgerError], RotationFiles]] = [
        (CeremonyFault, RotationFiles(good.sharing, good.certificates[:2])),
        (CeremonyFault, RotationFiles(good.sharing, (json.dumps(altered).encode(), *good.certificates[1:]))),
        (LedgerError, RotationFiles(good.sharing, files_of(other).certificates)),
    ]
    for error, files in refused:
        with pytest.raises(error):
            rotation.announce(settings, engine, ledger.clock(), files=files)
    assert len(epochs(engine)) == 1
    assert not factor_path(settings, 2).exists()
    other_folder = settings.model_copy(update={"keys_dir": tmp_path / "away"})
    shutil.copytree(settings.keys_dir, other_folder.keys_dir)
    (other_folder.keys_dir / "receiving.key").unlink()
    with pytest.raises(ConfigurationError, match=r"receiving\.key"):
        rotation.announce(other_folder, engine, ledger.clock(), files=good)
    factor_path(settings, 2).write_text(factor_text(ledger, other))
    factor_path(settings, 2).chmod(0o600)
    with pytest.raises(ConfigurationError, match="another rotation"):
        rotation.announce(settings, engine, ledger.clock(), files=good)
    factor_path(settings, 2).unlink()
    assert rotation.announce(settings, engine, ledger.clock(), files=good).epoch == 2
    with pytest.raises(RotationRefused, match="another key"):
        rotation.announce(settings, engine, ledger.clock(), files=files_of(other))


def factor_text(ledger: SharedLedger, made: Made) -> str:
    """The factor of a rotation from the secrets themselves."""
    old = ledger.holders.secret(1, 1)
    new = ledger.holders.secret(made.statement.epoch, 1)
    factor = sodium.scalar_mul(new, sodium.scalar_invert(old))
    return json.dumps({"from": 1, "to": 2, "factor": b64url(factor)})


@on_one_engine
def test_a_server_without_the_factor_waits_and_one_with_a_wrong_factor_does_not_start(ledger: SharedLedger) -> None:
    settings = ledger.rt.settings
    ledger.report(1)
    rotated(ledger, ledger.holders.rotate())
    path = factor_path(settings, 2)
    text = path.read_text()
    path.unlink()
    rt = open_runtime(settings, ledger.clock, upkeep=False)
    try:
        apart = SharedLedger(rt, ledger.clock, ledger.holders, ledger.first, ledger.acme, ledger.bolt)
        assert apart.seen(1, 2, 1)[2] == 1, "lookups need no factor"
        with pytest.raises(Unavailable):
            apart.report(2, 2, 1)
        path.write_text(text)
        path.chmod(0o600)
        rt.members.refresh()
        apart.report(2, 2, 1)
        assert apart.seen(2, 1, 1)[2] == 1
    finally:
        rt.close(5)
    members = json.loads(text)
    wrong = {**members, "factor": "Ag" + "A" * 41}
    path.write_text(json.dumps(wrong))
    with pytest.raises(ConfigurationError, match="call everyone clear"):
        open_runtime(settings)
    path.write_text(json.dumps({**members, "from": 2, "to": 3}))
    with pytest.raises(ConfigurationError, match="other epochs"):
        open_runtime(settings)
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match="damaged"):
        open_runtime(settings)


@on_one_engine
def test_a_false_proof_of_the_multiple_is_refused(ledger: SharedLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = ledger.holders.rotate()

    def refuse(*_arguments: bytes) -> None:
        raise InvalidProof("false")

    monkeypatch.setattr("ledger.server.rotation.sharings.verify_multiple", refuse)
    with pytest.raises(InvalidProof):
        rotated(ledger, turned)
    assert len(epochs(ledger.rt.engine)) == 1


@on_one_engine
def test_the_status_says_who_holds_the_key(ledger: SharedLedger) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    assert [status.key_here for status in rotation.status(settings, engine)] == [None]
    rotated(ledger, ledger.holders.rotate())
    old, new = rotation.status(settings, engine)
    assert (old.key_here, new.key_here, new.row.threshold, len(new.row.holders)) == (None, True, 2, 3)
    factor_path(settings, 2).unlink()
    assert rotation.status(settings, engine)[1].key_here is False
    with reading(engine) as connection:
        assert {row.holder for row in connection.execute(select(KeyEpoch.holder))} == {None}
