"""A reviewer's own inspection of a file of a case: the inspection that the report carries, made again.

Only files that the report names by their SHA-256 are inspected. Nothing is stored except a line in the audit log with
the receipt's digest; a reviewer who needs the result again runs the inspection again.
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
from ledger.evidence.findings import InspectionFinding
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
from ledger.server.context import Context
from ledger.server.db.engine import writing
from ledger.server.settings import Settings
from ledger.server.staff import audit

INSPECTED_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "video/mp4"})
"""Media types of attachments that can be inspected; PDF and plain text cannot."""

COMPARED_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
"""Media types of attachments that are compared with the merchant's photos, and of these."""

MAX_LISTINGS = 8
"""Photos of the merchant that a file is compared with, the first that were handed in; each takes about a second."""

WAIT_SECONDS = 2.0
"""How long a request waits for another inspection to end before it is refused."""

DRAWING_WAIT_SECONDS = 20.0
"""The same for a picture of a match: a page may request several, and cannot ask the reader to retry."""

_PNG = b"\x89PNG\r\n\x1a\n"

_one_at_a_time = threading.Lock()


class InspectionFailure(StrEnum):
    """Why there is no inspection."""

    EXTRA_MISSING = "extra_missing"
    """The extra `evidence` is not installed on this server."""
    UNFIT = "unfit"
    """The file is of a type that is not inspected, or is damaged."""
    STOPPED = "stopped"
    """It took more time or memory than allowed, or crashed the process."""


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """The result of an inspection made here: as a report would carry it, with the parts of its receipt that are for
    people. `not_compared` counts handed-in photos of the merchant that could not be compared."""

    again: Again
    conclusion: Conclusion
    findings: tuple[InspectionFinding, ...]
    notes: tuple[Note, ...]
    c2pa_sdk: str
    not_compared: int


@dataclass(frozen=True, slots=True)
class InspectionAttempt:
    """The result for the file of this SHA-256: an inspection, or the reason why there is none."""

    sha256: bytes
    inspected: InspectionResult | None
    failure: InspectionFailure | None = None


@dataclass(frozen=True, slots=True)
class _Files:
    """A file that the report names and the merchant's photos (`source_image`) beside it, all handed in; the control
    group that made the report; and when the platform received the file from the claimant, if the report says so."""

    control_group: str
    file: AttachmentRow
    listings: tuple[AttachmentRow, ...]
    received_at: datetime | None = None


def inspect_again(context: Context, settings: Settings, case: str, public: str, staff: Staff) -> InspectionAttempt:
    """Inspect a file that the reporter handed in, and compare it with the merchant's photos beside it, in a separate
    process.

    The read is audited as `file_read`, and with the receipt's digest as `file_inspected`. Each server process inspects
    one file at a time. Raises Overloaded while another inspection takes longer than `WAIT_SECONDS`, NotFound,
    RoleMissing, ConflictOfInterest, DatabaseUnavailable.
    """
    files = _reported_files(context, case, public, staff)
    with alone(WAIT_SECONDS):
        data = [attachments.read(settings, stored.file) for stored in (files.file, *files.listings)]
        answer = sandbox.ask("inspect", data, received_at=files.received_at)
    attempt = _read_answer(bytes(files.file.sha256), answer, len(files.listings))
    outcome = b64url(attempt.inspected.again.inspection.receipt_sha256) if attempt.inspected else str(attempt.failure)
    with writing(context.engine) as connection:
        detail = f"{public} {outcome}"
        audit.record(
            connection, context.now(), staff.id, "file_inspected", "appeal", case, detail,
            about_group=files.control_group,
        )  # fmt: skip
    return attempt


def match_picture(
    context: Context, settings: Settings, case: str, public: str, listing_sha256: str, staff: Staff
) -> bytes:
    """Return a picture (PNG) of how a file that the reporter handed in was made from the merchant's photo of this
    SHA-256 (base64url). It is audited as `file_read`, and with both files as `files_compared`.

    Raises NotFound if it was not made from that photo or cannot be compared, and the errors of `inspect_again`.
    """
    files = _reported_files(context, case, public, staff)
    listing = next((photo for photo in files.listings if b64url(bytes(photo.sha256)) == listing_sha256), None)
    if listing is None:
        raise NotFound("This case has no such photo of the merchant's.")
    with writing(context.engine) as connection:
        both = f"{public} {encode_id('at', listing.id, context.service)}"
        audit.record(
            connection, context.now(), staff.id, "files_compared", "appeal", case, both,
            about_group=files.control_group,
        )  # fmt: skip
    with alone(DRAWING_WAIT_SECONDS):
        data = [attachments.read(settings, stored.file) for stored in (files.file, listing)]
        drawn = sandbox.ask("match", data)
    if drawn is None or not drawn.startswith(_PNG):
        raise NotFound("The file was not made from this photo, or they cannot be compared here.")
    return drawn


@contextmanager
def alone(wait_seconds: float) -> Iterator[None]:
    """Allow one inspection at a time in this process. Raises Overloaded after `wait_seconds`."""
    if not _one_at_a_time.acquire(timeout=wait_seconds):
        raise Overloaded("Another file is being inspected. Try again in a few seconds.", retry_after_seconds=10)
    try:
        yield
    finally:
        _one_at_a_time.release()


def _reported_files(context: Context, case: str, public: str, staff: Staff) -> _Files:
    """Return the file, if the report names it, with the files to compare it with. Raises NotFound, RoleMissing,
    ConflictOfInterest."""
    with opened_case(context, case, staff, "file_read", public) as (connection, row):
        named: dict[str, set[str]] = {}
        received: dict[str, str] = {}
        for item in reported_evidence(connection, row.report_id):
            named.setdefault(item["sha256"], set()).add(item["type"])
            origin = item.get("origin", {})
            if origin.get("source") == OriginSource.CLAIM_UPLOAD:
                received[item["sha256"]] = origin["received_at"]
        files = {
            encode_id("at", file.id, context.service): file
            for file in attachments.files_of_case(connection, row.id)
            if file.party == Actor.REPORTER and b64url(bytes(file.sha256)) in named
        }
        if public not in files:
            raise NotFound("This case has no such file that the report names.")
        photos = {
            bytes(file.sha256): file
            for file in files.values()
            if file.media_type in COMPARED_TYPES and EvidenceType.SOURCE_IMAGE in named[b64url(bytes(file.sha256))]
        }
        photos.pop(bytes(files[public].sha256), None)
        compared = list(photos.values())[:MAX_LISTINGS] if files[public].media_type in COMPARED_TYPES else []
        known = received.get(b64url(bytes(files[public].sha256)))
        received_at = None if known is None else parse_time(known)
        return _Files(row.control_group, files[public], tuple(compared), received_at)


def _read_answer(sha256: bytes, answer: bytes | None, listings: int = 0) -> InspectionAttempt:
    """Return the answer of the process. It has read a stranger's file, so its answer is checked as untrusted input."""
    try:
        said = json.loads(answer or b"")
        code = said.get("error")
        if code is not None:
            missing = code == "configuration_error"
            return InspectionAttempt(
                sha256, None, InspectionFailure.EXTRA_MISSING if missing else InspectionFailure.UNFIT
            )
        return InspectionAttempt(sha256, _inspection_result(said, check_form(said["receipt"]), sha256, listings))
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, InvalidInput):
        return InspectionAttempt(sha256, None, InspectionFailure.STOPPED)


def _inspection_result(said: dict[str, Any], receipt: dict[str, Any], sha256: bytes, listings: int) -> InspectionResult:
    """Return the checked result. Raises ValueError or InvalidInput for an answer that is not an inspection of this
    file."""
    single, compared = parse_inspection(said["alone"]), int(said["compared"])
    if receipt["file"]["sha256"] != b64url(sha256):
        raise ValueError("a receipt of another file")
    return InspectionResult(
        again=Again(parse_inspection(said["report"]), receipt["complete"], single if compared else None),
        conclusion=Conclusion(receipt["conclusion"]),
        findings=tuple(_finding(item) for item in receipt["findings"]),
        notes=tuple(Note(NoteCode(note["code"]), note["where"], note["detail"]) for note in receipt["notes"]),
        c2pa_sdk=receipt["c2pa_sdk"],
        not_compared=max(0, listings - compared),
    )


def _finding(item: dict[str, Any]) -> InspectionFinding:
    """Return a checked finding. Raises ValueError."""
    facts = item["facts"]
    for value in facts.values():
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) or type(text) is int for text in texts):
            raise ValueError("a fact is a text, a number or a list of texts")
    return InspectionFinding(FindingCode(item["code"]), item["where"], facts)
