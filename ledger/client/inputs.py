"""Checks of the arguments of the SDK's calls, before a request is built, stored or sent.

Each raises a LedgerError whose message names the argument and the remedy, and whose `details["field"]` is the
argument's name. No message repeats a value that may be personal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import get_args

from ledger.client.choices import Purpose
from ledger.client.lookups.request import Refund
from ledger.client.models.pictures import PictureHash
from ledger.client.subjects import Buyer, Identifiers
from ledger.errors import (
    EvidenceInvalid,
    InvalidIdentifier,
    InvalidReport,
    InvalidRequest,
    InvalidTime,
    LedgerError,
    UnknownConduct,
)
from ledger.protocol.currencies import MINOR_DIGITS
from ledger.protocol.encoding import MAX_INTEGER
from ledger.protocol.identifiers import Kind
from ledger.rules.conduct import Conduct, Evidence
from ledger.rules.consent import fault_of_reference
from ledger.rules.guidance import Claim
from ledger.rules.reports import RefundOutcome
from ledger.tlog.entries import LEDGER_REASONS, WithdrawalReason

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
REASONS = tuple(sorted(set(WithdrawalReason) - LEDGER_REASONS))
"""Why a platform may take a report back."""
LIKENESS = 0.5
"""How alike a known name must be to be suggested (`difflib` ratio): `amont` finds `amount_minor`."""
DIGEST_BYTES = 32
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
_PUBLIC_ID = re.compile(r"[a-z]{2}_[A-Za-z0-9]{1,29}")
_CALLED = {
    "rp": "A report",
    "ap": "An appeal",
    "at": "An attachment",
    "lk": "A lookup",
    "we": "A webhook endpoint",
    "wm": "A webhook message",
}


def check_idempotency_key(key: object) -> str:
    """Return `key`, which must be fit to be an idempotency key. Raises InvalidRequest."""
    if not isinstance(key, str) or not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("An idempotency key has 1 to 255 visible ASCII characters, no spaces.")
    return key


def check_id(prefix: str, value: object) -> str:
    """Return `value`, which must be a public id with this prefix (rp, ap, at, lk, we, wm): text that is safe in a path.
    Raises InvalidRequest."""
    if not isinstance(value, str) or not _PUBLIC_ID.fullmatch(value) or not value.startswith(f"{prefix}_"):
        raise InvalidRequest(f"{_CALLED[prefix]}'s id looks like {prefix}_ and letters and digits.")
    return value


def check_text(name: str, value: object, kind: type[LedgerError] = InvalidRequest) -> str:
    """Return `value`, which must be Unicode text. Raises `kind`."""
    if not isinstance(value, str):
        remedy = f" Write it as text: str({name})." if isinstance(value, int) and not isinstance(value, bool) else ""
        raise kind(f"{name} must be text, not {_called(value)}.{remedy}", field=name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise kind(f"{name} is not valid Unicode text: it holds half of a character pair.", field=name) from None
    return value


def check_optional_text(name: str, value: object, kind: type[LedgerError] = InvalidRequest) -> None:
    """Check that `value` is Unicode text or None. Raises `kind`."""
    if value is not None:
        check_text(name, value, kind)


def check_choice(name: str, value: object, known: Sequence[str], kind: type[LedgerError] = InvalidRequest) -> str:
    """Return `value`, which must be one of `known`. Raises `kind` with the list in its message and details."""
    if not isinstance(value, str) or value not in known:
        raise kind(f"{name} must be one of: {', '.join(known)}.", field=name, known=list(known))
    return value


def check_identifiers(value: object, region: object) -> Identifiers:
    """Return one person's raw identifiers by kind. Raises InvalidIdentifier, InvalidRequest."""
    kinds = ", ".join(Kind)
    if not isinstance(value, Mapping):
        raise InvalidIdentifier(
            f"A buyer is a Buyer made by subject(), or a dict of identifiers by kind such as "
            f'{{"phone": "+86 138 0013 8000"}}, not {_called(value)}.',
            field="buyer",
        )
    if not value:
        raise InvalidIdentifier(f"A buyer needs at least one identifier of: {kinds}.", field="buyer")
    for kind, raw in value.items():
        if kind not in set(Kind):
            raise InvalidIdentifier(f"Unknown kind of identifier. Kinds are: {kinds}.", field="buyer", known=[*Kind])
        if not isinstance(raw, str):
            raise InvalidIdentifier(f"The identifier {kind} must be text, not {_called(raw)}.", field=str(kind))
    if region is not None and not (isinstance(region, str) and len(region) == 2 and region.isascii()):
        raise InvalidRequest("region must be an ISO 3166 country code of two letters, such as CN.", field="region")
    return value


def check_refund(value: object) -> None:
    """Check a refund, or None. Raises InvalidRequest."""
    if value is None:
        return
    if not isinstance(value, Refund):
        raise InvalidRequest(
            f'refund must be a Refund, such as Refund(12900, "CNY", "damaged"), not {_called(value)}.', field="refund"
        )
    check_amount("refund.amount_minor", value.amount_minor, InvalidRequest)
    check_currency("refund.currency", value.currency, InvalidRequest)
    check_choice("refund.claim", value.claim, list(Claim))


def check_lookup(
    *, order: object, purpose: object, refund: object, consent_ref: object, min_index: object, pictures: object = ()
) -> None:
    """Check the arguments of a lookup besides the buyer. Raises InvalidRequest."""
    check_text("order", order)
    check_choice("purpose", purpose, PURPOSES)
    check_refund(refund)
    check_consent_ref(consent_ref)
    if min_index is not None and (type(min_index) is not int or not 0 <= min_index <= MAX_INTEGER):
        raise InvalidRequest("min_index must be a number of log entries: an integer from 0.", field="min_index")
    fit = isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes)
    if not fit or not all(isinstance(picture, PictureHash) for picture in pictures):  # type: ignore[attr-defined]
        raise InvalidRequest("pictures must be a list of what picture_hash() gives.", field="pictures")


def check_consent_ref(value: object) -> None:
    """Check the form of a reference to a consent, or None. Raises InvalidRequest."""
    if value is None:
        return
    fault = fault_of_reference(check_text("consent_ref", value))
    if fault is not None:
        raise InvalidRequest(f"consent_ref {fault}", field="consent_ref")


def check_amount(name: str, value: object, kind: type[LedgerError] = InvalidReport) -> int:
    """Return `value`, which must be an amount in minor units. Raises `kind`."""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        remedy = " 129.00 CNY is 12900." if isinstance(value, float | str) else ""
        raise kind(f"{name} must be an integer from 0 to 2^53 - 1, in minor units.{remedy}", field=name)
    return value


def check_currency(name: str, value: object, kind: type[LedgerError] = InvalidReport) -> str:
    """Return `value`, which must be a currency. Raises `kind`."""
    if not isinstance(value, str) or value not in MINOR_DIGITS:
        raise kind(f"{name} must be an ISO 4217 code in capital letters, such as CNY.", field=name)
    return value


def check_time(name: str, value: object) -> datetime:
    """Return `value`, which must be an aware time. Raises InvalidTime."""
    if not isinstance(value, datetime):
        raise InvalidTime(
            f"{name} must be a datetime with its zone, such as datetime.now(UTC), not {_called(value)}.", field=name
        )
    if value.utcoffset() is None:
        raise InvalidTime(
            f"{name} must carry its zone: datetime.now(UTC), or value.replace(tzinfo=ZoneInfo(...)).", field=name
        )
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise InvalidTime(f"{name} is beyond the years that can be written in UTC.", field=name) from None
    return value


def check_digest(name: str, value: object, kind: type[LedgerError] = EvidenceInvalid) -> bytes:
    """Return `value`, which must be a SHA-256 digest. Raises `kind`."""
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        remedy = f" Of hexadecimal text: bytes.fromhex({name})." if isinstance(value, str) else ""
        raise kind(f"{name} must be the {DIGEST_BYTES} bytes of a SHA-256 digest.{remedy}", field=name)
    return value


def check_reason(value: object) -> str:
    """Return `value`, which must be a reason for which a platform withdraws a report. Raises InvalidRequest."""
    return check_choice("reason", value, REASONS)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` is most like, if it is like one."""
    matches = get_close_matches(name.lower(), known, n=1, cutoff=LIKENESS)
    return matches[0] if matches else None


def check_reported_buyer(value: object) -> None:
    """Check the buyer of a report. Raises InvalidReport."""
    if not isinstance(value, Buyer):
        remedy = " Blind the identifiers first: ledger.tag(phone=...)." if isinstance(value, Mapping) else ""
        raise InvalidReport(f"A report's buyer must be a Buyer, not {_called(value)}.{remedy}", field="buyer")


def check_report(arguments: Mapping[str, object]) -> None:
    """Check the types and choices of a report's arguments besides the buyer. Raises InvalidReport or one of its leaves
    (such as EvidenceInvalid), and InvalidTime."""
    check_choice("conduct", arguments["conduct"], list(Conduct), UnknownConduct)
    check_choice("outcome", arguments["outcome"], list(RefundOutcome), InvalidReport)
    items = arguments["evidence"]
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise EvidenceInvalid(
            f"evidence must be a list of what evidence() makes, not {_called(items)}.", field="evidence"
        )
    for item in items:
        if not isinstance(item, Evidence):
            raise EvidenceInvalid(
                f"Each item of evidence is made by evidence() or inspected_evidence(), not {_called(item)}.",
                field="evidence",
            )
        check_digest("sha256", item.sha256)
    check_amount("amount_minor", arguments["amount_minor"])
    check_currency("currency", arguments["currency"])
    for name in ("act_ended_at", "notice_sent_at"):
        check_time(name, arguments[name])
    for name in ("order", "notice_ref", "decided_by"):
        check_text(name, arguments[name], InvalidReport)
    for name in ("consent_ref", "replaces"):
        check_optional_text(name, arguments.get(name), InvalidReport)


def _called(value: object) -> str:
    """Return a type in plain words."""
    return "None" if value is None else f"a value of type {type(value).__name__}"
