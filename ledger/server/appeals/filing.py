"""Opening appeals: a case for each contested report, all or none, in one transaction with their `dispute` entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from ledger.errors import AppealInvalid, CaseExists, ConflictOfInterest, NotFound
from ledger.i18n import LOCALES
from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import MAX_REPORTS, MAX_TEXT_CHARS, Action, Actor, CaseState, Grounds
from ledger.rules.clean_text import cleaned
from ledger.rules.conduct import Conduct
from ledger.rules.deadlines import due_at, earlier_profile
from ledger.rules.policy.values import Profile
from ledger.rules.rounds import adoptable, blocking, has_room, suspends
from ledger.rules.webhooks import WebhookType
from ledger.server.appeals.perform import Move, add_event, dispute, mark, notify_parties, perform
from ledger.server.appeals.rows import to_round, zones
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.platforms.queries import read_platforms
from ledger.server.records import case_queries as store
from ledger.server.records import order_line_queries as line_store
from ledger.server.records import queries as report_store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.queries import ReportRow
from ledger.server.records.transaction import EntryBatch

RAW_TEXT_CHARS = 10 * MAX_TEXT_CHARS
"""Characters of a text before it is cleaned; longer ones are not looked at."""


@dataclass(frozen=True, slots=True)
class Filing:
    """What an appeal says, and how it came: filed by a platform of the control group `group`, or (None) by the person
    in a session that the platform opened."""

    reports: tuple[int, ...]
    grounds: Grounds
    statement: str
    locale: str
    platform: str
    profile: Profile
    group: str | None


def filing(
    reports: Sequence[int], grounds: str, statement: str, locale: str, platform: str, profile: str, *, group: str | None
) -> Filing:
    """A checked filing. Raises AppealInvalid."""
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
    """A text that a person wrote, as `ledger.rules.clean_text.cleaned` gives it. Raises AppealInvalid when it has more
    than `MAX_TEXT_CHARS` characters, or shows nothing."""
    made = cleaned(text[: RAW_TEXT_CHARS + 1])
    if len(made) > MAX_TEXT_CHARS or len(text) > RAW_TEXT_CHARS:
        raise AppealInvalid(f"A text has 1 to {MAX_TEXT_CHARS} characters.", limit_chars=MAX_TEXT_CHARS)
    if not made:
        raise AppealInvalid(
            "This text shows nothing, and a text that shows nothing ends no clock. Write something.",
            limit_chars=MAX_TEXT_CHARS,
        )
    return made


NOT_APPEALABLE = (
    "A report that this appeal names is not in the ledger (any more), is not about this person, or takes no more "
    "appeals from platforms. The person can see and contest what there is in their own session."
)
"""The one answer about every report that the caller may not contest: it tells none of these cases from another."""


NOT_ABOUT_YOU = "A report that this appeal names is not in the ledger (any more), or not about you."
"""The same in a person's own session."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger holds about the reports that an appeal names, read by the same queries whatever there is:
    reports, their cases, and which of them are about the person."""

    reports: Mapping[int, ReportRow]
    cases: Mapping[int, Sequence[CaseRow]]
    about: Set[int]


def look_up(batch: EntryBatch, numbers: Sequence[int], tags: frozenset[bytes]) -> Found:
    """What there is under these report numbers and tags."""
    about = store.reports_of_tags(batch.connection, tags)
    return Found(
        reports=report_store.reports_by_id(batch.connection, numbers),
        cases=store.all_cases_of_reports(batch.connection, numbers),
        about=about.keys() & set(numbers),
    )


def check_rights(batch: EntryBatch, wanted: Filing, found: Found) -> None:
    """Whether every report of the appeal may be contested this way.

    First comes what the filer knows anyway (a report of its own control group, a case of its own), whatever else the
    appeal names: nothing can be learnt by putting such a report beside another one. Everything else has one answer.
    Raises ConflictOfInterest, CaseExists, NotFound.
    """
    if wanted.group is not None:
        for number in wanted.reports:
            report = found.reports.get(number)
            if report is None or report.control_group != wanted.group:
                continue
            if report.platform == wanted.platform or number in found.about:
                raise ConflictOfInterest(
                    "The control group that made a report files no appeal against it. Give the person a link to their "
                    "own record: there they contest it themselves."
                )
    for number in wanted.reports:
        taken = blocking([to_round(one) for one in found.cases.get(number, ())], wanted.group)
        if taken is not None and number in found.about:
            raise CaseExists(
                "There is a case about this report already. A decided case can be reopened once.",
                case=encode_id("ap", taken.case_id, batch.service),
            )
    if not all(_contestable(batch, wanted, found, number) for number in wanted.reports):
        raise NotFound(NOT_ABOUT_YOU if wanted.group is None else NOT_APPEALABLE)


def _contestable(batch: EntryBatch, wanted: Filing, found: Found, number: int) -> bool:
    report = found.reports.get(number)
    if number not in found.about or report is None or not report.live:
        return False
    cases = found.cases.get(number, ())
    conduct = _conduct_of(cases, report)
    if batch.policy.expiry_day(conduct, day_floor(report.act_ended_at), report.expires_day) <= day_floor(batch.now):
        return False
    rounds = [to_round(one) for one in cases]
    return wanted.group is None or has_room(rounds, wanted.group, report.control_group)


def _conduct_of(cases: Sequence[CaseRow], report: ReportRow) -> Conduct:
    """The conduct in force of a report with these cases."""
    return Conduct(store.conduct_in_force(cases) or report.conduct)


def open_cases(batch: EntryBatch, wanted: Filing, found: Found) -> list[CaseRow]:
    """Open a case against each report, in this transaction. The person's own appeal takes over a case that a platform
    has open for them. The caller has checked that all of it is allowed (`check_rights`)."""
    batch.load_reports(wanted.reports, [])
    profiles = {row.name: Profile(row.profile) for row in read_platforms(batch.connection)}
    first = reserve_ids(batch.connection, "ap", len(wanted.reports))
    rows = []
    for place, number in enumerate(wanted.reports):
        report, cases = found.reports[number], found.cases.get(number, ())
        taken_over = adoptable([to_round(one) for one in cases]) if wanted.group is None else None
        if taken_over is not None:
            open_case = next(one for one in cases if one.id == taken_over.case_id)
            rows.append(_adopt(batch, wanted, open_case, _withdrawals(cases, None)))
        else:
            rows.append(_open(batch, wanted, report, cases, first + place, first, profiles))
    return rows


def _withdrawals(cases: Sequence[CaseRow], group: str | None) -> int:
    """How often this side took appeals against the report back."""
    return max((one.withdrawals for one in cases if one.filing_group == group), default=0)


def _adopt(batch: EntryBatch, wanted: Filing, row: CaseRow, withdrawals: int) -> CaseRow:
    """The platform's open case as the person's own: its date stays, and the platform's round has used up nothing. What
    the platform agreed to for the person, they may agree to themselves, or not."""
    row = replace(row, grounds=wanted.grounds.value, locale=wanted.locale, withdrawals=withdrawals)
    done = perform(batch, row, Move(Action.ADOPT, Actor.SUBJECT, text=wanted.statement))
    line_store.withdraw_agreement(batch.connection, done.id, done.round)
    return done


def _open(
    batch: EntryBatch,
    wanted: Filing,
    report: ReportRow,
    cases: Sequence[CaseRow],
    case_id: int,
    group_id: int,
    profiles: dict[str, Profile],
) -> CaseRow:
    zone = zones(batch.policy)
    could_apply = [wanted.profile, profiles.get(report.platform, wanted.profile)]
    profile = earlier_profile(could_apply, batch.now, batch.policy, zone)
    conduct = _conduct_of(cases, report)
    for old in cases:
        if old.filing_group == wanted.group and old.state == CaseState.WITHDRAWN:
            perform(batch, old, Move(Action.CLOSE, Actor.LEDGER))  # this one takes its place
    row = CaseRow(
        id=case_id,
        group_id=group_id,
        report_id=report.id,
        round=1,
        state=CaseState.SUBMITTED.value,
        outcome=None,
        previous_outcome=store.decision_in_force(batch.connection, report.id),
        amended_conduct=None if conduct.value == report.conduct else conduct.value,
        grounds=wanted.grounds.value,
        profile=profile.value,
        locale=wanted.locale,
        filed_via=wanted.platform,
        filed_by_subject=wanted.group is None,
        filing_group=wanted.group,
        suspends=suspends([to_round(one) for one in cases], wanted.group, report.control_group),
        withdrawals=_withdrawals(cases, wanted.group),
        platform=report.platform,
        control_group=report.control_group,
        conduct=report.conduct,
        severity=batch.policy.severity[conduct],
        opened_at=batch.now,
        due_at=due_at(batch.now, profile, batch.policy.appeals.clocks[profile], zone[profile]),
        extended=False,
        overdue=False,
        information_at=None,
        question_due_at=None,
        reviewer_id=None,
        proposer_id=None,
        proposed=None,
        proposed_conduct=None,
        unlinked_slots=None,
        reasons=None,
        decided_at=None,
        reopen_until=None,
        closed_at=None,
    )
    store.insert_case(batch.connection, row)
    store.copy_tags(batch.connection, report.id)
    line_store.remember_earlier(batch.connection, report.id)
    index = dispute(batch, row)
    mark(batch, row)
    move = Move(Action.OPEN, Actor.SUBJECT, platform=None if wanted.group is None else wanted.platform)
    add_event(batch, row, move, text=wanted.statement, entry_index=index)
    notify_parties(batch, row, WebhookType.APPEAL_OPENED)
    return row
