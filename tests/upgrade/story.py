"""A small ledger with a past, and what it says of everybody in it: made by one version, observed by the next.

`make` writes the story through the services of the version that runs it; `observe` reads, at a time of its own, what
lookups, records and cases say. Both use only what versions have had in common since schema 0014.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import encode_id
from ledger.protocol.tags import tag
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.keys.files import load_log_key
from ledger.server.platforms.members import set_status
from ledger.server.reports.erasure import erase_due
from ledger.server.rotation.run import rotate
from ledger.server.snapshots.builder import build_and_publish, builder_engine
from tests.rotations import subjects_under
from tests.server.conftest import LedgerFixture
from tests.support import Platform, evidence, publish

PEOPLE = 25
LATER = (timedelta(0), timedelta(days=9), timedelta(days=45), timedelta(days=400))
"""When standings are compared, counted from the end of the story."""

GRAVE: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}
SAID = "It was looked into."


def people(ledger: LedgerFixture, number: int, epoch: int) -> list[tuple[Any, bytes]]:
    """Phone and payment of person `number` under a key epoch."""
    return subjects_under(ledger.rt.settings, epoch, number)


def session(ledger: LedgerFixture, number: int, epoch: int) -> SubjectSessionRow:
    """The person's own session, opened through bolt."""
    subjects = tuple((kind.value, tag(kind, element)) for kind, element in people(ledger, number, epoch))
    return SubjectSessionRow(1, "bolt", "bolt-group", "CN", "en", epoch, subjects, None, ledger.clock())


def make(ledger: LedgerFixture) -> None:
    """Write the story; at its end the clock stands where the observation begins."""
    staff = iter(Staff(number, "reviewer") for number in range(100, 200))
    uno = Platform("uno", "uno-group", "uno-1", profile="US").join(ledger.rt.engine)
    late = Platform("late", "late-group", "late-1", profile="CN").join(ledger.rt.engine)
    ledger.rt.members.refresh()

    def report(by: Platform, number: int, epoch: int = 1, **changes: Any) -> dict[str, Any]:
        return ledger.report(
            by,
            people(ledger, number, epoch),
            epoch=epoch,
            now=ledger.clock(),
            order=f"{by.name}-{number}-{secrets.token_hex(4)}",
            **changes,
        )

    def contest(number: int, *reports: dict[str, Any], epoch: int = 1) -> str:
        who = session(ledger, number, epoch)
        rows = consumer.open_cases(
            ledger.rt.context, who, [str(one["id"]) for one in reports], "wrong_facts", "I sent it back.", "en"
        )
        return encode_id("ap", rows[0].id, ledger.rt.settings.service)

    def decide(case: str, outcome: Outcome, **more: Any) -> None:
        reviewer = next(staff)
        staff_actions.take(ledger.rt.context, case, reviewer)
        row = staff_actions.decide(ledger.rt.context, case, reviewer, outcome, SAID, **more)
        if row.state == "awaiting_signoff":
            staff_actions.sign(ledger.rt.context, case, next(staff))

    def days(number: float) -> None:
        ledger.clock.moment += timedelta(days=number)

    # Persons 0 to 5: one group, two groups, three, grave and light.
    for number in range(6):
        report(ledger.acme, number)
        if number % 2:
            report(ledger.bolt, number, amount_minor=12_900 if number == 1 else 77_700, **GRAVE)
        if number == 5:
            report(uno, number, amount_minor=5_500, **GRAVE)
            report(ledger.acme2, number, amount_minor=31_000, **GRAVE)
    report(ledger.acme2, 4, conduct="wardrobing", evidence=evidence("intake_photo", "policy_clause"))
    days(1)
    # 6 to 11: each outcome.
    outcomes: list[tuple[Outcome, dict[str, Any]]] = [
        (Outcome.UPHELD, {}), (Outcome.AMENDED, {"conduct": Conduct.WARDROBING}), (Outcome.OVERTURNED, {}),
        (Outcome.UNCONFIRMED, {}), (Outcome.VICTIM, {}), (Outcome.UNLINKED, {"slots": [0]}),
    ]  # fmt: skip
    for number, (outcome, more) in enumerate(outcomes, 6):
        decide(contest(number, report(ledger.acme, number)), outcome, **more)
    days(3)
    # 12: a grave one, upheld by four eyes. 13: opened again and decided otherwise.
    decide(contest(12, report(ledger.bolt, 12, **GRAVE)), Outcome.UPHELD)
    case = contest(13, report(ledger.acme, 13))
    decide(case, Outcome.UPHELD)
    consumer.reopen(ledger.rt.context, session(ledger, 13, 1), case, "I found the receipt.")
    decide(case, Outcome.OVERTURNED)
    # 14: withdrawn. 15: restitution. 16: a person's own words. 17: protected.
    ledger.withdraw(ledger.acme, report(ledger.acme, 14)["id"])
    ledger.restitute(ledger.bolt, report(ledger.bolt, 15, **GRAVE), format_time(ledger.clock()))
    stated = report(ledger.acme, 16)
    consumer.add_statement(
        ledger.rt.context, session(ledger, 16, 1), str(stated["id"]), "My flatmate ordered it.", "en"
    )
    report(ledger.acme, 17, conduct="impersonated", evidence=evidence("admission"))
    report(ledger.bolt, 17)
    snapshot(ledger)
    days(2)
    rotate(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    ledger.rt.members.refresh()
    # Under the second key: 18 is contested and open, 19 cools, 20 was replaced, 21 is by a group that is suspended.
    contest(18, report(ledger.acme, 18, 2), epoch=2)
    report(ledger.acme, 19, 2, notice_sent_at=format_time(ledger.clock()))
    order: dict[str, Any] = {"epoch": 2, "now": ledger.clock(), "order": "replaced"}
    replaced = ledger.report(ledger.acme, people(ledger, 20, 2), **order, **GRAVE)
    days(0.25)
    ledger.report(
        ledger.acme, people(ledger, 20, 2), **order, replaces=replaced["id"], conduct="empty_parcel",
        evidence=evidence("dispatch_weight", "return_weight", "intake_photo"), **ledger.told_now(),
    )  # fmt: skip
    report(late, 21, 2, **GRAVE)
    report(ledger.bolt, 21, 2)
    set_status(ledger.rt.engine, platform="late", status="suspended", now=ledger.clock())
    ledger.rt.members.refresh()
    # 22: silence decides. 23: cools at the end. 24: never reported.
    case = contest(22, report(uno, 22, 2), epoch=2)
    asking = next(staff)
    staff_actions.take(ledger.rt.context, case, asking)
    staff_actions.ask_reporter(ledger.rt.context, case, asking, "Which carrier?")
    days(8)
    run_clocks(ledger.rt.context)
    erase_due(ledger.rt.context, ledger.rt.settings)
    report(ledger.acme, 23, 2, notice_sent_at=format_time(ledger.clock()))
    for number in (0, 3, 5, 18):
        ledger.lookup(people(ledger, number, 2), epoch=2)
    snapshot(ledger)
    publish(ledger.rt.settings)


def snapshot(ledger: LedgerFixture) -> None:
    """Build and publish one snapshot at the ledger's time."""
    engine = builder_engine(ledger.rt.settings)
    try:
        build_and_publish(
            ledger.rt.settings,
            engine,
            load_log_key(ledger.rt.settings),
            ledger.clock(),
            random_bytes=secrets.token_bytes,
        )
    finally:
        engine.dispose()


SAID_OF_A_PERSON = (
    "tier", "credit", "points", "events", "reporters", "disputed", "protected", "has_statement", "reasons", "guidance",
    "matched_kinds", "policy_version",
)  # fmt: skip


def observe(
    ledger: LedgerFixture, moment: datetime, epochs: Sequence[int] = (1, 2), recorded: Iterable[int] = range(PEOPLE)
) -> dict[str, Any]:
    """What lookups of all people under the keys of `epochs`, and the records of the people `recorded`, say at
    `moment`."""
    ledger.clock.moment = moment
    ledger.rt.members.refresh()
    found: dict[str, Any] = {"at": format_time(moment), "lookups": [], "records": []}
    for epoch in epochs:
        for number in range(PEOPLE):
            answer = ledger.lookup(people(ledger, number, epoch), epoch=epoch)
            found["lookups"].append(
                [epoch, number, {name: answer[name] for name in SAID_OF_A_PERSON if name in answer}]
            )
    for number in recorded:
        for entry in own_record(ledger.rt.context, ledger.rt.members.weights(), session(ledger, number, 2))["reports"]:
            case = entry.get("case") or {}
            found["records"].append(
                [
                    number,
                    entry["id"],
                    entry["status"],
                    entry["conduct"],
                    case.get("id"),
                    case.get("state"),
                    (case.get("decision") or {}).get("outcome"),
                ]
            )
    return found
