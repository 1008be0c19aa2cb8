"""A person's own record, as a page and as an export (PIPL art. 45, GDPR arts. 15 and 20, 15 U.S.C. 1681g): the reports
under the identifiers of their session with all cases, who looked them up, and who found a picture of a report again.

The platform that opened the session is named where it reported or looked up; all other platforms are None: no platform
may learn through a customer who else reported, and the law does not require it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from ledger.catalogue import reason_text
from ledger.code_names import amount_band
from ledger.i18n import texts
from ledger.protocol.encoding import day_floor, format_time, from_day, from_hour
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import MAX_WITHDRAWALS, OPEN_STATES, CaseState
from ledger.rules.conduct import Conduct, EvidenceType
from ledger.rules.findings import SIGNED, Trust, weakest
from ledger.rules.languages import LANGUAGES
from ledger.rules.policy.values import Policy
from ledger.rules.rounds import blocking
from ledger.rules.standing import Event, fold, merge
from ledger.server.appeals.attachments import reported_evidence
from ledger.server.appeals.case_changes import expires_at
from ledger.server.appeals.letter_facts import all_letters, letters_of
from ledger.server.appeals.participants import Party, can_be_reopened
from ledger.server.appeals.record_texts import meanings
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.appeals.views import case_view
from ledger.server.context import Context
from ledger.server.db.engine import snapshot_reading
from ledger.server.lookups import queries as lookup_queries
from ledger.server.lookups.disclosures import shown_lookups
from ledger.server.lookups.queries import listing_event
from ledger.server.pictures import queries as picture_queries
from ledger.server.records import case_queries, former_label_queries, order_line_queries
from ledger.server.records import queries as report_queries
from ledger.server.records.case_queries import CaseRow, StatementRow
from ledger.server.records.queries import ReportRow, ReversalRow
from ledger.server.records.views import report_status


def own_record(context: Context, weights: Mapping[str, int], session: SubjectSessionRow) -> dict[str, Any]:
    """Return {as_of, opened_by, standing, reports, lookups, picture_searches}: everything about the person, for the
    page and for the export.

    Raises DatabaseUnavailable.
    """
    tags = [tag for _, tag in session.subjects]
    now, policy = context.now(), context.policy
    with snapshot_reading(context.engine) as connection:
        listings = lookup_queries.listings(connection, tags)
        matched = case_queries.reports_of_tags(connection, tags)
        reports = report_queries.reports_by_id(connection, matched)
        reversals = report_queries.reversals(connection, matched)
        cases = case_queries.all_cases_of_reports(connection, matched)
        statements = case_queries.statements(connection, matched)
        flags = report_queries.listing_flags(connection, matched)
        restituted = report_queries.restitutions(connection, matched)
        replaced = report_queries.replacements(connection, matched)
        held = order_line_queries.held_reports(connection, matched)
        seen = shown_lookups(connection, tags, session.platform)
        searches = picture_queries.searches_of(connection, matched)
        kinds = {tag: kind for kind, tag in session.subjects}
        former = former_label_queries.among(connection, matched)
        views_of_reports = []
        for row in sorted(reports.values(), key=lambda report: report.id, reverse=True):
            mine = cases.get(row.id, [])
            views = {case.id: subject_case_view(connection, case, mine, row, context) for case in mine}
            waits = (hold := held.get(row.id)) is not None and hold.waits
            shown = _report(row, reversals.get(row.id), mine, flags.get(row.id, (False, False)), context, held=waits)
            shown |= {
                "replaces": _public(row.replaces, context),
                "replaced_by": _public(replaced.get(row.id), context),
                "held_until": format_time(hold.void_at) if hold is not None and waits and row.live else None,
                "reported_by": _named(row.platform, session),
                **_evidence(connection, row.id),
                "former_label": row.id in former,
                "matched_kinds": sorted({kinds[tag] for tag in matched[row.id] if tag in kinds}),
                "restituted": row.id in restituted,
                "statement": _statement(statements.get(row.id)),
                "case": views[principal_case(mine).id] if mine else None,
                "cases": list(views.values()),
            }
            views_of_reports.append(shown)
    events = [
        listing_event(row, Kind(kind))
        for kind, tag in session.subjects
        for row in listings.get(tag, ())
        if row.kind == kind
    ]
    return {
        "as_of": format_time(now),
        "opened_by": session.platform,
        "standing": {
            **_standing(events, weights, policy, now),
            "next_policies": [
                {"version": version.version, "in_effect_at": format_time(version.in_effect_at)}
                for version in context.policies.timeline.announced(now)
            ],
        },
        "reports": views_of_reports,
        "lookups": seen,
        "picture_searches": [
            {
                "asked_at": format_time(search.asked_at),
                "first_asked_at": format_time(search.first_asked_at),
                "times": search.times,
                "asked_by": _named(search.platform, session),
                "reports": [encode_id("rp", report, context.service) for report in search.reports],
            }
            for search in searches
        ],
    }


def _report(
    row: ReportRow,
    reversal: ReversalRow | None,
    cases: Sequence[CaseRow],
    flags: tuple[bool, bool],
    context: Context,
    *,
    held: bool,
) -> dict[str, Any]:
    policy, now = context.policy, context.now()
    conduct = case_queries.conduct_in_force(cases) or row.conduct
    expires_day = policy.expiry_day(Conduct(conduct), day_floor(row.act_ended_at), row.expires_day)
    low, high = amount_band(row.amount_minor, row.currency)
    status = report_status(row, reversal, policy, now, disputed=flags[0], unconfirmed=flags[1], held=held)
    appealable = _appealable(row, cases, context)
    return {
        "id": encode_id("rp", row.id, context.service),
        "conduct": conduct,
        "reported_conduct": row.conduct,
        "status": status.value,
        "act_date": format_time(row.act_ended_at)[:10],
        "told_date": format_time(row.notice_sent_at)[:10],
        "recorded_at": format_time(row.recorded_at),
        "effective_from": format_time(from_hour(row.effective_hour)),
        "expires_at": format_time(from_day(expires_day)),
        "amount_band": {"low": low, "high": high, "currency": row.currency},
        "outcome": row.outcome,
        "appealable": appealable,
        "withdrawal_reason": None if reversal is None or reversal.kind != "withdrawal" else reversal.reason,
        "entry_index": row.id,
    }


def _standing(events: Iterable[Event], weights: Mapping[str, int], policy: Policy, now: datetime) -> dict[str, Any]:
    standing = fold(merge(events), weights, policy, now)
    return {
        "tier": standing.tier.value,
        "credit": standing.credit,
        "points": standing.points,
        "events": standing.events,
        "reporters": standing.reporters,
        "disputed": standing.disputed,
        "protected": standing.protected,
        "reasons": [
            {
                "code": reason.value,
                **{language.member: reason_text(reason, language.code) for language in LANGUAGES.values()},
            }
            for reason in standing.reasons
        ],
        "policy": policy.version,
    }


def _public(report_id: int | None, context: Context) -> str | None:
    return None if report_id is None else encode_id("rp", report_id, context.service)


def _named(platform: str, session: SubjectSessionRow) -> str | None:
    """Return the platform's name if it opened the session, else None."""
    return platform if platform == session.platform else None


def _evidence(connection: Connection, report_id: int) -> dict[str, Any]:
    """Return the types of the evidence in the order of the report, the origins of its original files, and the findings
    of inspections, each code once, with the weakest trust in a signer that it rests on. All are empty once the body is
    erased."""
    items = reported_evidence(connection, report_id)
    trusts: dict[str, list[str | None]] = {}
    for item in items:
        inspection = item.get("inspection", {})
        for code in inspection.get("findings", ()):
            trusts.setdefault(code, []).append(inspection.get("trust"))
    return {
        "evidence": [str(item["type"]) for item in items],
        "origins": [_origin(item) for item in items if item["type"] == EvidenceType.ORIGINAL_FILE],
        "confirmations": [_confirmation(item["confirmation"]) for item in items if "confirmation" in item],
        "findings": sorted(trusts),
        "trust": {code: _weakest(values) for code, values in sorted(trusts.items()) if code in SIGNED},
    }


def _origin(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return where an original file came from. The source is None in reports made before it was recorded."""
    origin = item.get("origin", {})
    return {"source": origin.get("source"), "received_at": origin.get("received_at")}


def _confirmation(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("issuer", "answered_at", "verdict")}


def _weakest(trusts: Iterable[str | None]) -> str | None:
    known = [None if trust is None else Trust(trust) for trust in trusts]
    lowest = None if None in known else weakest(trust for trust in known if trust is not None)
    return None if lowest is None else lowest.value


def _statement(row: StatementRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {"text": row.text, "locale": row.locale, "made_at": format_time(row.made_at), "entry_index": row.entry_index}


def _appealable(report: ReportRow, cases: Sequence[CaseRow], context: Context) -> bool:
    """True if the person can file their own appeal against the report."""
    conduct = Conduct(case_queries.conduct_in_force(cases) or report.conduct)
    expires_day = context.policy.expiry_day(conduct, day_floor(report.act_ended_at), report.expires_day)
    unused = blocking([case.as_round for case in cases], None) is None
    return report.live and unused and expires_day > day_floor(context.now())


def principal_case(cases: Sequence[CaseRow]) -> CaseRow:
    """Return, of the cases about one report (at least one), the person's own case that counts, or the one that decides
    how the report stands."""
    own = [case for case in cases if case.filed_by_subject]
    return case_queries.leading(own if any(case.as_round.uses_up for case in own) else cases)


def subject_case_view(
    connection: Connection, row: CaseRow, cases: Sequence[CaseRow], report: ReportRow | None, context: Context
) -> dict[str, Any]:
    """Return the case as the person sees it, with the actions open to them and its letters. `cases` are all cases about
    the report."""
    view = case_view(connection, row, Party.SUBJECT, context.service)
    reporters = row.round == row.reporter_round
    view["can_withdraw"] = row.is_open and row.withdrawals < MAX_WITHDRAWALS and not reporters
    view["can_agree"] = row.state in OPEN_STATES and (view["concession"] or {}).get("agreed_at", "") is None
    view["own"] = row.filed_by_subject
    view["letters"] = [kind.value for kind in letters_of(row)]
    view["earlier_letters"] = [
        {"round": number, "kind": kind.value} for number, kind in all_letters(connection, row) if number < row.round
    ]
    settled = row.state in (CaseState.DECIDED, CaseState.WITHDRAWN)
    limits = (row.reopen_until, expires_at(context.policy, report, row, None))
    until = [limit for limit in limits if limit is not None]
    in_time = row.reopen_until is not None and context.now() < min(until)
    view["can_reopen"] = settled and in_time and can_be_reopened(cases, row, own=True)
    view["reopen_until"] = format_time(min(until)) if view["can_reopen"] else None
    view["appealable"] = report is not None and _appealable(report, cases, context)
    view["expires_at"] = format_time(until[-1]) if report is not None else None
    return view


EXPORT_FORMAT = "refund-credit-record/1"


def export_record(
    context: Context,
    weights: Mapping[str, int],
    session: SubjectSessionRow,
    origin: str,
    log_key: str,
    locale: str,
    prefix: str = "",
) -> dict[str, Any]:
    """Return {format, service, locale, session, record, meanings, verify}: `own_record`, the texts of its codes, and
    how to check it against the public log.

    `meanings` are in `locale`; the log's paths begin with `prefix`, that of the service. Files are named with their
    SHA-256 and downloaded one by one. Raises DatabaseUnavailable.
    """
    return {
        "format": EXPORT_FORMAT,
        "service": context.service,
        "locale": locale,
        "session": {
            "opened_by": session.platform,
            "created_at": format_time(session.created_at),
            "expires_at": None if session.expires_at is None else format_time(session.expires_at),
            "identifier_kinds": sorted({kind for kind, _ in session.subjects}),
            "key_epoch": session.epoch,
        },
        "record": own_record(context, weights, session),
        "meanings": meanings(locale),
        "verify": verification(origin, log_key, locale, prefix),
    }


def verification(origin: str, log_key: str, locale: str, prefix: str) -> dict[str, str]:
    """Return how to check the entry indexes of the record against the public log, without trusting this service."""
    return {
        "origin": origin,
        "log_key": log_key,
        "checkpoint": prefix + "/log/checkpoint",
        "tiles": prefix + "/log/tile/{level}/{path}",
        "entries": prefix + "/log/tile/entries/{path}",
        "how": texts(locale).gettext(
            "Each entry_index is the place of an entry in a public log that can only grow. Fetch the checkpoint, check "
            "its signature with log_key, and fetch the entries tile that holds the index (256 entries a tile): the "
            "entry there names its index, the hour in which it was recorded, and a commitment to what it says. Hashed "
            "into the tree as RFC 6962 describes, it leads to the root that the checkpoint signs. Keep the checkpoint: "
            "with it anybody can show later if an entry was taken out, moved or changed."
        ),
    }
