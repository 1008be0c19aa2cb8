"""Queries on lines of orders (`rules.order_lines`): their history, closures, held reports, contested reports that share
a tag with a new one, and the concessions and reopening requests of reporters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from ledger.protocol.encoding import unb64url
from ledger.protocol.tags import tag
from ledger.rules.appeals import OPEN_STATES, CaseState, Outcome
from ledger.rules.order_lines import (
    Closed,
    Decided,
    Ended,
    InForce,
    LineEvent,
    Opened,
    Recorded,
    ReopeningAsked,
    Repaid,
    Withdrawn,
)
from ledger.server.db.bulk import chunks, insert_rows, table_of, upsert
from ledger.server.db.tables.appeals import AppealCase, CaseEntry, CaseTag
from ledger.server.db.tables.keys import KeyEpoch
from ledger.server.db.tables.log import EntryBody
from ledger.server.db.tables.orders import Concession, HeldReport, OrderClosure, ReopeningRequest
from ledger.server.db.tables.reports import Listing, Report, Restitution, Reversal, Subject

_OPEN = [state.value for state in OPEN_STATES]

Order = tuple[str, bytes]
"""(control group, order_ref): the key of a line."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A held report; see `HeldReport`."""

    report_id: int
    control_group: str
    case_id: int
    like_id: int
    void_at: datetime
    explanation: str | None
    explained_at: datetime | None
    revision: int
    proposer_id: int | None
    signer_id: int | None
    reasons: str | None
    released_at: datetime | None
    released_index: int | None
    refused_at: datetime | None

    @property
    def waits(self) -> bool:
        """True while the report is not released."""
        return self.released_at is None


@dataclass(frozen=True, slots=True)
class MetRow:
    """A contested or held report that shares a tag with a new one. `case_id` is a case about `like_id`, which is the
    contested report itself, or the one because of which a report is held; `like_ref` is its order, None once it is
    erased."""

    tag: bytes
    report_id: int
    like_id: int
    like_ref: bytes | None
    case_id: int
    control_group: str
    order_ref: bytes
    act_ended_at: datetime
    currency: str
    amount_minor: int
    held: bool


def _by_group(orders: Iterable[Order]) -> Iterable[tuple[str, list[bytes]]]:
    groups: dict[str, list[bytes]] = {}
    for group, order_ref in dict.fromkeys(orders):
        groups.setdefault(group, []).append(order_ref)
    for group, refs in groups.items():
        for some in chunks(refs):
            yield group, some


# --- history ------------------------------------------------------------------------------------------------------


def histories(connection: Connection, orders: Iterable[Order]) -> dict[Order, list[LineEvent]]:
    """Return the events of each of these lines that are not erased, by order; a line without reports or closure is left
    out.

    The reports of a line are in the order of their ids, each followed by its events.
    """
    by_order: dict[Order, list[LineEvent]] = {}
    reports: dict[int, tuple[Order, datetime, int]] = {}
    for group, refs in _by_group(orders):
        closures = select(OrderClosure.order_ref, OrderClosure.case_id)
        where = (OrderClosure.control_group == group, OrderClosure.order_ref.in_(refs))
        for order_ref, case_id in connection.execute(closures.where(*where)):
            by_order.setdefault((group, bytes(order_ref)), []).append(Closed(case_id))
        rows = connection.execute(
            select(Report.id, Report.order_ref, Report.recorded_at, Report.expires_day).where(
                Report.control_group == group, Report.order_ref.in_(refs)
            )
        )
        for report_id, order_ref, recorded_at, expires_day in rows:
            reports[report_id] = ((group, bytes(order_ref)), recorded_at, expires_day)
    if not reports:
        return by_order
    held = held_reports(connection, reports)
    repaid = {row.report_id: row.received_at for row in _of_reports(connection, Restitution, reports)}
    reversed_ = {row.report_id: row for row in _of_reports(connection, Reversal, reports)}
    cases = _cases(connection, reports)
    decided = _in_force(connection, cases)
    for report_id, (order, recorded_at, expires_day) in sorted(reports.items()):
        history = by_order.setdefault(order, [])
        waits = report_id in held and held[report_id].waits
        history.append(Recorded(report_id, recorded_at, expires_day, held=waits))
        if report_id in repaid:
            history.append(Repaid(report_id, repaid[report_id]))
        for case in cases.get(report_id, ()):
            history += _case_history(case)
        if report_id in decided:
            history.append(InForce(report_id, decided[report_id]))
        # A decision that reverses the report is in the case; what a withdrawal closed is an OrderClosure.
        if report_id in reversed_:
            history.append(Withdrawn(report_id))
    return by_order


def _of_reports(connection: Connection, model: Any, ids: Iterable[int]) -> Iterable[Any]:
    for some in chunks(ids):
        yield from connection.execute(select(*table_of(model).columns).where(model.report_id.in_(some)))


@dataclass(frozen=True, slots=True)
class _Case:
    id: int
    report_id: int
    state: str
    outcome: str | None
    previous: str | None
    decided_at: datetime | None
    asked: bool


def _cases(connection: Connection, report_ids: Iterable[int]) -> dict[int, list[_Case]]:
    """Return every case about each of these reports, oldest first."""
    cases: dict[int, list[_Case]] = {}
    asked = exists().where(ReopeningRequest.case_id == AppealCase.id)
    columns = (
        AppealCase.id, AppealCase.report_id, AppealCase.state, AppealCase.outcome, AppealCase.previous_outcome,
        AppealCase.decided_at, asked,
    )  # fmt: skip
    for some in chunks(report_ids):
        statement = select(*columns).where(AppealCase.report_id.in_(some)).order_by(AppealCase.id)
        for row in connection.execute(statement):
            cases.setdefault(row[1], []).append(_Case(*row))
    return cases


def _in_force(connection: Connection, report_ids: Iterable[int]) -> dict[int, Outcome]:
    """Return the newest decision on the merits about each of these reports, in whichever of its cases."""
    outcomes: dict[int, Outcome] = {}
    for some in chunks(report_ids):
        rows = connection.execute(
            select(CaseEntry.report_id, CaseEntry.outcome)
            .where(CaseEntry.report_id.in_(some), CaseEntry.outcome.in_([outcome.value for outcome in Outcome]))
            .order_by(CaseEntry.entry_index)
        )
        outcomes |= {report_id: Outcome(str(outcome)) for report_id, outcome in rows}
    return outcomes


def _case_history(case: _Case) -> Iterable[LineEvent]:
    """Yield the events of a case. A decision that was reopened stays in force until there is another."""
    yield Opened(case.report_id, case.id)
    is_open = case.state in _OPEN
    if case.previous is not None:
        yield Decided(case.report_id, case.id, Outcome(case.previous))
        if is_open:
            yield Opened(case.report_id, case.id)
    if case.outcome is not None and not is_open:
        yield Decided(case.report_id, case.id, Outcome(case.outcome), case.decided_at)
    elif not is_open and case.previous is None:
        yield Ended(case.id)
    if case.asked:
        yield ReopeningAsked(case.id)


def open_cases(connection: Connection, report_ids: Iterable[int]) -> dict[int, list[int]]:
    """Return the ids of the open cases about each of these reports, oldest first; reports without one are left out."""
    cases: dict[int, list[int]] = {}
    for some in chunks(report_ids):
        rows = connection.execute(
            select(AppealCase.report_id, AppealCase.id)
            .where(AppealCase.report_id.in_(some), AppealCase.state.in_(_OPEN))
            .order_by(AppealCase.id)
        )
        for report_id, case_id in rows:
            cases.setdefault(report_id, []).append(case_id)
    return cases


def close(connection: Connection, order: Order, case_id: int) -> None:
    """Close the line because of this case, so that it takes no further report; an earlier reason stays."""
    values = {"control_group": order[0], "order_ref": order[1], "case_id": case_id}
    connection.execute(upsert(connection, OrderClosure).values(**values).on_conflict_do_nothing())


def close_erased(connection: Connection, report_ids: Sequence[int]) -> None:
    """Close the lines of those of these reports that were ever contested. Call it before the reports and their cases
    are erased."""
    rows = connection.execute(
        select(Report.control_group, Report.order_ref, func.min(AppealCase.id))
        .join(AppealCase, AppealCase.report_id == Report.id)
        .where(Report.id.in_(report_ids))
        .group_by(Report.control_group, Report.order_ref)
    ).all()
    for group, order_ref, case_id in rows:
        close(connection, (group, bytes(order_ref)), case_id)


# --- the same matter under another order --------------------------------------------------------------------------


def met(connection: Connection, tags: Iterable[bytes]) -> list[MetRow]:
    """Return the reports with any of `tags` that were held and not released, or about which, or about a later one of
    their line, a case was ever opened.

    There is one query for each table, by its keys: with a join, a database may read a whole table for a `min` or an
    outer join.
    """
    tagged: list[tuple[bytes, int]] = []
    for some in chunks(tags):
        rows = connection.execute(select(CaseTag.tag, CaseTag.report_id).where(CaseTag.tag.in_(some)))
        tagged += [(bytes(shared_tag), report_id) for shared_tag, report_id in rows]
    if not tagged:
        return []
    ids = {report_id for _, report_id in tagged}
    held = {report_id: row for report_id, row in held_reports(connection, ids).items() if row.waits}
    reports = _reports(connection, [*ids, *(row.like_id for row in held.values())])
    cases = _first_cases(connection, [reports[report_id] for report_id in ids if report_id in reports])
    relevant = held.keys() | cases.keys()
    rows_met = []
    for shared_tag, report_id in tagged:
        if report_id not in relevant or report_id not in reports:
            continue
        report, hold = reports[report_id], held.get(report_id)
        like = report if hold is None else reports.get(hold.like_id)
        rows_met.append(
            MetRow(
                tag=shared_tag,
                report_id=report_id,
                like_id=report_id if hold is None else hold.like_id,
                like_ref=None if like is None else bytes(like.order_ref),
                case_id=cases[report_id] if hold is None else hold.case_id,
                control_group=report.control_group,
                order_ref=bytes(report.order_ref),
                act_ended_at=report.act_ended_at,
                currency=report.currency,
                amount_minor=report.amount_minor,
                held=hold is not None,
            )
        )
    return rows_met


def _reports(connection: Connection, ids: Iterable[int]) -> dict[int, Any]:
    columns = (Report.id, Report.control_group, Report.order_ref, Report.act_ended_at, Report.currency)
    reports = {}
    for some in chunks(ids):
        for row in connection.execute(select(*columns, Report.amount_minor).where(Report.id.in_(some))):
            reports[row.id] = row
    return reports


def _first_cases(connection: Connection, reports: Sequence[Any]) -> dict[int, int]:
    """Return the first case about each of these reports or about a later one of its line; reports without one are left
    out."""
    lines: dict[Order, list[int]] = {}
    for group, refs in _by_group((row.control_group, bytes(row.order_ref)) for row in reports):
        where = (Report.control_group == group, Report.order_ref.in_(refs))
        for report_id, order_ref in connection.execute(select(Report.id, Report.order_ref).where(*where)):
            lines.setdefault((group, bytes(order_ref)), []).append(report_id)
    cases: dict[int, int] = {}
    for some in chunks(report_id for ids in lines.values() for report_id in ids):
        rows = select(AppealCase.report_id, AppealCase.id).where(AppealCase.report_id.in_(some))
        for report_id, case_id in connection.execute(rows):
            cases[report_id] = min(case_id, cases.get(report_id, case_id))
    first: dict[int, int] = {}
    for row in reports:
        line = lines.get((row.control_group, bytes(row.order_ref)), [])
        about = [cases[report_id] for report_id in line if report_id >= row.id and report_id in cases]
        if about:
            first[row.id] = min(about)
    return first


def evidence_of(connection: Connection, report_ids: Iterable[int]) -> dict[int, frozenset[bytes]]:
    """Return the SHA-256 digests of the evidence that the bodies of these reports name; none where the body is
    erased."""
    digests: dict[int, frozenset[bytes]] = {}
    for some in chunks(report_ids):
        rows = connection.execute(select(EntryBody.entry_index, EntryBody.body).where(EntryBody.entry_index.in_(some)))
        for report_id, body in rows:
            items = json.loads(body)["body"]["evidence"]
            digests[report_id] = frozenset([unb64url(item["sha256"], 32) for item in items])
    return digests


def subject_tags(connection: Connection, report_id: int) -> set[bytes]:
    """Return the tags of a report's subjects under every stored key epoch, also when it is not listed any longer."""
    rows = connection.execute(select(Subject.kind, Subject.element).where(Subject.report_id == report_id))
    return {tag(kind, bytes(element)) for kind, element in rows}


def remember_earlier(connection: Connection, report_id: int) -> None:
    """Let the person find the earlier reports of this report's line, and intake what is like them: a reporter may have
    named other identifiers of the person in them."""
    own, earlier = aliased(Report), aliased(Report)
    rows = connection.execute(
        select(Subject.report_id, Subject.slot, Subject.epoch, Subject.kind, Subject.element)
        .join(earlier, earlier.id == Subject.report_id)
        .join(own, (own.control_group == earlier.control_group) & (own.order_ref == earlier.order_ref))
        .where(own.id == report_id, earlier.id < own.id)
    ).all()
    tagged = [(tag(row.kind, bytes(row.element)), row) for row in rows]
    remember_tags(
        connection,
        [
            {"tag": earlier_tag, "report_id": row.report_id, "slot": row.slot, "epoch": row.epoch}
            for earlier_tag, row in tagged
        ],
    )


def remember_tags(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let the person find a report that is not listed under these {tag, report_id, slot, epoch}."""
    if rows:
        connection.execute(upsert(connection, CaseTag).on_conflict_do_nothing(), list(rows))


# --- held reports -------------------------------------------------------------------------------------------------

_HELD = select(*[getattr(HeldReport, name) for name in HeldRow.__dataclass_fields__])


def held_reports(connection: Connection, report_ids: Iterable[int]) -> dict[int, HeldRow]:
    """Return the reports of these that are or were held, by id."""
    held: dict[int, HeldRow] = {}
    for some in chunks(report_ids):
        for row in connection.execute(_HELD.where(HeldReport.report_id.in_(some))):
            held[row[0]] = HeldRow(*row)
    return held


def waiting(connection: Connection, limit: int, but_group: str | None = None) -> list[HeldRow]:
    """Return at most `limit` held reports that wait for a decision, without those of the control group `but_group`: the
    report that becomes void first is first."""
    statement = (
        _HELD.join(Report, Report.id == HeldReport.report_id)
        .where(HeldReport.released_at.is_(None), Report.live)
        .order_by(HeldReport.void_at, HeldReport.report_id)
        .limit(limit)
    )
    if but_group is not None:
        statement = statement.where(HeldReport.control_group != but_group)
    return [HeldRow(*row) for row in connection.execute(statement)]


def due_held(
    connection: Connection, now: datetime, limit: int, after: tuple[datetime, int] | None = None
) -> list[tuple[datetime, int]]:
    """Return (void_at, report) of held reports whose time is over and that still wait, in this order, at most `limit`
    beyond `after`."""
    statement = (
        select(HeldReport.void_at, HeldReport.report_id)
        .join(Report, Report.id == HeldReport.report_id)
        .where(HeldReport.void_at <= now, HeldReport.released_at.is_(None), Report.live)
        .order_by(HeldReport.void_at, HeldReport.report_id)
    )
    if after is not None:
        void_at, number = after
        beyond = or_(HeldReport.void_at > void_at, and_(HeldReport.void_at == void_at, HeldReport.report_id > number))
        statement = statement.where(beyond)
    return [(void_at, number) for void_at, number in connection.execute(statement.limit(limit))]


def insert_held(connection: Connection, row: HeldRow) -> None:
    """Insert a held report."""
    insert_rows(connection, HeldReport, [{name: getattr(row, name) for name in row.__dataclass_fields__}])


def save_held(connection: Connection, row: HeldRow) -> None:
    """Write the present values of a held report."""
    values = {name: getattr(row, name) for name in row.__dataclass_fields__ if name != "report_id"}
    connection.execute(update(HeldReport).where(HeldReport.report_id == row.report_id).values(**values))


def list_released(connection: Connection, report_id: int, values: Mapping[str, Any]) -> list[bytes]:
    """Make the listings of a released report from its remembered tags, under every key epoch that is not retired and
    for each subject that it still has; `values` are the other columns. Returns the tags."""
    subjects = select(Subject.slot, Subject.kind).where(Subject.report_id == report_id).distinct()
    kinds = {row.slot: row.kind for row in connection.execute(subjects)}
    tags = connection.execute(
        select(CaseTag.tag, CaseTag.slot, CaseTag.epoch)
        .join(KeyEpoch, KeyEpoch.epoch == CaseTag.epoch)
        .where(CaseTag.report_id == report_id, KeyEpoch.state != "retired")
    ).all()
    rows = [(case_tag, slot, epoch, kinds[slot]) for case_tag, slot, epoch in tags if slot in kinds]
    insert_rows(
        connection,
        Listing,
        [
            {"tag": bytes(case_tag), "report_id": report_id, "slot": slot, "epoch": epoch, "kind": kind, **values}
            for case_tag, slot, epoch, kind in rows
        ],
    )
    return [bytes(row[0]) for row in rows]


def set_effective(connection: Connection, report_id: int, *, effective_hour: int, act_id: int) -> None:
    """Set the hour from which a released report counts, and the act that it is about."""
    connection.execute(
        update(Report).where(Report.id == report_id).values(effective_hour=effective_hour, act_id=act_id)
    )


# --- concessions and requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConcessionRow:
    """The concession of a reporter; see `Concession`."""

    case_id: int
    round: int
    conduct: str
    severity: int
    conceded_at: datetime
    agreed_at: datetime | None


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A reporter's request to open a case again; see `ReopeningRequest`."""

    case_id: int
    evidence_sha256: bytes
    text: str
    requested_at: datetime
    granted: bool | None
    round: int | None
    staff_id: int | None
    reasons: str | None
    decided_at: datetime | None


_CONCESSION = select(*[getattr(Concession, name) for name in ConcessionRow.__dataclass_fields__])
_REQUEST = select(*[getattr(ReopeningRequest, name) for name in RequestRow.__dataclass_fields__])


def concession(connection: Connection, case_id: int, round_number: int) -> ConcessionRow | None:
    """Return the concession in this round of the case, None if there is none."""
    row = connection.execute(
        _CONCESSION.where(Concession.case_id == case_id, Concession.round == round_number)
    ).one_or_none()
    return None if row is None else ConcessionRow(*row)


def insert_concession(connection: Connection, row: ConcessionRow) -> None:
    """Insert a concession."""
    connection.execute(insert(Concession).values(**{name: getattr(row, name) for name in row.__dataclass_fields__}))


def agree(connection: Connection, case_id: int, round_number: int, now: datetime) -> None:
    """Record that the person agrees to the concession of this round."""
    where = (Concession.case_id == case_id, Concession.round == round_number)
    connection.execute(update(Concession).where(*where).values(agreed_at=now))


def withdraw_agreement(connection: Connection, case_id: int, round_number: int) -> None:
    """Record that the person does not agree any longer to the concession of this round."""
    where = (Concession.case_id == case_id, Concession.round == round_number)
    connection.execute(update(Concession).where(*where).values(agreed_at=None))


def request(connection: Connection, case_id: int) -> RequestRow | None:
    """Return the reporter's request to reopen this case, None if there is none."""
    row = connection.execute(_REQUEST.where(ReopeningRequest.case_id == case_id)).one_or_none()
    return None if row is None else RequestRow(*row)


def insert_request(connection: Connection, row: RequestRow) -> None:
    """Insert a request."""
    values = {name: getattr(row, name) for name in row.__dataclass_fields__}
    connection.execute(insert(ReopeningRequest).values(**values))


def save_request(connection: Connection, row: RequestRow) -> None:
    """Write the present values of a request."""
    values = {name: getattr(row, name) for name in row.__dataclass_fields__ if name != "case_id"}
    connection.execute(update(ReopeningRequest).where(ReopeningRequest.case_id == row.case_id).values(**values))


def open_requests(connection: Connection, limit: int, but_group: str | None = None) -> list[RequestRow]:
    """Return requests without a decision, the oldest first, those of the control group `but_group` left out."""
    live = exists().where(Report.id == AppealCase.report_id, Report.live)
    statement = (
        _REQUEST.join(AppealCase, AppealCase.id == ReopeningRequest.case_id)
        .where(ReopeningRequest.granted.is_(None), AppealCase.state.in_([CaseState.DECIDED.value, "closed"]), live)
        .order_by(ReopeningRequest.requested_at, ReopeningRequest.case_id)
        .limit(limit)
    )
    if but_group is not None:
        statement = statement.where(AppealCase.control_group != but_group)
    return [RequestRow(*row) for row in connection.execute(statement)]
