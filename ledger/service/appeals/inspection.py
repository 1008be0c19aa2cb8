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
from enum import StrEnum
from typing import Any

from ledger.core.appeals import Actor
from ledger.core.cases import Staff
from ledger.core.conduct import parse_inspection
from ledger.core.encoding import b64url
from ledger.core.findings import FindingCode
from ledger.core.ids import encode_id
from ledger.core.support import Again
from ledger.errors import InvalidInput, NotFound, Overloaded
from ledger.evidence import apart
from ledger.evidence.findings import Finding
from ledger.evidence.pieces import Note, NoteCode
from ledger.evidence.receipt import Conclusion, check_form
from ledger.service import attachments, audit
from ledger.service.appeals.case_file import opened_case
from ledger.service.appeals.own_record import reported_evidence
from ledger.service.entry_batch import Context
from ledger.settings import Settings
from ledger.store import attachments as attachment_store
from ledger.store.attachments import AttachmentRow
from ledger.store.engine import writing

INSPECTED_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "video/mp4"})
"""Media types of attachments that can be inspected; PDF and plain text cannot."""

WAIT_SECONDS = 2.0
"""How long somebody waits for another file to be done with before they are told to come back."""

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
class Inspected:
    """An inspection that was made here: as a report would carry it, and all of its receipt that is for people."""

    again: Again
    conclusion: Conclusion
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    c2pa_sdk: str


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking into the file of this SHA-256: an inspection, or why there is none."""

    sha256: bytes
    inspected: Inspected | None
    failure: Failure | None = None


def inspect_again(context: Context, settings: Settings, case: str, public: str, staff: Staff) -> Look:
    """Inspect a file that the reporter handed in, in a process of its own.

    It is audited as `file_read`, and with the receipt's digest as `file_inspected`. One file at a time in each process:
    raises Overloaded while another one takes longer than `WAIT_SECONDS`. Also raises NotFound, RoleMissing,
    ConflictOfInterest, DatabaseUnavailable.
    """
    row = _reported_file(context, case, public, staff)
    data = attachments.read(settings, row.file)
    with alone():
        answer = apart.ask("inspect", [data])
    look = _look(bytes(row.sha256), answer)
    told = b64url(look.inspected.again.inspection.receipt_sha256) if look.inspected else str(look.failure)
    with writing(context.engine) as connection:
        audit.record(connection, context.now(), staff.id, "file_inspected", "appeal", case, f"{public} {told}")
    return look


@contextmanager
def alone() -> Iterator[None]:
    """No other file is looked into by this process meanwhile. Raises Overloaded."""
    if not _one_at_a_time.acquire(timeout=WAIT_SECONDS):
        raise Overloaded("Another file is being inspected. Try again in a few seconds.", retry_after_seconds=10)
    try:
        yield
    finally:
        _one_at_a_time.release()


def _reported_file(context: Context, case: str, public: str, staff: Staff) -> AttachmentRow:
    with opened_case(context, case, staff, "file_read", public) as (connection, row):
        named = {item["sha256"] for item in reported_evidence(connection, row.report_id)}
        for one in attachment_store.of_case(connection, row.id):
            mine = one.party == Actor.REPORTER and b64url(bytes(one.sha256)) in named
            if mine and encode_id("at", one.id, context.service) == public:
                return one
        raise NotFound("This case has no such file that the report names.")


def _look(sha256: bytes, answer: bytes | None) -> Look:
    """What the process said. It has read a stranger's file, so that its answer is checked like a stranger's."""
    try:
        said = json.loads(answer or b"")
        code = said.get("error")
        if code is not None:
            missing = code == "configuration_error"
            return Look(sha256, None, Failure.EXTRA_MISSING if missing else Failure.UNFIT)
        return Look(sha256, _inspected(said["report"], check_form(said["receipt"]), sha256))
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, InvalidInput):
        return Look(sha256, None, Failure.STOPPED)


def _inspected(report: Any, receipt: dict[str, Any], sha256: bytes) -> Inspected:
    """Raises ValueError or InvalidInput for what no inspection of this file says."""
    if receipt["file"]["sha256"] != b64url(sha256):
        raise ValueError("a receipt of another file")
    return Inspected(
        again=Again(parse_inspection(report), complete=receipt["complete"]),
        conclusion=Conclusion(receipt["conclusion"]),
        findings=tuple(_finding(one) for one in receipt["findings"]),
        notes=tuple(Note(NoteCode(one["code"]), one["where"], one["detail"]) for one in receipt["notes"]),
        c2pa_sdk=receipt["c2pa_sdk"],
    )


def _finding(one: dict[str, Any]) -> Finding:
    facts = one["facts"]
    for value in facts.values():
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) or type(text) is int for text in texts):
            raise ValueError("a fact is a text, a number or a list of texts")
    return Finding(FindingCode(one["code"]), one["where"], facts)
