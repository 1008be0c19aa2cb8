"""A case as each party may see it.

The reporter does not see through which platform the person appealed, the person's platform does not see who reported,
and neither sees which staff work on the case. A platform in whose session the person filed by themselves sees only the
state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import CaseState
from ledger.server.appeals import attachments
from ledger.server.appeals.attachments import AttachmentRow
from ledger.server.appeals.case_changes import STAFF_ONLY
from ledger.server.appeals.participants import Party
from ledger.server.records import case_queries, order_line_queries
from ledger.server.records.case_queries import CaseEventRow, CaseRow

_ACTOR_NAMES = {"subject": "person", "reporter": "reporter", "staff": "reviewer", "clock": "clock", "ledger": "ledger"}


def party_of(row: CaseRow, platform: str) -> Party | None:
    """Return the party as which this platform reads the case: the person where it filed for them, the reporter, or
    None."""
    if row.filed_via == platform and not row.filed_by_subject:
        return Party.SUBJECT
    return Party.REPORTER if row.platform == platform else None


def case_state(row: CaseRow, service: str) -> dict[str, Any]:
    """Return what a platform sees that only opened the person's session: that there is a case, its state and its due
    date."""
    return {
        "id": encode_id("ap", row.id, service),
        "state": row.state.value,
        "opened_at": format_time(row.opened_at),
        "due_at": format_time(row.due_at),
        "overdue": row.overdue,
    }


def case_view(connection: Connection, row: CaseRow, party: Party, service: str) -> dict[str, Any]:
    """Return the whole case for `party`."""
    events = [event for event in case_queries.events(connection, row.id) if event.action not in STAFF_ONLY]
    group = [case for case in case_queries.group_cases(connection, row.group_id) if _same_view(row, case, party)]
    return {
        **case_state(row, service),
        "group": [encode_id("ap", case.id, service) for case in group],
        "report": encode_id("rp", row.report_id, service),
        "party": party.value,
        "round": row.round,
        "grounds": row.grounds,
        "conduct": row.current_conduct,
        "profile": row.profile.value,
        "extended": row.extended,
        "suspends": row.suspends,
        "question": _question(row, events, party),
        "decision": {
            "outcome": row.outcome.value,
            "reasons": row.reasons,
            "conduct": row.amended_conduct,
            "decided_at": None if row.decided_at is None else format_time(row.decided_at),
            "reopen_until": None if row.reopen_until is None else format_time(row.reopen_until),
        }
        if row.outcome is not None and row.state in (CaseState.DECIDED, CaseState.CLOSED)
        else None,
        "concession": _concession(connection, row),
        "reopening_request": _reopening_request(connection, row),
        "timeline": [_event(event, row, party, service) for event in events],
        "attachments": [attachment_view(file, service) for file in attachments.files_of_case(connection, row.id)],
    }


def _concession(connection: Connection, row: CaseRow) -> dict[str, Any] | None:
    """Return what the reporter conceded in the current round, or in the last one decided."""
    conceded = order_line_queries.concession(connection, row.id, row.round)
    if conceded is None:
        return None
    return {
        "conduct": conceded.conduct,
        "conceded_at": format_time(conceded.conceded_at),
        "agreed_at": None if conceded.agreed_at is None else format_time(conceded.agreed_at),
    }


def _reopening_request(connection: Connection, row: CaseRow) -> dict[str, Any] | None:
    """Return the reporter's request to open the case again, and the answer to it."""
    request = order_line_queries.request(connection, row.id)
    if request is None:
        return None
    return {
        "evidence_sha256": b64url(bytes(request.evidence_sha256)),
        "requested_at": format_time(request.requested_at),
        "granted": request.granted,
        "reasons": request.reasons,
        "decided_at": None if request.decided_at is None else format_time(request.decided_at),
    }


def attachment_view(file: AttachmentRow, service: str) -> dict[str, Any]:
    """Return a file of a case, without its bytes."""
    return {
        "id": encode_id("at", file.id, service),
        "party": file.party,
        "name": file.name,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "sha256": b64url(bytes(file.sha256)),
        "evidence_index": file.evidence_index,
        "added_at": format_time(file.added_at),
    }


def _same_view(row: CaseRow, other: CaseRow, party: Party) -> bool:
    """True if `party` may see that `other` was filed together with this case."""
    return party is Party.SUBJECT or other.platform == row.platform


def _question(row: CaseRow, events: Sequence[CaseEventRow], party: Party) -> dict[str, Any] | None:
    """Return the question that awaits this party's answer."""
    awaited = {CaseState.AWAITING_REPORTER: Party.REPORTER, CaseState.AWAITING_SUBJECT: Party.SUBJECT}
    if awaited.get(row.state) is not party or row.question_due_at is None:
        return None
    questions = [event for event in events if event.action == f"ask_{party.value}"]
    return {
        "text": questions[-1].text,
        "asked_at": format_time(questions[-1].at),
        "due_at": format_time(row.question_due_at),
    }


def _event(event: CaseEventRow, row: CaseRow, party: Party, service: str) -> dict[str, Any]:
    """Return a line of the timeline, with its text if the party may read it."""
    readable = event.visible_to in ("all", party.value)
    return {
        "at": format_time(event.at),
        "action": event.action,
        "by": _ACTOR_NAMES[event.actor],
        "by_platform": event.platform is not None and event.actor == Party.SUBJECT if party is Party.SUBJECT else None,
        "state": event.state,
        "text": event.text if readable else None,
        "entry_index": event.entry_index,
    }
