"""The audit of a rotation with false files, keys and log entries."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.verify.rotation import Places, verify_rotation
from ledger.errors import ConfigurationError, HolderMismatch, InvalidCheckpoint, InvalidRotation, ReceiptPending
from ledger.protocol import sodium
from ledger.server.keys.files import load_oprf, raw_public
from ledger.server.platforms.suite import suite
from ledger.server.reports.reports import submit_report
from ledger.server.rotation import fill
from ledger.server.rotation.run import rotate
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.key_rotation import Batch, RotationKeys, format_batch, parse_batch, prove, rotation_factor
from tests.counts import trials
from tests.rotations import audited, batches, change_facts, log_of, subjects_under
from tests.server.conftest import LedgerFixture
from tests.support import publish, report_payload

pytestmark = pytest.mark.parametrize("migrated_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True)

REPORTS = 5


@pytest.fixture
def folder(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the audit folder of a rotation of ten subjects, in three batches."""
    monkeypatch.setattr(fill, "PROOF_BATCH", 4)
    for number in range(REPORTS):
        payload = report_payload(ledger.rt, ledger.acme, subjects_under(ledger.rt.settings, 1, number))
        submit_report(ledger.rt.reports, ledger.acme.member(), payload, f"k{number}").result(60)
    done = rotate(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    ledger.rt.members.refresh()
    assert audited(ledger.rt, done.audit_dir).batches == 3
    return done.audit_dir


def rewrite(path: Path, change: Callable[[Batch], Batch], proof: Callable[[Batch], bytes] | None = None) -> None:
    """Return a batch file with changed content and the right digest over it."""
    batch = change(parse_batch(path.read_bytes()))
    path.write_bytes(
        format_batch(batch.items, batch.proof if proof is None else proof(batch), batch.keys, batch.number)
    )


def test_every_byte_counts(ledger: LedgerFixture, folder: Path) -> None:
    path = batches(folder)[1]
    good = path.read_bytes()
    for number, place in enumerate(range(0, len(good), trials(31, 23))):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        fitting = changed[:-32] + sha256(changed[:-32]).digest()
        # A digest that does not fit is refused in one place, whatever was changed; one that fits in many.
        for data in (changed, fitting) if number % trials(5, 1) == 0 or fitting == good else (fitting,):
            path.write_bytes(data)
            if data != good:  # computing a changed digest again gives the old one
                with pytest.raises(InvalidRotation):
                    audited(ledger.rt, folder)
    path.write_bytes(good)
    audited(ledger.rt, folder)


def test_batches_cut_lost_doubled_or_out_of_order(ledger: LedgerFixture, folder: Path) -> None:
    first, second, third = batches(folder)
    a, b, c = (path.read_bytes() for path in (first, second, third))

    def refused(*contents: bytes) -> None:
        for path, data in zip((first, second, third), contents, strict=False):
            path.write_bytes(data)
        for path in (first, second, third)[len(contents) :]:
            path.unlink(missing_ok=True)
        with pytest.raises(InvalidRotation):
            audited(ledger.rt, folder)

    refused(a, b, c[:-1])
    refused(a, b, b"")
    refused(a, b)
    refused(a, c)
    refused(b, a, c)
    refused(a, b, b)
    refused(a, b, c + b"x")
    refused()


def test_a_true_proof_of_something_else(ledger: LedgerFixture, folder: Path) -> None:
    """The prover has the keys and computes valid proofs of other elements; only the root in the log is different."""
    settings = ledger.rt.settings
    factor = rotation_factor(*[load_oprf(settings, epoch)[2] for epoch in (1, 2)])
    path = batches(folder)[2]
    good = path.read_bytes()

    def proof(batch: Batch) -> bytes:
        old, new = [item.old_element for item in batch.items], [item.new_element for item in batch.items]
        return prove(factor, batch.keys, old, new, secrets.token_bytes(64))

    def fewer(batch: Batch) -> Batch:
        return replace(batch, items=batch.items[:1])

    def other_person(batch: Batch) -> Batch:
        element = sodium.scalarmult_base(sodium.scalar_reduce(secrets.token_bytes(64)))
        item = replace(batch.items[0], old_element=element, new_element=sodium.scalarmult(factor, element))
        return replace(batch, items=(item, *batch.items[1:]))

    def other_salt(batch: Batch) -> Batch:
        return replace(batch, items=(replace(batch.items[0], new_salt=bytes(32)), *batch.items[1:]))

    def swapped(batch: Batch) -> Batch:
        a, b = batch.items
        return replace(
            batch,
            items=(
                replace(a, new_element=b.new_element, old_element=b.old_element),
                replace(b, new_element=a.new_element, old_element=a.old_element),
            ),
        )

    for change in (fewer, other_person, other_salt, swapped):
        rewrite(path, change, proof)
        with pytest.raises(InvalidRotation, match="log"):
            audited(ledger.rt, folder)
        path.write_bytes(good)
    rewrite(path, lambda batch: batch, proof)
    audited(ledger.rt, folder)


def test_elements_that_were_not_converted(ledger: LedgerFixture, folder: Path) -> None:
    """One person is still under the old key, and everything else is right: the proof is not valid."""

    def not_converted(batch: Batch) -> Batch:
        return replace(batch, items=(replace(batch.items[0], new_element=batch.items[0].old_element), *batch.items[1:]))

    rewrite(batches(folder)[0], not_converted)
    with pytest.raises(InvalidRotation, match="proof"):
        audited(ledger.rt, folder)


def test_batches_of_another_rotation(ledger: LedgerFixture, folder: Path) -> None:
    def other_keys(batch: Batch) -> Batch:
        return replace(batch, keys=RotationKeys(2, 3, batch.keys.new_public, batch.keys.old_public))

    rewrite(batches(folder)[0], other_keys)
    with pytest.raises(InvalidRotation, match="other epochs or keys"):
        audited(ledger.rt, folder)


def test_the_log_and_not_the_folder_is_believed(ledger: LedgerFixture, folder: Path) -> None:
    facts = json.loads((folder / "rotation.json").read_text())
    report, announcement = facts["switch_entry"] - 2, facts["switch_entry"] - 1
    for entry in (0, 1, report, announcement):
        change_facts(folder, switch_entry=entry, root_entry=entry)
        with pytest.raises(InvalidRotation):
            audited(ledger.rt, folder)
        change_facts(folder, switch_entry=facts["switch_entry"], root_entry=entry)
        with pytest.raises(InvalidRotation):
            audited(ledger.rt, folder)
    change_facts(folder, switch_entry=facts["switch_entry"] + 1, root_entry=facts["switch_entry"] + 1)
    with pytest.raises(ReceiptPending):
        audited(ledger.rt, folder)
    for text in ("", "[]", "{}", '{"switch_entry": "1", "root_entry": -1}'):
        (folder / "rotation.json").write_text(text)
        with pytest.raises(ConfigurationError):
            audited(ledger.rt, folder)


def test_another_log_key_or_suite(ledger: LedgerFixture, folder: Path) -> None:
    rt = ledger.rt
    origin = rt.settings.origin
    with pytest.raises(InvalidCheckpoint):
        audited(rt, folder, verifier_key(origin, raw_public(Ed25519PrivateKey.generate())))
    publish(rt.settings)
    served = suite(rt.settings, rt.keys, rt.policies.timeline, rt.now())
    fetch = log_of(rt)

    def verify(changed: dict[str, Any]) -> None:
        from ledger.client.identity.suite import parse_service
        from ledger.tlog.checkpoint import parse_verifier_key

        facts = json.loads((folder / "rotation.json").read_text())
        places = Places(facts["switch_entry"], facts["root_entry"])
        key = parse_verifier_key(rt.keys.log_verifier_key)[1]
        verify_rotation(folder, places, fetch, fetch("checkpoint").decode(), parse_service(changed), origin, key)

    verify(served)
    for number in (0, 1):
        holder = {"id": "ledger", "url": None, "public_key": served["epochs"][1 - number]["holders"][0]["public_key"]}
        epochs = [dict(epoch) for epoch in served["epochs"]]
        epochs[number] = {**epochs[number], "holders": [holder]}
        with pytest.raises(HolderMismatch):
            verify({**served, "epochs": epochs})


def test_an_empty_rotation_can_be_checked(ledger: LedgerFixture) -> None:
    done = rotate(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    assert audited(ledger.rt, done.audit_dir).elements == 0
