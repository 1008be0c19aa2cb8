"""What the two parties do: the person (themselves, or through the platform that filed for them) and the reporter.

Who is who: the *reporter* is the platform that made the report, the *filer* the one through which the person appealed.
They may be the same platform, so it says for which party it speaks. A platform of the reporter's own control group that
filed for its customer may add to the case, but not take the appeal back: that would be the accused party ending it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ledger.core.appeals import Action, Actor, CaseState
from ledger.errors import AppealInvalid, ConflictOfInterest, NotFound
from ledger.service.appeals.filing import Filing, clean_text, open_cases
from ledger.service.appeals.perform import Move, perform
from ledger.service.appeals.transaction import changing, load_case
from ledger.service.entry_batch import Context, EntryBatch
from ledger.store import appeals as store
from ledger.store.appeals import CaseRow

MAX_ADDITIONS = 50
"""Messages and files that a party may add to a case without having been asked."""


class Party(StrEnum):
    """For whom something is said."""

    SUBJECT = "subject"
    REPORTER = "reporter"


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks. `platform` is None in a person's own session, whose `tags` show which cases are theirs."""

    party: Party
    platform: str | None = None
    control_group: str | None = None
    tags: frozenset[bytes] = frozenset()


def check_party(batch: EntryBatch, row: CaseRow, speaker: Speaker) -> None:
    """Whether the case is this speaker's. Raises NotFound: to everybody else there is no such case."""
    if speaker.platform is None:
        mine = speaker.tags and row.report_id in store.reports_of_tags(batch.connection, speaker.tags)
    elif speaker.party is Party.REPORTER:
        mine = row.platform == speaker.platform
    else:
        mine = row.filed_via == speaker.platform and not row.filed_by_subject
    if not mine:
        raise NotFound("There is no such case.")


def check_about(batch: EntryBatch, reports: Sequence[int], speaker: Speaker) -> None:
    """Whether all `reports` are about the person: listed under one of their tags, or the platform's own.

    Raises NotFound: whoever cannot show an identifier of the person learns nothing about a report.
    """
    found = store.reports_of_tags(batch.connection, speaker.tags) if speaker.tags else {}
    batch.load_reports(reports, [])
    for report_id in reports:
        report = batch.reports.get(report_id)
        own = report is not None and speaker.platform is not None and report.platform == speaker.platform
        if not own and report_id not in found:
            raise NotFound("A report that this appeal names is not in the ledger (any more), or not about this person.")


def file(batch: EntryBatch, wanted: Filing, speaker: Speaker) -> list[CaseRow]:
    """Open the cases. Raises what `check_about` and `open_cases` raise."""
    check_about(batch, wanted.reports, speaker)
    return open_cases(batch, wanted)


def say(batch: EntryBatch, row: CaseRow, speaker: Speaker, text: str) -> CaseRow:
    """Answer the question that was asked, or add something without having been asked.

    Raises NotFound, AppealInvalid, ActionRefused.
    """
    check_party(batch, row, speaker)
    move = _spoken(row, speaker)
    _check_room(batch, row, move)
    return perform(batch, row, replace(move, text=clean_text(text)))


def _spoken(row: CaseRow, speaker: Speaker) -> Move:
    """An answer where this party's answer is awaited, else an addition. Either party reads what the other says."""
    if speaker.party is Party.REPORTER:
        answers = row.state == CaseState.AWAITING_REPORTER
        action = Action.REPORTER_ANSWERED if answers else Action.ADD
        return Move(action, Actor.REPORTER, platform=speaker.platform)
    action = Action.SUBJECT_ANSWERED if row.state == CaseState.AWAITING_SUBJECT else Action.ADD
    return Move(action, Actor.SUBJECT, platform=speaker.platform)


def note_file(batch: EntryBatch, row: CaseRow, speaker: Speaker, name: str) -> CaseRow:
    """A file came in: it is new information, but not yet an answer. Raises NotFound, ActionRefused."""
    check_party(batch, row, speaker)
    actor = Actor.REPORTER if speaker.party is Party.REPORTER else Actor.SUBJECT
    move = Move(Action.ADD, actor, platform=speaker.platform, text=name)
    _check_room(batch, row, move)
    return perform(batch, row, move)


def _check_room(batch: EntryBatch, row: CaseRow, move: Move) -> None:
    if move.action is Action.ADD and store.additions(batch.connection, row.id, move.actor.value) >= MAX_ADDITIONS:
        raise AppealInvalid(f"A party adds to a case at most {MAX_ADDITIONS} times.")


def withdraw_appeal(batch: EntryBatch, row: CaseRow, speaker: Speaker) -> CaseRow:
    """The person takes the appeal back: the report counts as before. Raises NotFound, ConflictOfInterest."""
    _check_person(batch, row, speaker)
    return perform(batch, row, Move(Action.WITHDRAW, Actor.SUBJECT, platform=speaker.platform))


def reopen(batch: EntryBatch, row: CaseRow, speaker: Speaker, text: str) -> CaseRow:
    """The person contests the decision once more; somebody new decides. Raises NotFound, ActionRefused."""
    check_party(batch, row, speaker)
    if speaker.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person reopens a case.")
    move = Move(Action.REOPEN, Actor.SUBJECT, platform=speaker.platform, text=clean_text(text))
    return perform(batch, row, move)


def _check_person(batch: EntryBatch, row: CaseRow, speaker: Speaker) -> None:
    check_party(batch, row, speaker)
    if speaker.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person takes an appeal back.")
    if speaker.control_group is not None and speaker.control_group == row.control_group:
        raise ConflictOfInterest("The reporter's own group cannot take back an appeal against its report.")


def in_case(context: Context, case_id: int, speaker: Speaker, text: str) -> CaseRow:
    """`say` in a transaction of its own."""
    with changing(context) as batch:
        return say(batch, load_case(batch, case_id), speaker, text)
