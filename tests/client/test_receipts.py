"""Receipts and the last checkpoint seen: what a false log would have to show, and does not get through."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.client.state import CHECKPOINT_FILE, SeenCheckpoint
from ledger.client.verify.receipts import check_receipt
from ledger.errors import Equivocation, InvalidReceipt, LedgerError, ReceiptPending
from ledger.server.keys.files import load_log_key
from ledger.tlog.checkpoint import Checkpoint, open_checkpoint, sign
from tests.faulty import answering
from tests.kit import Connect, Running, person, report_arguments


def test_every_receipt_continues_the_last_checkpoint_seen(connect: Connect, tmp_path: Path) -> None:
    acme = connect()
    sizes = []
    for _ in range(2):
        sent = acme.reports.create(acme.tag(**person()), **report_arguments()).report
        assert sent is not None
        acme.reports.receipt(sent)
        note = (tmp_path / "state-acme" / CHECKPOINT_FILE).read_text()
        pinned = acme.suite.pinned
        sizes.append(open_checkpoint(note, pinned.log_origin, acme.suite.log_public).size)
        assert sizes[-1] > sent.entry_index
    assert sizes[1] > sizes[0]


def test_a_log_that_told_another_history_is_caught(running: Running, connect: Connect, tmp_path: Path) -> None:
    """The operator signs two histories with the true key: a platform that saw the other one notices."""
    acme = connect()
    pinned = acme.suite.pinned
    sent = acme.reports.create(acme.tag(**person()), **report_arguments()).report
    assert sent is not None
    forged = sign(Checkpoint(pinned.log_origin, 2, b"\x07" * 32), load_log_key(running.settings))
    path = tmp_path / "state-acme" / CHECKPOINT_FILE
    path.write_text(forged)
    with pytest.raises(Equivocation):
        acme.reports.receipt(sent)
    assert path.read_text() == forged, "the evidence stays"
    path.unlink()
    acme.reports.receipt(sent)


def test_a_receipt_must_be_of_this_very_report(connect: Connect) -> None:
    acme, bazaar = connect("acme"), connect("bazaar")
    buyer = acme.tag(**person())
    first, second = (acme.reports.create(buyer, **report_arguments()).report for _ in range(2))
    assert first is not None
    assert second is not None
    text, key = acme.reports.receipt(first).text, acme.public_keys
    check_receipt(text, first.id, acme.suite, key, first)
    with pytest.raises(InvalidReceipt):
        check_receipt(text, second.id, acme.suite, key)
    with pytest.raises(InvalidReceipt):
        check_receipt(text, first.id, acme.suite, key, second)
    with pytest.raises(InvalidReceipt):
        check_receipt(text, first.id, bazaar.suite, bazaar.public_keys)
    with pytest.raises(InvalidReceipt):
        check_receipt(text, first.id, acme.suite, bazaar.public_keys)


def test_one_changed_character_anywhere_spoils_a_receipt(connect: Connect) -> None:
    acme = connect()
    sent = acme.reports.create(acme.tag(**person()), **report_arguments()).report
    assert sent is not None
    text = acme.reports.receipt(sent).text
    for place in range(0, len(text), 7):
        other = "A" if text[place] != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        with pytest.raises(LedgerError):
            check_receipt(changed, sent.id, acme.suite, acme.public_keys, sent)


def test_a_receipt_that_does_not_come_is_pending(running: Running, connect: Connect) -> None:
    suite = running.suite("acme").read_text()

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, suite.encode()) if path == "/v1/suite" else (202, {}, b'{"code": "receipt_pending"}')

    with answering(respond) as url, pytest.raises(ReceiptPending):
        connect(url=url).reports.receipt("rp_abcdefgh", wait_seconds=0.3)


def test_an_unsigned_checkpoint_is_never_kept(tmp_path: Path, connect: Connect) -> None:
    acme = connect()
    path = tmp_path / "deep" / "seen"
    seen = SeenCheckpoint(path, acme.suite.pinned.log_origin, acme.suite.log_public)
    with pytest.raises(LedgerError):
        seen.accept("nonsense\n", lambda _: b"")
    assert seen.note() is None
