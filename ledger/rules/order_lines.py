"""What a reporter may still do about an order: a pure function of the order's history.

A *line* is (control group, order_ref): all reports of one control group about one order, with their appeals, in the
order of the log. If rights belonged to a single report, reporting the order again would undo them, so they belong to
the line. `replay` reads the history of a line. `judge` returns whether an act of the reporter is permitted (with the
limits on a new report), refused, or held. Only the reporter can check an order_ref, and could report the same matter
under another one; `alike` finds such reports by what they share. docs/decisions/0013-order-lines.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from ledger.errors import (
    ActionRefused,
    AlreadyExpired,
    AlreadyRestituted,
    AlreadyReversed,
    DecisionInvalid,
    LedgerError,
    LinkedReportInvalid,
    NoticeOutdated,
    OrderAlreadyReported,
    OrderDecided,
    ReplacementInvalid,
    ReportDisputed,
)
from ledger.protocol.encoding import day_floor, format_time
from ledger.rules.appeals import Outcome
from ledger.rules.reports import Intake

ALIKE_DAYS = 30
"""Acts at most this many days apart may be the same matter."""

ALIKE_PERCENT = 20
"""Amounts in one currency that differ by at most this part of the larger one may be the same matter."""

HELD_DAYS = 20
"""Days after recording from which a held report is void unless it was released."""

REOPENING_DAYS = 60
"""Days after an `unconfirmed` decision in which the reporter may request once that the case is opened again."""

_HOURS_A_DAY = 24


# --- events of a line ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recorded:
    """A report was recorded. `expires_day` counts from the Unix epoch; a `held` report awaits a release."""

    report_id: int
    recorded_at: datetime
    expires_day: int
    held: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """A supervisor decided that a held report is about another matter: from then on it is treated like any other
    report."""

    report_id: int


@dataclass(frozen=True, slots=True)
class Repaid:
    """The event that the full amount of a report was paid back at `received_at`."""

    report_id: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A report was withdrawn by its reporter, with a report that it rested on, or by a replacement. `closes`: this
    closes the line if a case about the report was open. For a held report that was not released it is False."""

    report_id: int
    closes: bool = True


@dataclass(frozen=True, slots=True)
class Opened:
    """A case about a report was opened, or opened again."""

    report_id: int
    case_id: int


@dataclass(frozen=True, slots=True)
class Decided:
    """A case was decided at `at` (None: no longer known)."""

    report_id: int
    case_id: int
    outcome: Outcome
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A case ended without a (new) decision: the person withdrew it, or the report expired."""

    case_id: int


@dataclass(frozen=True, slots=True)
class ReopeningAsked:
    """The reporter has requested that this case is opened again."""

    case_id: int


@dataclass(frozen=True, slots=True)
class Closed:
    """This case closed the line. It is kept when the reports of the line are erased."""

    case_id: int


@dataclass(frozen=True, slots=True)
class InForce:
    """The newest decision about a report, in whichever of its cases. It prevails where several cases were decided."""

    report_id: int
    outcome: Outcome


LineEvent = Recorded | Released | Repaid | Withdrawn | Opened | Decided | Ended | ReopeningAsked | Closed | InForce


# --- state of a line ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineReport:
    """The state of a report of the line: `live` until it is reversed, `unconfirmed` while that is the decision."""

    report_id: int
    recorded_at: datetime
    expires_day: int
    live: bool = True
    held: bool = False
    unconfirmed: bool = False
    repaid_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LineState:
    """The state of a line. `disputed` are open cases (case -> report), `decisions` the newest one of each case, with
    its time, and `reopening_requests` the cases for which the reporter made a request. `closed_by` is the case that
    closed the line, None while new reports may be made."""

    reports: dict[int, LineReport] = field(default_factory=dict)
    disputed: dict[int, int] = field(default_factory=dict)
    decisions: dict[int, Decided] = field(default_factory=dict)
    reopening_requests: frozenset[int] = frozenset()
    closed_by: int | None = None

    @property
    def live(self) -> LineReport | None:
        """The report that has not been reversed, None without one; a line has at most one."""
        return next((report for report in self.reports.values() if report.live), None)

    def cases_about(self, report_id: int) -> list[int]:
        """Return the open cases about this report, the oldest first."""
        return sorted(case for case, about in self.disputed.items() if about == report_id)

    def stands(self, today: int) -> bool:
        """True if the line has an undisputed report: live, not held, not expired on `today`, without an open case, and
        with no decision other than upheld."""
        live = self.live
        return (
            live is not None
            and not live.held
            and live.expires_day > today
            and not self.disputed
            and self.closed_by is None
        )


def replay(history: Iterable[LineEvent]) -> LineState:
    """Return the state of the line after this history. Events about a report or case that the history does not have are
    ignored: those were erased."""
    reports: dict[int, LineReport] = {}
    disputed: dict[int, int] = {}
    decisions: dict[int, Decided] = {}
    requested: set[int] = set()
    in_force: dict[int, Outcome] = {}
    closed_for_good: int | None = None
    for event in history:
        match event:
            case Recorded(report_id, recorded_at, expires_day, held):
                reports[report_id] = LineReport(report_id, recorded_at, expires_day, held=held)
            case Closed(case_id):
                closed_for_good = case_id if closed_for_good is None else closed_for_good
            case Opened(report_id, case_id):
                disputed[case_id] = report_id
            case Decided(report_id, case_id, outcome):
                disputed.pop(case_id, None)
                decisions[case_id] = event
                if report_id in reports:
                    reports[report_id] = _decided(reports[report_id], outcome)
            case InForce(report_id, outcome):
                in_force[report_id] = outcome
                if report_id in reports:
                    reports[report_id] = _decided(reports[report_id], outcome)
            case Ended(case_id):
                disputed.pop(case_id, None)
            case ReopeningAsked(case_id):
                requested.add(case_id)
            case Released(report_id) if report_id in reports:
                reports[report_id] = replace(reports[report_id], held=False)
            case Repaid(report_id, received_at) if report_id in reports:
                reports[report_id] = replace(reports[report_id], repaid_at=received_at)
            case Withdrawn(report_id, closes) if report_id in reports:
                reports[report_id] = replace(reports[report_id], live=False)
                ended = sorted(case for case, about in disputed.items() if about == report_id)
                for case_id in ended:
                    del disputed[case_id]
                if ended and closes and closed_for_good is None:
                    closed_for_good = ended[0]
            case _:
                pass
    against = sorted(case for case, decided in decisions.items() if _closes(decided, in_force.get(decided.report_id)))
    closed_by = closed_for_good if closed_for_good is not None else next(iter(against), None)
    return LineState(reports, disputed, decisions, frozenset(requested), closed_by)


def _closes(decided: Decided, in_force: Outcome | None) -> bool:
    """True if the newest decision of a case closes the line. `unconfirmed` no longer closes it once the report was
    upheld: that took new evidence of the reporter, in any of the cases that was opened again for it."""
    if decided.outcome.spec.effect.unconfirmed and in_force is not None and in_force.spec.frees_order:
        return False
    return not decided.outcome.spec.frees_order


def _decided(report: LineReport, outcome: Outcome) -> LineReport:
    """Return the report after a decision."""
    effect = outcome.spec.effect
    return replace(report, live=report.live and not effect.reverses, unconfirmed=effect.unconfirmed)


# --- the same matter under another order --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReportMatter:
    """What identifies the matter of a new report. `evidence` are SHA-256 digests (32 bytes), `act_day` counts from the
    Unix epoch. A report of severity 0 is no accusation."""

    order_ref: bytes
    act_day: int
    currency: str
    amount_minor: int
    evidence: frozenset[bytes]
    severity: int


@dataclass(frozen=True, slots=True)
class Contested:
    """An earlier report of the same control group that shares a subject with a new one, and was contested or held. That
    is: a person opened a case about it or about a later report of its line, or it was held and not released. `like_id`
    is the report itself, or the one that it was held for; `case_id` is a case about the line of that report, and
    `stands` its `LineState.stands`."""

    report_id: int
    like_id: int
    case_id: int
    order_ref: bytes
    act_day: int
    currency: str
    amount_minor: int
    evidence: frozenset[bytes]
    held: bool
    stands: bool


def alike(matter: ReportMatter, contested: Contested) -> bool:
    """True if a new report may be about the same matter as a contested one with a common subject: it has an item of
    evidence in common, acts at most `ALIKE_DAYS` apart, or amounts in one currency that differ by at most
    `ALIKE_PERCENT`."""
    if not matter.evidence.isdisjoint(contested.evidence):
        return True
    if within_days(matter.act_day, contested.act_day):
        return True
    return within_amount((matter.currency, matter.amount_minor), (contested.currency, contested.amount_minor))


def within_days(first: int, second: int) -> bool:
    """True if two days of acts (since the Unix epoch) are at most `ALIKE_DAYS` apart."""
    return abs(first - second) <= ALIKE_DAYS


def within_amount(first: tuple[str, int], second: tuple[str, int]) -> bool:
    """True if two (currency, amount in minor units) differ by at most `ALIKE_PERCENT` of the larger."""
    amounts = (first[1], second[1])
    return first[0] == second[0] and 100 * (max(amounts) - min(amounts)) <= ALIKE_PERCENT * max(amounts)


def held_for(matter: ReportMatter, contested: Iterable[Contested]) -> Contested | None:
    """Return the contested report because of which a new one is held, the earliest of several; None if it is not held.

    A report on the line of a contested one is bound by the line itself (`judge`); after a held report on the same line
    it is held like that one, whatever it says. If the contested report stands (it was upheld, or the appeal was
    withdrawn), a further report is a further claim and is not held.
    """
    if matter.severity == 0:
        return None
    matching = [
        report
        for report in contested
        if not report.stands and (report.held if report.order_ref == matter.order_ref else alike(matter, report))
    ]
    return min(matching, key=lambda report: report.report_id, default=None)


# --- what the reporter may do -------------------------------------------------------------------------------------


class Act(StrEnum):
    """An act of a reporter about a line."""

    REPORT = "report"
    REPLACE = "replace"
    LINK = "link"
    """An `account_farm` report that rests on a report of this line."""
    WITHDRAW = "withdraw"
    CONCEDE = "concede"
    RESTITUTE = "restitute"
    ANSWER = "answer"
    ASK_REOPENING = "ask_reopening"


@dataclass(frozen=True, slots=True)
class Bound:
    """The limits on a new report of a line that had reports before. Its notice was sent at `notice_from` or later; it
    expires at midnight of `expires_day` at the latest; the restitution of `repaid_at` counts for it; the person's
    statement on one of `earlier`, the newest first, stays with it if it is about the same person. None: no limit."""

    notice_from: datetime | None = None
    expires_day: int | None = None
    repaid_at: datetime | None = None
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Permitted:
    """The act is permitted. `bound` belongs to a new report. Of a withdrawal, `costs` says that it counts as an
    overturned report, and `closes` is the case by which it closes the line."""

    bound: Bound = Bound()
    costs: bool = False
    closes: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The new report is recorded and awaits a release, because it may be about the matter of `like`."""

    bound: Bound
    like: Contested


@dataclass(frozen=True, slots=True)
class Refused:
    """The act is refused, because of the case `case_id` or the report `report_id`."""

    error: type[LedgerError]
    message: str
    case_id: int | None = None
    report_id: int | None = None


LineVerdict = Permitted | Held | Refused


def judge(
    line: LineState,
    act: Act,
    now: datetime,
    *,
    report_id: int | None = None,
    case_id: int | None = None,
    matter: ReportMatter | None = None,
    contested: Sequence[Contested] = (),
    duplicate: bool = False,
    known_evidence: bool = False,
) -> LineVerdict:
    """Return the verdict on `act` at `now`.

    `report_id` is the report that is replaced, withdrawn, repaid or rested on; `case_id` the case that is answered,
    conceded, or to be opened again. `matter` and `contested` belong to a new report. `duplicate`: an older live report
    states the same facts as the withdrawn one. `known_evidence`: the evidence of a reopening request is in the report
    already.
    """
    if act in (Act.REPORT, Act.REPLACE):
        return _new_report(line, act, report_id, matter, contested)
    if act in (Act.CONCEDE, Act.ANSWER):
        if case_id in line.disputed:
            return Permitted()
        return Refused(ActionRefused, "The case is not open.", case_id=case_id)
    if act is Act.ASK_REOPENING:
        return _ask_reopening(line, now, case_id, known_evidence)
    report = None if report_id is None else line.reports.get(report_id)
    if act is Act.LINK:
        return _link(line, report)
    if report is None or not report.live:
        return Refused(AlreadyReversed, "This report was taken back before. Nothing is reversed twice.")
    if act is Act.RESTITUTE:
        if report.repaid_at is not None:
            return Refused(AlreadyRestituted, "Restitution was recorded for this report before.")
        return Permitted()
    cases = line.cases_about(report.report_id)
    return Permitted(costs=bool(cases) and not duplicate, closes=cases[0] if cases else None)


def _new_report(
    line: LineState, act: Act, replaced: int | None, matter: ReportMatter | None, contested: Sequence[Contested]
) -> LineVerdict:
    if act is Act.REPLACE and replaced not in line.reports:
        return Refused(ReplacementInvalid, "A report is replaced by one about the same order.")
    if line.disputed:
        case = min(line.disputed)
        if act is Act.REPLACE or line.live is None:
            return Refused(
                ReportDisputed,
                "The person contests this order: no report replaces the contested one now.",
                case_id=case,
            )
    elif line.closed_by is not None:
        return Refused(
            OrderDecided,
            "This order was decided in an appeal, or given up during one: it takes no further report.",
            case_id=line.closed_by,
        )
    live = line.live
    if live is not None and live.report_id != replaced:
        return Refused(
            OrderAlreadyReported,
            "Your control group already has a live report for this order. Withdraw it, or send a report that "
            "replaces it.",
            report_id=live.report_id,
        )
    like = None if matter is None else held_for(matter, contested)
    bound = _bound(line)
    return Permitted(bound) if like is None else Held(bound, like)


def _bound(line: LineState) -> Bound:
    """Return the limits that all earlier reports of the line leave, however they ended."""
    earlier = sorted(line.reports.values(), key=lambda report: report.report_id, reverse=True)
    if not earlier:
        return Bound()
    return Bound(
        notice_from=max(report.recorded_at for report in earlier).replace(microsecond=0),
        expires_day=min(report.expires_day for report in earlier),
        repaid_at=min((report.repaid_at for report in earlier if report.repaid_at is not None), default=None),
        earlier=tuple(report.report_id for report in earlier),
    )


def _link(line: LineState, report: LineReport | None) -> LineVerdict:
    if report is None or not report.live or report.held:
        return Refused(
            LinkedReportInvalid, "A `report_id` of a linked account names no report of yours that stays live."
        )
    if line.cases_about(report.report_id) or report.unconfirmed:
        return Refused(
            LinkedReportInvalid,
            "A linked account's report must be counting: it is contested, or was not confirmed.",
            report_id=report.report_id,
        )
    return Permitted()


def _ask_reopening(line: LineState, now: datetime, case_id: int | None, known_evidence: bool) -> LineVerdict:
    decided = None if case_id is None else line.decisions.get(case_id)
    report = None if decided is None else line.reports.get(decided.report_id)
    if decided is None or not decided.outcome.spec.effect.unconfirmed or case_id in line.disputed:
        return Refused(ActionRefused, "Only a case that was decided `unconfirmed` is opened again.", case_id=case_id)
    if report is None or not report.live or report.expires_day <= day_floor(now):
        return Refused(ActionRefused, "The report of this case is not in effect any more.", case_id=case_id)
    if decided.at is None or now >= decided.at + timedelta(days=REOPENING_DAYS):
        return Refused(
            ActionRefused, f"A case is opened again within {REOPENING_DAYS} days of the decision.", case_id=case_id
        )
    if any(
        line.decisions[case].report_id == report.report_id for case in line.reopening_requests if case in line.decisions
    ):
        return Refused(
            ActionRefused, "You have asked once already that a case about this report is opened again.", case_id=case_id
        )  # fmt: skip
    if known_evidence:
        return Refused(
            ActionRefused, "This evidence is in the report already: a case is opened again for new evidence.",
            case_id=case_id,
        )  # fmt: skip
    return Permitted()


def check_conceded(outcome: Outcome | None, severity: int | None, conceded: int | None) -> None:
    """Check that a decision goes no further than the reporter's concession in this round, a conduct of severity
    `conceded` (None: nothing). `severity` is that of an amended conduct. Raises DecisionInvalid."""
    if conceded is None or outcome is None or not outcome.spec.counts_again:
        return
    if not outcome.spec.names_conduct or (severity is not None and severity > conceded):
        raise DecisionInvalid(
            "The reporter conceded less than this: decide what was conceded, or an outcome that is better for the "
            "person."
        )


def bound_intake(intake: Intake, notice_sent_at: datetime, bound: Bound) -> Intake:
    """Return `intake` with the limits of its line. Raises NoticeOutdated, AlreadyExpired.

    The cooling time follows from the report's own notice, which is a new one, so it needs no limit here.
    """
    if bound.notice_from is not None and notice_sent_at < bound.notice_from:
        raise NoticeOutdated(
            "The person must get a separate notice about this report, sent after the earlier report of the order was "
            "recorded.",
            not_before=format_time(bound.notice_from),
        )
    if bound.expires_day is None or bound.expires_day >= intake.expires_day:
        return intake
    if intake.effective_hour >= bound.expires_day * _HOURS_A_DAY:
        raise AlreadyExpired(
            "A further report of an order expires with the earlier one, and that would be before it could count."
        )
    return replace(intake, expires_day=bound.expires_day)
