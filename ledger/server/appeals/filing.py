"""Filing appeals: check what an appeal says, count the attempt, and open one case for each contested report.

All cases of an appeal are opened in one transaction with their `dispute` entries, or none is. An attempt of a platform
is counted and committed before anything about the reports is read, by the same statements whether or not the ledger
holds anything about the person: neither a refusal nor its duration shows what is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, literal, select

from ledger.errors import AppealInvalid, CaseExists, ConflictOfInterest, NotFound, QuotaExceeded
from ledger.i18n import LOCALES
from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import MAX_REPORTS, MAX_TEXT_CHARS, Action, Actor, CaseState, Grounds, Outcome
from ledger.rules.clean_text import cleaned
from ledger.rules.conduct import Conduct
from ledger.rules.deadlines import due_at, earlier_profile
from ledger.rules.policy.values import Profile
from ledger.rules.rounds import adoptable, blocking, has_room, suspends
from ledger.rules.webhooks import WebhookType
from ledger.server.appeals.case_changes import (
    Move,
    add_dispute_entry,
    add_event,
    apply_action,
    notify_parties,
    update_marks,
    zones,
)
from ledger.server.db.bulk import upsert
from ledger.server.db.engine import writing
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.db.tables.appeals import CaseTag, FilingUse
from ledger.server.db.tables.lookups import LookupLog, LookupTag
from ledger.server.db.tables.reports import Listing
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime
from ledger.server.platforms.members import Member
from ledger.server.platforms.queries import lock_platform, read_platforms
from ledger.server.records import case_queries, order_line_queries
from ledger.server.records import queries as report_queries
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.idempotency import IdempotentRequest, is_stored
from ledger.server.records.queries import ReportRow
from ledger.server.records.transaction import EntryBatch
from ledger.server.settings import Settings

RAW_TEXT_CHARS = 10 * MAX_TEXT_CHARS
"""Longest text before it is cleaned; longer ones are refused unread."""


@dataclass(frozen=True, slots=True)
class Filing:
    """A checked appeal, and who filed it: a platform of the control group `group`, or (None) the person in a session
    that the platform opened."""

    reports: tuple[int, ...]
    grounds: Grounds
    statement: str
    locale: str
    platform: str
    profile: Profile
    group: str | None


def checked_filing(
    reports: Sequence[int], grounds: str, statement: str, locale: str, platform: str, profile: str, *, group: str | None
) -> Filing:
    """Return the appeal with its values checked. Raises AppealInvalid."""
    if not 1 <= len(reports) <= MAX_REPORTS or len(set(reports)) != len(reports):
        raise AppealInvalid(f"An appeal names 1 to {MAX_REPORTS} different reports.")
    try:
        reason = Grounds(grounds)
    except ValueError as error:
        raise AppealInvalid("These grounds do not exist.", known=sorted(Grounds)) from error
    if locale not in LOCALES:
        raise AppealInvalid(f"`locale` is {' or '.join(LOCALES)}.")
    text = clean_text(statement)
    return Filing(tuple(reports), reason, text, locale, platform, Profile(profile), group)


def clean_text(text: str) -> str:
    """Return a text of a person as `ledger.rules.clean_text.cleaned` does.

    Raises AppealInvalid if it has more than `MAX_TEXT_CHARS` characters, or no visible one.
    """
    visible = cleaned(text[: RAW_TEXT_CHARS + 1])
    if len(visible) > MAX_TEXT_CHARS or len(text) > RAW_TEXT_CHARS:
        raise AppealInvalid(f"A text has 1 to {MAX_TEXT_CHARS} characters.", limit_chars=MAX_TEXT_CHARS)
    if not visible:
        raise AppealInvalid(
            "This text shows nothing, and a text that shows nothing ends no clock. Write something.",
            limit_chars=MAX_TEXT_CHARS,
        )
    return visible


NOT_APPEALABLE = (
    "A report that this appeal names is not in the ledger (any more), is not about this person, or takes no more "
    "appeals from platforms. The person can see and contest what there is in their own session."
)
"""The one answer for every report that a platform may not contest, so that it does not reveal which case applies."""

NOT_ABOUT_YOU = "A report that this appeal names is not in the ledger (any more), or not about you."
"""The same answer in a person's own session."""


@dataclass(frozen=True, slots=True)
class ContestedReports:
    """The reports that an appeal names, their cases, and the ids of those about the person. They are read by the same
    queries whatever the ledger holds."""

    reports: Mapping[int, ReportRow]
    cases: Mapping[int, Sequence[CaseRow]]
    about: Set[int]


def open_cases(batch: EntryBatch, filing: Filing, tags: frozenset[bytes]) -> list[CaseRow]:
    """Open a case against each report of an appeal, for the person with these tags, in the caller's transaction.

    The person's own appeal takes over a case that a platform has open for them. Raises ConflictOfInterest, CaseExists,
    NotFound.
    """
    about = case_queries.reports_of_tags(batch.connection, tags)
    contested = ContestedReports(
        reports=report_queries.reports_by_id(batch.connection, filing.reports),
        cases=case_queries.all_cases_of_reports(batch.connection, filing.reports),
        about=about.keys() & set(filing.reports),
    )
    _check_rights(batch, filing, contested)
    return _open_all(batch, filing, contested)


def _check_rights(batch: EntryBatch, filing: Filing, contested: ContestedReports) -> None:
    """Check that every report of the appeal may be contested by this filer.

    Facts that the filer knows anyway come first (a report of its own control group, a case of its own), so naming such
    a report beside another one reveals nothing about the other. All other refusals have one answer. Raises
    ConflictOfInterest, CaseExists, NotFound.
    """
    if filing.group is not None:
        for number in filing.reports:
            report = contested.reports.get(number)
            if report is None or report.control_group != filing.group:
                continue
            if report.platform == filing.platform or number in contested.about:
                raise ConflictOfInterest(
                    "The control group that made a report files no appeal against it. Give the person a link to their "
                    "own record: there they contest it themselves."
                )
    for number in filing.reports:
        taken = blocking([case.as_round for case in contested.cases.get(number, ())], filing.group)
        if taken is not None and number in contested.about:
            raise CaseExists(
                "There is a case about this report already. A decided case can be reopened once.",
                case=encode_id("ap", taken.case_id, batch.service),
            )
    if not all(_contestable(batch, filing, contested, number) for number in filing.reports):
        raise NotFound(NOT_ABOUT_YOU if filing.group is None else NOT_APPEALABLE)


def _contestable(batch: EntryBatch, filing: Filing, contested: ContestedReports, number: int) -> bool:
    """True if the report is live, about the person, not expired, and the filer has the right to a round."""
    report = contested.reports.get(number)
    if number not in contested.about or report is None or not report.live:
        return False
    cases = contested.cases.get(number, ())
    conduct = _conduct_of(cases, report)
    if batch.policy.expiry_day(conduct, day_floor(report.act_ended_at), report.expires_day) <= day_floor(batch.now):
        return False
    rounds = [case.as_round for case in cases]
    return filing.group is None or has_room(rounds, filing.group, report.control_group)


def _conduct_of(cases: Sequence[CaseRow], report: ReportRow) -> Conduct:
    """Return the current conduct of a report with these cases."""
    return Conduct(case_queries.conduct_in_force(cases) or report.conduct)


def _open_all(batch: EntryBatch, filing: Filing, contested: ContestedReports) -> list[CaseRow]:
    """Open a case against each report, or adopt a platform's open case for the person. The rights were checked
    before."""
    batch.load_reports(filing.reports, [])
    profiles = {row.name: Profile(row.profile) for row in read_platforms(batch.connection)}
    first = reserve_ids(batch.connection, "ap", len(filing.reports))
    rows = []
    for place, number in enumerate(filing.reports):
        report, cases = contested.reports[number], contested.cases.get(number, ())
        adopted = adoptable([case.as_round for case in cases]) if filing.group is None else None
        if adopted is not None:
            open_case = next(case for case in cases if case.id == adopted.case_id)
            rows.append(_adopt(batch, filing, open_case, _withdrawals(cases, None)))
        else:
            rows.append(_open(batch, filing, report, cases, first + place, first, profiles))
    return rows


def _withdrawals(cases: Sequence[CaseRow], group: str | None) -> int:
    """Return the number of appeals against the report that this side withdrew."""
    return max((case.withdrawals for case in cases if case.filing_group == group), default=0)


def _adopt(batch: EntryBatch, filing: Filing, row: CaseRow, withdrawals: int) -> CaseRow:
    """Make the platform's open case the person's own. Its deadline stays, and the platform's round is not used up. An
    agreement by the platform is revoked: the person decides about it."""
    row = replace(row, grounds=filing.grounds.value, locale=filing.locale, withdrawals=withdrawals)
    adopted = apply_action(batch, row, Move(Action.ADOPT, Actor.SUBJECT, text=filing.statement))
    order_line_queries.withdraw_agreement(batch.connection, adopted.id, adopted.round)
    return adopted


def _open(
    batch: EntryBatch,
    filing: Filing,
    report: ReportRow,
    cases: Sequence[CaseRow],
    case_id: int,
    group_id: int,
    profiles: dict[str, Profile],
) -> CaseRow:
    """Open a new case with its log entry, the report's marks, the first event and the notices."""
    zone = zones(batch.policy)
    could_apply = [filing.profile, profiles.get(report.platform, filing.profile)]
    profile = earlier_profile(could_apply, batch.now, batch.policy, zone)
    conduct = _conduct_of(cases, report)
    for old in cases:
        if old.filing_group == filing.group and old.state == CaseState.WITHDRAWN:
            apply_action(batch, old, Move(Action.CLOSE, Actor.LEDGER))  # this one takes its place
    decided = case_queries.decision_in_force(batch.connection, report.id)
    row = CaseRow(
        id=case_id,
        group_id=group_id,
        report_id=report.id,
        round=1,
        state=CaseState.SUBMITTED,
        previous_outcome=None if decided is None else Outcome(decided),
        amended_conduct=None if conduct.value == report.conduct else conduct.value,
        grounds=filing.grounds.value,
        profile=profile,
        locale=filing.locale,
        filed_via=filing.platform,
        filed_by_subject=filing.group is None,
        filing_group=filing.group,
        suspends=suspends([case.as_round for case in cases], filing.group, report.control_group),
        withdrawals=_withdrawals(cases, filing.group),
        platform=report.platform,
        control_group=report.control_group,
        conduct=report.conduct,
        severity=batch.policy.severity[conduct],
        opened_at=batch.now,
        due_at=due_at(batch.now, profile, batch.policy.appeals.clocks[profile], zone[profile]),
    )
    case_queries.insert_case(batch.connection, row)
    case_queries.copy_tags(batch.connection, report.id)
    order_line_queries.remember_earlier(batch.connection, report.id)
    index = add_dispute_entry(batch, row)
    update_marks(batch, row)
    move = Move(Action.OPEN, Actor.SUBJECT, platform=None if filing.group is None else filing.platform)
    add_event(batch, row, move, text=filing.statement, entry_index=index)
    notify_parties(batch, row, WebhookType.APPEAL_OPENED)
    return row


# --- attempts of platforms --------------------------------------------------------------------------------------------


log = logging.getLogger(__name__)

FILING_PURPOSE = "appeal_filing"
"""The purpose of an attempt to file, in the list of lookups."""


def count_attempt(
    engine: Engine, settings: Settings, member: Member, tags: Iterable[bytes], now: datetime, request: IdempotentRequest
) -> None:
    """Count an attempt of `member` to file an appeal for the person with these tags, and list it in the person's record
    if they have one. A repeated request that has its answer already is not counted again.

    Raises QuotaExceeded after `appeals_daily_quota` attempts in a UTC day, DatabaseUnavailable.
    """
    midnight = datetime.combine(now.astimezone(UTC).date(), time(0), tzinfo=UTC)
    with writing(engine) as connection:
        if is_stored(connection, request):
            return
        lock_platform(connection, member.platform)  # so that two at once do not both find room
        if _attempts_of_day(connection, member.platform, day_floor(now)) >= settings.appeals_daily_quota:
            seconds = int((midnight + timedelta(days=1) - now).total_seconds()) + 1
            log.info("appeal_filing", extra={"platform": member.platform, "outcome": QuotaExceeded.code})
            raise QuotaExceeded("The daily quota of appeals to file is used up.", retry_after_seconds=seconds)
        _add_to_count(connection, member.platform, day_floor(now))
        number = reserve_ids(connection, "lk", 1)
        _log_attempt(connection, number, member.platform, FILING_PURPOSE, sorted(set(tags)), now)


def log_attempt_outcome(member: Member, outcome: str) -> None:
    """Log the result of an attempt: `filed`, or the code of the refusal, without reports or persons."""
    log.info("appeal_filing", extra={"platform": member.platform, "outcome": outcome})


def forget_counts(engine: Engine, now: datetime) -> None:
    """Delete the counts of days before that of `now`. Raises DatabaseUnavailable."""
    with writing(engine) as connection:
        _delete_counts(connection, day_floor(now))


def _attempts_of_day(connection: Connection, platform: str, day: int) -> int:
    """Return the number of attempts of the platform in the UTC day (days since the Unix epoch)."""
    of_day = (FilingUse.platform == platform, FilingUse.day == day)
    return connection.execute(select(FilingUse.attempts).where(*of_day)).scalar_one_or_none() or 0


def _add_to_count(connection: Connection, platform: str, day: int) -> None:
    """Increment the count of the day."""
    statement = upsert(connection, FilingUse).values(platform=platform, day=day, attempts=1)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["platform", "day"], set_={"attempts": FilingUse.attempts + 1})
    )


def _log_attempt(
    connection: Connection, number: int, platform: str, purpose: str, tags: Sequence[bytes], now: datetime
) -> None:
    """Store the attempt as lookup `number` of the person with these tags, if a report is or was listed under one of
    them. Without one the same statements insert nothing."""
    this = literal(number, BigInt)
    listed = select(Listing.tag, this).where(Listing.tag.in_(tags))
    appealed = select(CaseTag.tag, this).where(CaseTag.tag.in_(tags))
    connection.execute(insert(LookupTag).from_select(["tag", "lookup_id"], listed.union(appealed)))
    values: dict[str, Any] = {
        "id": this,
        "platform": literal(platform),
        "purpose": literal(purpose),
        "order_ref": literal(bytes(32), Bytes32()),
        "tier": literal("none"),
        "as_of_index": literal(0, BigInt),
        "asked_at": literal(now, UtcDateTime()),
    }
    matched = select(LookupTag.lookup_id).where(LookupTag.lookup_id == number)
    connection.execute(insert(LookupLog).from_select(list(values), select(*values.values()).where(matched.exists())))


def _delete_counts(connection: Connection, before_day: int) -> None:
    """Delete the counts of days before `before_day`."""
    connection.execute(delete(FilingUse).where(FilingUse.day < before_day))
