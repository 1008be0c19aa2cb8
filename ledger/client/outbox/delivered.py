"""Notes of delivered reports: a job that runs twice gets the same answers and reports nothing twice.

A note holds the idempotency key, keyed digests (HMAC under the platform's order key) of the report, and the ledger's
answer: no element, no tag, no salt. It is forgotten when the ledger erases the report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ledger.client.models.reports import AcceptedReport, Delivery, parse_accepted
from ledger.client.outbox.store import DeliveredReport, Item, New
from ledger.errors import IdempotencyMismatch
from ledger.protocol.encoding import canonical_json, format_time

ERASED_AFTER = timedelta(days=60)
"""The ledger erases a report this long after its expiry."""

_NOT_SAID = frozenset({"v", "service", "platform", "kid", "epoch", "subjects"})
"""Members of a body that the caller does not choose, or that are compared separately."""

Mac = Callable[[bytes], bytes]


def note_of(item: Item, accepted: AcceptedReport, mac: Mac) -> DeliveredReport:
    """Return the note of a delivered report."""
    said, epoch, subjects = _digests(item.content, mac)
    answer = {name: _plain(value) for name, value in msgspec.structs.asdict(accepted).items()}
    forget_at = accepted.expires_at + ERASED_AFTER
    return DeliveredReport(item.idempotency_key, said, epoch, subjects, answer, forget_at)


def delivered_before(new: New, note: DeliveredReport, mac: Mac) -> Delivery[AcceptedReport]:
    """Return the answer to a report that was delivered before under the same key; IdempotencyMismatch for another
    report.

    Persons are compared under one key epoch only: under another one the same person has other elements.
    """
    said, epoch, subjects = _digests(new.content, mac)
    if said != note.fields or (epoch == note.epoch and subjects != note.subjects):
        error = IdempotencyMismatch("This idempotency key was used for a different report.", report=note.answer["id"])
        return Delivery(new.idempotency_key, "refused", error=error)
    accepted = msgspec.structs.replace(parse_accepted(note.answer), signature=str(note.answer["signature"]))
    return Delivery(new.idempotency_key, "accepted", accepted, replayed=True)


def _digests(content: bytes, mac: Mac) -> tuple[bytes, int, bytes]:
    """Return a keyed digest of a report's statements, its key epoch, and a keyed digest of its subjects, from its
    request body."""
    sent: Mapping[str, Any] = json.loads(content)
    body = sent["body"]
    said = {name: value for name, value in body.items() if name not in _NOT_SAID}
    people = sorted([subject["kind"], subject["element"]] for subject in sent["subjects"])
    return mac(b"said\n" + canonical_json(said)), body["epoch"], mac(b"subjects\n" + canonical_json({"of": people}))


def _plain(value: object) -> object:
    return format_time(value) if isinstance(value, datetime) else value
