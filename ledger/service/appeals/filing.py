"""Opening appeals: one case for each contested report, all or none, in one transaction with their `dispute` entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.core.appeal_clocks import due_at, earlier_profile
from ledger.core.appeals import MAX_REPORTS, MAX_TEXT_CHARS, Action, Actor, CaseState, Grounds
from ledger.core.encoding import day_floor
from ledger.core.ids import encode_id
from ledger.core.policy import Profile
from ledger.core.texts import cleaned
from ledger.core.webhooks import WebhookType
from ledger.errors import AppealInvalid, CaseExists, NotFound
from ledger.i18n import LOCALES
from ledger.service.appeals.perform import Move, add_event, dispute
from ledger.service.appeals.rows import zones
from ledger.service.entry_batch import EntryBatch
from ledger.store import appeal_effects as effects
from ledger.store import appeals as store
from ledger.store.appeals import CaseRow
from ledger.store.lookups import reserve_ids
from ledger.store.members import read_platforms
from ledger.store.reports import ReportRow

RAW_TEXT_CHARS = 10 * MAX_TEXT_CHARS
"""Characters of a text before it is cleaned; longer ones are not looked at."""


@dataclass(frozen=True, slots=True)
class Filing:
    """What an appeal says, and through which platform it came: `by_subject` if the person filed it themselves in a
    session that the platform opened."""

    reports: tuple[int, ...]
    grounds: Grounds
    statement: str
    locale: str
    platform: str
    profile: Profile
    by_subject: bool


def filing(
    reports: Sequence[int], grounds: str, statement: str, locale: str, platform: str, profile: str, *, by_subject: bool
) -> Filing:
    """A checked filing. Raises AppealInvalid."""
    if not 1 <= len(reports) <= MAX_REPORTS or len(set(reports)) != len(reports):
        raise AppealInvalid(f"An appeal names 1 to {MAX_REPORTS} different reports.")
    try:
        reason = Grounds(grounds)
    except ValueError as error:
        raise AppealInvalid("These grounds do not exist.", known=sorted(Grounds)) from error
    if locale not in LOCALES:
        raise AppealInvalid("`locale` is en or zh-CN.")
    text = clean_text(statement)
    return Filing(tuple(reports), reason, text, locale, platform, Profile(profile), by_subject)


def clean_text(text: str) -> str:
    """A text that a person wrote, as `ledger.core.texts.cleaned` gives it. Raises AppealInvalid when it has more than
    `MAX_TEXT_CHARS` characters, or shows nothing."""
    made = cleaned(text[: RAW_TEXT_CHARS + 1])
    if len(made) > MAX_TEXT_CHARS or len(text) > RAW_TEXT_CHARS:
        raise AppealInvalid(f"A text has 1 to {MAX_TEXT_CHARS} characters.", limit_chars=MAX_TEXT_CHARS)
    if not made:
        raise AppealInvalid(
            "This text shows nothing, and a text that shows nothing ends no clock. Write something.",
            limit_chars=MAX_TEXT_CHARS,
        )
    return made


def open_cases(batch: EntryBatch, wanted: Filing) -> list[CaseRow]:
    """Open a case against each report; it stops counting in this very transaction. The caller has made sure that the
    reports are about the person who appeals (`parties`).

    Raises NotFound (a report is gone or past its time), CaseExists with the case.
    """
    batch.load_reports(wanted.reports, [])
    known = store.cases_of_reports(batch.connection, wanted.reports)
    profiles = {row.name: Profile(row.profile) for row in read_platforms(batch.connection)}
    today = day_floor(batch.now)
    reports: list[ReportRow] = []
    for report_id in wanted.reports:
        report = batch.reports.get(report_id)
        if report is None or not report.live or report.expires_day <= today:
            raise NotFound("A report that this appeal names is not in the ledger (any more).")
        if report_id in known:
            raise CaseExists(
                "There is a case about this report already. A decided case can be reopened once.",
                case=encode_id("ap", known[report_id].id, batch.service),
            )
        reports.append(report)
    first = reserve_ids(batch.connection, "ap", len(reports))
    return [_open(batch, wanted, report, first + place, first, profiles) for place, report in enumerate(reports)]


def _open(
    batch: EntryBatch,
    wanted: Filing,
    report: ReportRow,
    case_id: int,
    group_id: int,
    profiles: dict[str, Profile],
) -> CaseRow:
    zone = zones(batch.policy)
    could_apply = [wanted.profile, profiles.get(report.platform, wanted.profile)]
    profile = earlier_profile(could_apply, batch.now, batch.policy, zone)
    row = CaseRow(
        id=case_id,
        group_id=group_id,
        report_id=report.id,
        round=1,
        state=CaseState.SUBMITTED.value,
        outcome=None,
        previous_outcome=None,
        amended_conduct=None,
        grounds=wanted.grounds.value,
        profile=profile.value,
        locale=wanted.locale,
        filed_via=wanted.platform,
        filed_by_subject=wanted.by_subject,
        platform=report.platform,
        control_group=report.control_group,
        conduct=report.conduct,
        severity=batch.policy.severity[report.conduct],
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
    index = dispute(batch, row)
    effects.set_marks(batch.connection, report.id, disputed=True, unconfirmed=False)
    move = Move(Action.OPEN, Actor.SUBJECT, platform=None if wanted.by_subject else wanted.platform)
    add_event(batch, row, move, text=wanted.statement, entry_index=index)
    for platform in dict.fromkeys((row.platform, row.filed_via)):
        batch.notify(
            platform, WebhookType.APPEAL_OPENED, appeal=encode_id("ap", row.id, batch.service), state=row.state
        )
    return row
