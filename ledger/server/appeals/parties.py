"""What the two parties do: the person (themselves, or through the platform that filed for them) and the reporter.

Who is who: the *reporter* is the platform that made the report, the *filer* the one through which the person appealed.
They may be the same platform, so it says for which party it speaks. The reporter's own control group files, answers,
takes back and reopens nothing for the person: that would be the accused party speaking for the person who contests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ledger.errors import ActionRefused, AppealInvalid, ConflictOfInterest, NotFound
from ledger.rules.appeals import Action, Actor, CaseState
from ledger.rules.rounds import blocking, has_room
from ledger.server.appeals.filing import Filing, check_rights, clean_text, look_up, open_cases
from ledger.server.appeals.perform import Move, perform
from ledger.server.appeals.rows import to_round
from ledger.server.appeals.transaction import changing, load_case
from ledger.server.records import case_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import Context, EntryBatch

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
    """Whether the case is this speaker's. Raises NotFound (to everybody else there is no such case), and
    ConflictOfInterest for a platform of the reporter's control group that speaks for the person."""
    if speaker.platform is None:
        mine = speaker.tags and row.report_id in store.reports_of_tags(batch.connection, speaker.tags)
    elif speaker.party is Party.REPORTER:
        mine = row.platform == speaker.platform
    else:
        mine = row.filed_via == speaker.platform and not row.filed_by_subject
    if not mine:
        raise NotFound("There is no such case.")
    if speaker.party is Party.SUBJECT and speaker.control_group == row.control_group:
        raise ConflictOfInterest(
            "The control group that made a report does not speak for the person. Give them a link to their own record."
        )


def file(batch: EntryBatch, wanted: Filing, speaker: Speaker) -> list[CaseRow]:
    """Open the cases. Raises what `check_rights` raises."""
    found = look_up(batch, wanted.reports, speaker.tags)
    check_rights(batch, wanted, found)
    return open_cases(batch, wanted, found)


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
    """The person takes the appeal back: the report counts as before. Raises NotFound, ConflictOfInterest,
    ActionRefused."""
    check_party(batch, row, speaker)
    if speaker.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person takes an appeal back.")
    return perform(batch, row, Move(Action.WITHDRAW, Actor.SUBJECT, platform=speaker.platform))


def reopen(batch: EntryBatch, row: CaseRow, speaker: Speaker, text: str) -> CaseRow:
    """The person contests the decision once more; somebody new decides. In their own session they reopen their own
    case: where a platform's case was decided, their own appeal is still open to them.

    Raises NotFound, ConflictOfInterest, AppealInvalid, ActionRefused.
    """
    check_party(batch, row, speaker)
    if speaker.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person reopens a case.")
    if not reopenable(batch.all_cases.get(row.report_id, [row]), row, own=speaker.platform is None):
        raise ActionRefused("This case is not reopened: contest the report instead.", action=Action.REOPEN.value)
    move = Move(Action.REOPEN, Actor.SUBJECT, platform=speaker.platform, text=clean_text(text))
    return perform(batch, row, move)


def reopenable(cases: Sequence[CaseRow], row: CaseRow, *, own: bool) -> bool:
    """Whether the rights of the report (`cases` are all of it) let this case be reopened: by the side whose it is
    (`own`: the person in their own session), while no other case takes its place. Its state and its dates are looked at
    by `rules.case_machine.advance`."""
    if row.filed_by_subject != own:
        return False
    others = [to_round(one) for one in cases if one.id != row.id]
    if blocking(others, row.filing_group) is not None:
        return False
    return row.filing_group is None or has_room(others, row.filing_group, row.control_group)


def in_case(context: Context, case_id: int, speaker: Speaker, text: str) -> CaseRow:
    """`say` in a transaction of its own."""
    with changing(context) as batch:
        return say(batch, load_case(batch, case_id), speaker, text)
