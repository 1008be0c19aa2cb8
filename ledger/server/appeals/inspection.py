"""A reviewer's own look into a file of a case: the inspection that the report carries, made again.

Only files that the report names by their SHA-256 are looked into. Nothing is kept but a line in the audit log with the
receipt's digest; whoever wants to see it once more has it made once more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ledger.errors import InvalidInput, NotFound, Overloaded
from ledger.evidence.findings import Finding
from ledger.evidence.formats.metadata import Note, NoteCode
from ledger.evidence.receipt import Conclusion, check_form
from ledger.evidence.sandbox import inspection as sandbox
from ledger.protocol.encoding import b64url, parse_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Actor
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import EvidenceType, parse_inspection
from ledger.rules.corroboration import Again
from ledger.rules.findings import FindingCode
from ledger.rules.provenance import OriginSource
from ledger.server.appeals import attachments
from ledger.server.appeals.attachments import AttachmentRow, reported_evidence
from ledger.server.appeals.case_page import opened_case
from ledger.server.db.engine import writing
from ledger.server.records.transaction import Context
from ledger.server.settings import Settings
from ledger.server.staff import audit

INSPECTED_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "video/mp4"})
"""Media types of attachments that can be inspected; PDF and plain text cannot."""

COMPARED_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
"""Media types of attachments that are compared with the merchant's photos, and of these."""

MAX_LISTINGS = 8
"""Photos of the merchant's that a file is compared with, the first that were handed in; each takes about a second."""

WAIT_SECONDS = 2.0
"""How long somebody waits for another file to be done with before they are told to come back."""

DRAWING_WAIT_SECONDS = 20.0
"""The same for a picture of a match: a page may ask for several, and cannot say to come back."""

_PNG = b"\x89PNG\r\n\x1a\n"

_one_at_a_time = threading.Lock()


class Failure(StrEnum):
    """Why there is no inspection."""

    EXTRA_MISSING = "extra_missing"
    """The extra `evidence` is not installed on this server."""
    UNFIT = "unfit"
    """The file is of a type that is not inspected, or is damaged."""
    STOPPED = "stopped"
    """It took more time or memory than it may, or killed the process."""


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """An inspection that was made here: as a report would carry it, and all of its receipt that is for people.
    `not_compared` counts photos of the merchant's that were handed in and could not be compared."""

    again: Again
    conclusion: Conclusion
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    c2pa_sdk: str
    not_compared: int


@dataclass(frozen=True, slots=True)
class InspectionAttempt:
    """What came of looking into the file of this SHA-256: an inspection, or why there is none."""

    sha256: bytes
    inspected: InspectionResult | None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Files:
    """A file that the report names, and the merchant's photos (`source_image`) beside it, both handed in; the control
    group that made the report; and when the platform received the file from the claimant, if the report says so."""

    control_group: str
    file: AttachmentRow
    listings: tuple[AttachmentRow, ...]
    received_at: datetime | None = None


def inspect_again(context: Context, settings: Settings, case: str, public: str, staff: Staff) -> InspectionAttempt:
    """Inspect a file that the reporter handed in, and compare it with the merchant's photos that came with it, in a
    process of its own.

    It is audited as `file_read`, and with the receipt's digest as `file_inspected`. One file at a time in each process:
    raises Overloaded while another one takes longer than `WAIT_SECONDS`. Also raises NotFound, RoleMissing,
    ConflictOfInterest, DatabaseUnavailable.
    """
    files = _reported_files(context, case, public, staff)
    with alone(WAIT_SECONDS):
        data = [attachments.read(settings, one.file) for one in (files.file, *files.listings)]
        answer = sandbox.ask("inspect", data, received_at=files.received_at)
    look = _read_answer(bytes(files.file.sha256), answer, len(files.listings))
    told = b64url(look.inspected.again.inspection.receipt_sha256) if look.inspected else str(look.failure)
    with writing(context.engine) as connection:
        detail = f"{public} {told}"
        audit.record(
            connection, context.now(), staff.id, "file_inspected", "appeal", case, detail,
            about_group=files.control_group,
        )  # fmt: skip
    return look


def match_picture(
    context: Context, settings: Settings, case: str, public: str, listing_sha256: str, staff: Staff
) -> bytes:
    """A picture (PNG) of how a file that the reporter handed in was made from the merchant's photo of this SHA-256
    (base64url). It is audited as `file_read`, and with both files as `files_compared`.

    Raises NotFound if it was not, or cannot be compared, and what `inspect_again` raises.
    """
    files = _reported_files(context, case, public, staff)
    listing = next((one for one in files.listings if b64url(bytes(one.sha256)) == listing_sha256), None)
    if listing is None:
        raise NotFound("This case has no such photo of the merchant's.")
    with writing(context.engine) as connection:
        both = f"{public} {encode_id('at', listing.id, context.service)}"
        audit.record(
            connection, context.now(), staff.id, "files_compared", "appeal", case, both,
            about_group=files.control_group,
        )  # fmt: skip
    with alone(DRAWING_WAIT_SECONDS):
        data = [attachments.read(settings, one.file) for one in (files.file, listing)]
        drawn = sandbox.ask("match", data)
    if drawn is None or not drawn.startswith(_PNG):
        raise NotFound("The file was not made from this photo, or they cannot be compared here.")
    return drawn


@contextmanager
def alone(wait_seconds: float) -> Iterator[None]:
    """No other file is looked into by this process meanwhile. Raises Overloaded after `wait_seconds`."""
    if not _one_at_a_time.acquire(timeout=wait_seconds):
        raise Overloaded("Another file is being inspected. Try again in a few seconds.", retry_after_seconds=10)
    try:
        yield
    finally:
        _one_at_a_time.release()


def _reported_files(context: Context, case: str, public: str, staff: Staff) -> _Files:
    with opened_case(context, case, staff, "file_read", public) as (connection, row):
        named: dict[str, set[str]] = {}
        received: dict[str, str] = {}
        for item in reported_evidence(connection, row.report_id):
            named.setdefault(item["sha256"], set()).add(item["type"])
            origin = item.get("origin", {})
            if origin.get("source") == OriginSource.CLAIM_UPLOAD:
                received[item["sha256"]] = origin["received_at"]
        files = {
            encode_id("at", one.id, context.service): one
            for one in attachments.files_of_case(connection, row.id)
            if one.party == Actor.REPORTER and b64url(bytes(one.sha256)) in named
        }
        if public not in files:
            raise NotFound("This case has no such file that the report names.")
        photos = {
            bytes(one.sha256): one
            for one in files.values()
            if one.media_type in COMPARED_TYPES and EvidenceType.SOURCE_IMAGE in named[b64url(bytes(one.sha256))]
        }
        photos.pop(bytes(files[public].sha256), None)
        compared = list(photos.values())[:MAX_LISTINGS] if files[public].media_type in COMPARED_TYPES else []
        known = received.get(b64url(bytes(files[public].sha256)))
        received_at = None if known is None else parse_time(known)
        return _Files(row.control_group, files[public], tuple(compared), received_at)


def _read_answer(sha256: bytes, answer: bytes | None, listings: int = 0) -> InspectionAttempt:
    """What the process said. It has read a stranger's file, so that its answer is checked like a stranger's."""
    try:
        said = json.loads(answer or b"")
        code = said.get("error")
        if code is not None:
            missing = code == "configuration_error"
            return InspectionAttempt(sha256, None, Failure.EXTRA_MISSING if missing else Failure.UNFIT)
        return InspectionAttempt(sha256, _inspection_result(said, check_form(said["receipt"]), sha256, listings))
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, InvalidInput):
        return InspectionAttempt(sha256, None, Failure.STOPPED)


def _inspection_result(said: dict[str, Any], receipt: dict[str, Any], sha256: bytes, listings: int) -> InspectionResult:
    """Raises ValueError or InvalidInput for what no inspection of this file says."""
    alone, compared = parse_inspection(said["alone"]), int(said["compared"])
    if receipt["file"]["sha256"] != b64url(sha256):
        raise ValueError("a receipt of another file")
    return InspectionResult(
        again=Again(parse_inspection(said["report"]), receipt["complete"], alone if compared else None),
        conclusion=Conclusion(receipt["conclusion"]),
        findings=tuple(_finding(one) for one in receipt["findings"]),
        notes=tuple(Note(NoteCode(one["code"]), one["where"], one["detail"]) for one in receipt["notes"]),
        c2pa_sdk=receipt["c2pa_sdk"],
        not_compared=max(0, listings - compared),
    )


def _finding(one: dict[str, Any]) -> Finding:
    facts = one["facts"]
    for value in facts.values():
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) or type(text) is int for text in texts):
            raise ValueError("a fact is a text, a number or a list of texts")
    return Finding(FindingCode(one["code"]), one["where"], facts)
