"""Receipts: fetched, verified against the pinned log key, and compared with the last checkpoint seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.client.identity.suite import Suite
from ledger.client.models.reports import AcceptedReport
from ledger.client.state import SeenCheckpoint
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.http import Transport
from ledger.errors import InvalidReceipt, LedgerError, ReceiptPending
from ledger.protocol.encoding import b64url, format_time, unb64url
from ledger.rules.reports import verify_signature
from ledger.tlog.checkpoint import Checkpoint
from ledger.tlog.proof import EntryReceipt, is_sealed, open_receipt, open_sealed_receipt

PAUSE_SECONDS = 0.25
"""Between two questions for a receipt that is not there yet; checkpoints come every second."""


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """Proof, checked, that the log holds the report. `text` is the C2SP tlog-proof: keep it, it proves offline.
    `signed_by` is the platform's key under which the report verifies."""

    report_id: str
    text: str
    receipt: EntryReceipt
    signed_by: Ed25519PublicKey


def fetch_receipt(
    transport: Transport,
    report_id: str,
    seconds: float,
    attempt_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return the text of a receipt, waiting up to `seconds` for a checkpoint to cover it.

    Raises ReceiptPending, NotFound, InvalidReceipt (no text), Unavailable."""
    deadline = Deadline(seconds)
    while True:
        answer = transport.retrying(
            max(deadline.left(), attempt_seconds),
            lambda limit: transport.send("GET", f"/v1/reports/{report_id}/receipt", limit),
            attempt_seconds,
        )
        if answer.status == 200:
            try:
                return answer.body.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InvalidReceipt("The receipt is not text.") from error
        if deadline.left() <= PAUSE_SECONDS:
            raise ReceiptPending("No checkpoint covers this report yet. Ask again.", retry_after_seconds=1)
        sleep(PAUSE_SECONDS)


def check_receipt(
    text: str,
    report_id: str,
    suite: Suite,
    public_keys: Sequence[Ed25519PublicKey],
    accepted: AcceptedReport | None = None,
) -> VerifiedReceipt:
    """Check that `text` proves that the pinned log holds report `report_id` as this platform signed it.

    `public_keys` are the platform's Ed25519 keys, of which one must have signed; `accepted` is the answer to the
    report, where the caller has it. Raises InvalidReceipt, InvalidCheckpoint, InvalidInclusion.
    """
    receipt = open_receipt(text, suite.pinned.log_origin, suite.log_public)
    entry = receipt.entry
    if entry.get("type") != "report" or entry.get("id") != report_id or entry.get("platform") != suite.platform:
        raise InvalidReceipt("The receipt proves another entry than the one asked for.")
    raw, signed_by = _signature(entry, public_keys)
    if accepted is not None:
        # The answer to a report that was first sent from another state folder names no signature.
        expected = accepted.signature or b64url(raw), accepted.entry_index
        if expected != (b64url(raw), receipt.index):
            raise InvalidReceipt("The receipt proves another report or place than the ledger's answer said.")
    return VerifiedReceipt(report_id, text, receipt, signed_by)


@dataclass(frozen=True, slots=True)
class OfflineReceipt:
    """The facts that a receipt proves without a network. `entry` is None where the receipt is sealed: then the log
    holds an event at `index`, and its content stays unknown."""

    index: int
    hour: str
    checkpoint: Checkpoint
    entry: dict[str, Any] | None


def check_offline(
    text: str, origin: str, log_public_key: bytes, platform_keys: Sequence[Ed25519PublicKey] = ()
) -> OfflineReceipt:
    """Verify the receipt of a report of any platform, whole or sealed, with keys alone: the log's and, if they are
    given, those of the platform, of which one must have signed the report. A sealed receipt shows no signature to
    check.

    Raises InvalidReceipt, InvalidCheckpoint, InvalidLeaf, InvalidInclusion.
    """
    if is_sealed(text):
        leaf, checkpoint = open_sealed_receipt(text, origin, log_public_key)
        return OfflineReceipt(leaf.index, format_time(leaf.hour), checkpoint, None)
    receipt = open_receipt(text, origin, log_public_key)
    if platform_keys:
        _signature(receipt.entry, platform_keys)
    return OfflineReceipt(receipt.index, receipt.hour, receipt.checkpoint, receipt.entry)


def _signature(entry: dict[str, Any], public_keys: Sequence[Ed25519PublicKey]) -> tuple[bytes, Ed25519PublicKey]:
    """Return the signature (64 bytes) over the entry's body, and the key it verifies under. Raises InvalidReceipt."""
    body, signed = entry.get("body"), entry.get("signature")
    try:
        if not isinstance(body, dict) or not isinstance(signed, str):
            raise InvalidReceipt("The entry of this receipt holds no signed body.")
        raw = unb64url(signed, 64)
    except LedgerError as error:
        raise InvalidReceipt("The entry of this receipt holds no signature.") from error
    for key in public_keys:
        with suppress(LedgerError):
            verify_signature(body, raw, key)
            return raw, key
    raise InvalidReceipt("The entry of this receipt does not hold what a known key of this platform signed.")


def log_fetcher(transport: Transport, attempt_seconds: float) -> Callable[[str], bytes]:
    """Return a function that reads the log's resources (`checkpoint`, `tile/0/000`) for `ledger.client.verify.log`."""

    def fetch(path: str) -> bytes:
        return transport.retrying(
            2 * attempt_seconds, lambda limit: transport.send("GET", f"/log/{path}", limit).body, attempt_seconds
        )

    return fetch


def accept_receipt(
    verified: VerifiedReceipt, seen: SeenCheckpoint, transport: Transport, attempt_seconds: float
) -> None:
    """Check that the receipt's checkpoint continues the last one seen. Raises Equivocation and what a fetch raises."""
    note = verified.text.partition("\n\n")[2]
    seen.accept(note, log_fetcher(transport, attempt_seconds))
