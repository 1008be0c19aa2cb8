"""Create a referral: read the platform's own reports from the ledger, and write the complete bundle or nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.client import RefundLedger
from ledger.errors import AlreadyExists, ConfigurationError, InvalidRequest
from ledger.extras import need
from ledger.protocol.public_ids import is_id
from ledger.referral.audience import Audience, Part, gets
from ledger.referral.checks import LOG_KEY_FILE, PLATFORM_KEY_FILE, SUMS_FILE
from ledger.referral.facts import Referral, ReportSources, check_referable, make_referral, receipt_name, to_json
from ledger.referral.inspections import read_receipts
from ledger.rules.languages import DEFAULT_LOCALE
from ledger.rules.languages import LOCALES as LOCALES

MAX_REPORTS = 50
MAX_ORDER_CHARS = 128
_NEEDED = ("fpdf", "babel", "PIL", "pylopdf_fonts_zh_cn")


def refer(
    ledger: RefundLedger,
    reports: Sequence[str],
    out: str | Path,
    *,
    audience: str,
    locale: str = DEFAULT_LOCALE,
    inspections: Sequence[str | Path] = (),
    orders: Mapping[str, str] | None = None,
    wait_seconds: float = 5.0,
    now: datetime | None = None,
) -> Referral:
    """Write the referral of `reports` of this platform for `audience` (merchant, ai-provider, authority) into the new
    folder `out`, and return its content.

    `inspections` are files with full receipts; `orders` are order numbers in clear by report.

    Raises InvalidRequest, AlreadyExists (`out` exists), ReportNotReferable, InspectionMismatch,
    InspectionReceiptInvalid, NotFound, the errors of `ledger.reports.receipt` and `ledger.appeals.get`, and
    ConfigurationError if the extra `referral` is not installed. After an error nothing is written.
    """
    require_extra()
    recipient, orders, folder = _audience(audience), orders or {}, Path(out)
    _check_arguments(reports, locale, orders, recipient)
    if os.path.lexists(folder):
        raise AlreadyExists(f"{folder.name} is there already. A referral goes into a new folder.")
    receipts = read_receipts([Path(path) for path in inspections])
    views = [ledger.reports.get(report) for report in reports]
    for view in views:
        check_referable(view)
    for report, order in orders.items():
        _check_order(ledger, report, order)
    sources = [
        ReportSources(
            view,
            ledger.reports.receipt(view.id, wait_seconds),
            None if view.appeal is None else ledger.appeals.get(view.appeal.id, party="reporter"),
            orders.get(view.id),
        )
        for view in views
    ]
    made_at = (now or datetime.now(UTC)).replace(microsecond=0)
    referral = make_referral(ledger.suite, recipient, sources, receipts, made_at)
    signers = {source.receipt.signed_by.public_bytes_raw(): source.receipt.signed_by for source in sources}
    keys = [key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in signers.values()]
    write(bundle(referral, locale, b"".join(keys)), folder)
    return referral


def require_extra() -> None:
    """Check that the extra `referral` is installed. Raises ConfigurationError, which names the extra."""
    need("referral", _NEEDED, "A referral")


def bundle(referral: Referral, locale: str, platform_keys: bytes) -> dict[str, bytes]:
    """Return the files of a bundle by name. `platform_keys` is PEM, one block for each key that signed a report.

    The same arguments give the same bytes. Raises ConfigurationError if time zone data is missing, InvalidCanonicalForm
    for sums beyond 2^53 - 1.
    """
    from ledger.referral.document import render

    content = to_json(referral)
    files = {
        "referral.json": content,
        "referral.pdf": render(referral, locale, content),
        LOG_KEY_FILE: f"{referral.log_key}\n".encode(),
        **{receipt_name(report.id): report.receipt.encode() for report in referral.reports},
    }
    if gets(referral.audience, Part.WHOLE_RECEIPT):
        files[PLATFORM_KEY_FILE] = platform_keys
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return {**files, SUMS_FILE: sums.encode()}


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write `files` into the new `folder`, all or none, readable only by the owner.

    Raises AlreadyExists, and ConfigurationError if the folder cannot be created.
    """
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ConfigurationError(f"No folder can be made in {folder.parent.name or '.'}.") from error
    try:
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
        if os.path.lexists(folder):
            raise AlreadyExists(f"{folder.name} is there already. A referral goes into a new folder.")
        temporary.rename(folder)
    except OSError as error:
        raise ConfigurationError(f"{folder.name} cannot be written.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _audience(name: str) -> Audience:
    try:
        return Audience(name)
    except ValueError as error:
        raise InvalidRequest(f"A referral is for one of: {', '.join(Audience)}.") from error


def _check_arguments(reports: Sequence[str], locale: str, orders: Mapping[str, str], audience: Audience) -> None:
    if not 1 <= len(reports) <= MAX_REPORTS:
        raise InvalidRequest(f"A referral is of 1 to {MAX_REPORTS} reports.")
    if len(set(reports)) != len(reports) or not all(is_id("rp", report) for report in reports):
        raise InvalidRequest("Each report is named once, by an id that looks like rp_ and letters and digits.")
    if locale not in LOCALES:
        raise InvalidRequest(f"A referral is written in one of: {', '.join(LOCALES)}.")
    if orders and not gets(audience, Part.ORDER):
        raise InvalidRequest(f"A referral for {audience.value} names no order.")
    if orders.keys() - set(reports):
        raise InvalidRequest("An order was given of a report that is not in this referral.")
    if not all(1 <= len(order) <= MAX_ORDER_CHARS and order.isprintable() for order in orders.values()):
        raise InvalidRequest(f"An order number has 1 to {MAX_ORDER_CHARS} printable characters.")


def _check_order(ledger: RefundLedger, report: str, order: str) -> None:
    """Check that the report is about this order: the ledger lists it under the order's reference. Raises
    InvalidRequest."""
    page = ledger.reports.list(order=order, limit=100)
    if report not in [view.id for view in page.reports]:
        raise InvalidRequest(f"The report {report} is not of the order that was given for it.", report=report)
