"""Conceding: in an open case the reporter proposes a conduct of no higher severity, and the person may agree to it.

Both see it. The reviewer decides, and no worse for the person than what was conceded (`rules.order_lines`).
"""

from __future__ import annotations

from ledger.errors import ActionRefused, AppealInvalid, ConflictOfInterest
from ledger.rules.appeals import Action, Actor
from ledger.rules.conduct import Conduct
from ledger.rules.order_lines import Act, Refused, judge, replay
from ledger.rules.reports import check_conduct_in_policy
from ledger.server.appeals.parties import Party, Speaker, check_party
from ledger.server.appeals.perform import Move, perform
from ledger.server.records import order_line_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.order_line_queries import ConcessionRow
from ledger.server.records.order_lines import refuse
from ledger.server.records.transaction import EntryBatch


def concede(batch: EntryBatch, row: CaseRow, speaker: Speaker, conduct: Conduct) -> CaseRow:
    """The reporter proposes `conduct`, once in a round. Raises NotFound, AppealInvalid, ConductNotInPolicy,
    ActionRefused."""
    check_party(batch, row, speaker)
    if speaker.party is not Party.REPORTER:
        raise AppealInvalid("Only the reporter concedes.")
    report = batch.reports[row.report_id]
    order = (report.control_group, report.order_ref)
    line = replay(store.histories(batch.connection, [order]).get(order, ()))
    verdict = judge(line, Act.CONCEDE, batch.now, case_id=row.id)
    if isinstance(verdict, Refused):
        refuse(verdict, batch.service)
    check_conduct_in_policy(conduct, batch.policy)
    severity = batch.policy.severity[conduct]
    if not 0 < severity <= row.severity or conduct.value == row.current_conduct:
        raise AppealInvalid("A concession names another conduct, of no higher severity, and one that somebody did.")
    if store.concession(batch.connection, row.id, row.round) is not None:
        raise ActionRefused("You have conceded in this round already.", action=Action.CONCEDE.value)
    done = perform(batch, row, Move(Action.CONCEDE, Actor.REPORTER, platform=speaker.platform))
    store.insert_concession(
        batch.connection, ConcessionRow(row.id, row.round, conduct.value, severity, batch.now, agreed_at=None)
    )
    return done


def agree(batch: EntryBatch, row: CaseRow, speaker: Speaker) -> CaseRow:
    """The person agrees to what was conceded. Raises NotFound, AppealInvalid, ConflictOfInterest, ActionRefused."""
    check_party(batch, row, speaker)
    if speaker.party is not Party.SUBJECT:
        raise AppealInvalid("Only the person agrees.")
    if speaker.control_group is not None and speaker.control_group == row.control_group:
        raise ConflictOfInterest("The reporter's own group cannot agree for the person.")
    conceded = store.concession(batch.connection, row.id, row.round)
    if conceded is None or conceded.agreed_at is not None:
        raise ActionRefused("There is nothing (more) to agree to in this case.", action=Action.AGREE.value)
    done = perform(batch, row, Move(Action.AGREE, Actor.SUBJECT, platform=speaker.platform))
    store.agree(batch.connection, row.id, row.round, batch.now)
    return done
