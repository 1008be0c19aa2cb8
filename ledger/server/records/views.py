"""Reports as JSON: the short answer to a new one, and the full view its platform may read."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import orjson

from ledger.protocol.encoding import b64url, day_floor, format_time, from_day, from_hour
from ledger.protocol.public_ids import encode_id
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Policy
from ledger.rules.reports import Status, status
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.order_line_queries import HeldRow
from ledger.server.records.queries import ReportRow, RestitutionRow, ReversalRow

REVERSED = {
    "withdrawal": Status.WITHDRAWN,
    "replacement": Status.WITHDRAWN,
    "overturned": Status.OVERTURNED,
    "victim": Status.VICTIM,
}
"""Status of a report after a reversal of this kind."""


def report_status(
    row: ReportRow,
    reversal: ReversalRow | None,
    policy: Policy,
    now: datetime,
    *,
    disputed: bool = False,
    unconfirmed: bool = False,
    held: bool = False,
) -> Status:
    """Return the report's status at `now`."""
    return status(
        now,
        effective_hour=row.effective_hour,
        expires_day=_expires_day(row, policy),
        reversal=None if reversal is None else REVERSED[reversal.kind],
        disputed=disputed,
        unconfirmed=unconfirmed,
        held=held,
    )


def accepted_json(
    row: ReportRow, service: str, policy: Policy, now: datetime, *, canonical: bytes, held: bool = False
) -> str:
    """Return the 201 answer as JSON. It repeats the order, and the SHA-256 of the `canonical` bytes of the signed body,
    so that a client recognises the answer to its own report."""
    public = encode_id("rp", row.id, service)
    return orjson.dumps(
        {
            "id": public,
            "entry_index": row.id,
            "status": report_status(row, None, policy, now, held=held).value,
            "effective_from": format_time(from_hour(row.effective_hour)),
            "expires_at": format_time(from_day(_expires_day(row, policy))),
            "receipt_url": _receipt_url(public),
            "order_ref": b64url(bytes(row.order_ref)),
            "body_sha256": b64url(hashlib.sha256(canonical).digest()),
        }
    ).decode()


def report_view(
    row: ReportRow,
    *,
    reversal: ReversalRow | None,
    restitution: RestitutionRow | None,
    replaced_by: int | None,
    service: str,
    policy: Policy,
    now: datetime,
    disputed: bool = False,
    unconfirmed: bool = False,
    case: CaseRow | None = None,
    held: HeldRow | None = None,
    former_label: bool = False,
) -> dict[str, Any]:
    """Return the full view, for the platform that made the report; with `former_label` its label identified the file by
    the rules of its time only. The act is left out: an act shared with other reports would disclose that another
    platform reported the same."""
    public = encode_id("rp", row.id, service)
    waits = held is not None and held.waits
    state = report_status(row, reversal, policy, now, disputed=disputed, unconfirmed=unconfirmed, held=waits)
    return {
        "id": public,
        "entry_index": row.id,
        "status": state.value,
        "conduct": row.conduct,
        "order_ref": b64url(bytes(row.order_ref)),
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "outcome": row.outcome,
        "act_ended_at": format_time(row.act_ended_at),
        "notice_sent_at": format_time(row.notice_sent_at),
        "recorded_at": format_time(row.recorded_at),
        "effective_from": format_time(from_hour(row.effective_hour)),
        "expires_at": format_time(from_day(_expires_day(row, policy))),
        "replaces": None if row.replaces is None else encode_id("rp", row.replaces, service),
        "replaced_by": None if replaced_by is None else encode_id("rp", replaced_by, service),
        "restitution": None
        if restitution is None
        else {"received_at": format_time(restitution.received_at), "entry_index": restitution.entry_index},
        "withdrawal": None
        if reversal is None or REVERSED[reversal.kind] is not Status.WITHDRAWN
        else {
            "reason": reversal.reason,
            "recorded_at": format_time(reversal.recorded_at),
            "entry_index": reversal.entry_index,
        },
        "appeal": None if case is None else _appeal(case, service),
        "hold": None if held is None else hold_view(held, service),
        "former_label": former_label,
        "receipt_url": _receipt_url(public),
    }


def _appeal(case: CaseRow, service: str) -> dict[str, Any]:
    """Return the appeal against the report; `conduct` is the one that a decision amended it to, else null."""
    return {
        "id": encode_id("ap", case.id, service),
        "state": case.state.value,
        "due_at": format_time(case.due_at),
        "outcome": None if case.outcome is None else case.outcome.value,
        "conduct": case.amended_conduct,
    }


def hold_view(held: HeldRow, service: str) -> dict[str, Any]:
    """Return why a report is or was held, for its reporter: the case that it may be about, until when it waits, the
    reporter's reason, and the decision."""
    return {
        "case": encode_id("ap", held.case_id, service),
        "void_at": format_time(held.void_at),
        "explanation": held.explanation,
        "explained_at": None if held.explained_at is None else format_time(held.explained_at),
        "released_at": None if held.released_at is None else format_time(held.released_at),
        "refused_at": None if held.refused_at is None else format_time(held.refused_at),
        "reasons": held.reasons if held.released_at is not None or held.refused_at is not None else None,
    }


def _expires_day(row: ReportRow, policy: Policy) -> int:
    """Return the day of expiry: a later policy may have shortened the recorded one; no policy lengthens it."""
    return policy.expiry_day(Conduct(row.conduct), day_floor(row.act_ended_at), row.expires_day)


def _receipt_url(public: str) -> str:
    return f"/v1/reports/{public}/receipt"
