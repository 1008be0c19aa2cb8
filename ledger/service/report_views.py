"""Reports as JSON: the short answer to a new one, and the full view its platform may read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from ledger.core.encoding import b64url, format_time, from_day, from_hour
from ledger.core.ids import encode_id
from ledger.core.reports import Status, status
from ledger.store.reports import ReportRow, RestitutionRow, ReversalRow


def report_status(
    row: ReportRow,
    reversal: ReversalRow | None,
    now: datetime,
    *,
    disputed: bool = False,
    unconfirmed: bool = False,
) -> Status:
    """Where the report stands at `now`."""
    return status(
        now,
        effective_hour=row.effective_hour,
        expires_day=row.expires_day,
        reversal=None if reversal is None else Status.WITHDRAWN,
        disputed=disputed,
        unconfirmed=unconfirmed,
    )


def accepted_json(row: ReportRow, service: str, now: datetime) -> str:
    """The 201 answer."""
    public = encode_id("rp", row.id, service)
    return orjson.dumps(
        {
            "id": public,
            "entry_index": row.id,
            "status": report_status(row, None, now).value,
            "effective_from": format_time(from_hour(row.effective_hour)),
            "expires_at": format_time(from_day(row.expires_day)),
            "receipt_url": _receipt_url(public),
        }
    ).decode()


def report_view(
    row: ReportRow,
    *,
    reversal: ReversalRow | None,
    restitution: RestitutionRow | None,
    replaced_by: int | None,
    service: str,
    now: datetime,
    disputed: bool = False,
    unconfirmed: bool = False,
) -> dict[str, Any]:
    """The full view, for the platform that made the report. The act is left out: an act shared with other
    reports would tell that another platform reported the same."""
    public = encode_id("rp", row.id, service)
    state = report_status(row, reversal, now, disputed=disputed, unconfirmed=unconfirmed)
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
        "expires_at": format_time(from_day(row.expires_day)),
        "replaces": None if row.replaces is None else encode_id("rp", row.replaces, service),
        "replaced_by": None if replaced_by is None else encode_id("rp", replaced_by, service),
        "restitution": None
        if restitution is None
        else {"received_at": format_time(restitution.received_at), "entry_index": restitution.entry_index},
        "withdrawal": None
        if reversal is None
        else {
            "reason": reversal.reason,
            "recorded_at": format_time(reversal.recorded_at),
            "entry_index": reversal.entry_index,
        },
        "receipt_url": _receipt_url(public),
    }


def report_json(
    row: ReportRow,
    *,
    reversal: ReversalRow | None,
    restitution: RestitutionRow | None,
    replaced_by: int | None,
    service: str,
    now: datetime,
) -> str:
    """`report_view` as JSON text."""
    view = report_view(
        row, reversal=reversal, restitution=restitution, replaced_by=replaced_by, service=service, now=now
    )
    return orjson.dumps(view).decode()


def _receipt_url(public: str) -> str:
    return f"/v1/reports/{public}/receipt"
