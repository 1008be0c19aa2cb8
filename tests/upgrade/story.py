"""A small ledger with a past, and what it says of everybody in it: made by one version, observed by the next.

`make` writes the story through the services of the version that runs it; `observe` reads, at a time of its own, what
lookups, records and cases say. Both use only what versions have had in common since schema 0014.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import encode_id
from ledger.protocol.tags import tag
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.clock import run_clocks
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.sessions import SessionRow
from ledger.server.keys.files import load_log_key
from ledger.server.platforms.members import set_status
from ledger.server.reports.erasure import erase_due
from ledger.server.rotation.run import rotate
from ledger.server.snapshots.builder import build_and_publish, builder_engine
from tests.rotations import subjects_under
from tests.server.conftest import Town
from tests.support import Platform, evidence, publish

PEOPLE = 25
LATER = (timedelta(0), timedelta(days=9), timedelta(days=45), timedelta(days=400))
"""When standings are compared, counted from the end of the story."""

GRAVE: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}
SAID = "It was looked into."


def people(town: Town, number: int, epoch: int) -> list[tuple[Any, bytes]]:
    """Phone and payment of person `number` under a key epoch."""
    return subjects_under(town.rt.settings, epoch, number)


def session(town: Town, number: int, epoch: int) -> SessionRow:
    """The person's own session, opened through bolt."""
    subjects = tuple((kind.value, tag(kind, element)) for kind, element in people(town, number, epoch))
    return SessionRow(1, "bolt", "bolt-group", "CN", "en", epoch, subjects, None, town.clock())


def make(town: Town) -> None:
    """Write the story; at its end the clock stands where the observation begins."""
    staff = iter(Staff(number, "reviewer") for number in range(100, 200))
    uno = Platform("uno", "uno-group", "uno-1", profile="US").join(town.rt.engine)
    late = Platform("late", "late-group", "late-1", profile="CN").join(town.rt.engine)
    town.rt.members.refresh()

    def report(by: Platform, number: int, epoch: int = 1, **changes: Any) -> dict[str, Any]:
        return town.report(
            by,
            people(town, number, epoch),
            epoch=epoch,
            now=town.clock(),
            order=f"{by.name}-{number}-{secrets.token_hex(4)}",
            **changes,
        )

    def contest(number: int, *reports: dict[str, Any], epoch: int = 1) -> str:
        who = session(town, number, epoch)
        rows = consumer.open_cases(
            town.rt.context, who, [str(one["id"]) for one in reports], "wrong_facts", "I sent it back.", "en"
        )
        return encode_id("ap", rows[0].id, town.rt.settings.service)

    def decide(case: str, outcome: Outcome, **more: Any) -> None:
        reviewer = next(staff)
        staff_actions.take(town.rt.context, case, reviewer)
        row = staff_actions.decide(town.rt.context, case, reviewer, outcome, SAID, **more)
        if row.state == "awaiting_signoff":
            staff_actions.sign(town.rt.context, case, next(staff))

    def days(number: float) -> None:
        town.clock.moment += timedelta(days=number)

    # Persons 0 to 5: one group, two groups, three, grave and light.
    for number in range(6):
        report(town.acme, number)
        if number % 2:
            report(town.bolt, number, amount_minor=12_900 if number == 1 else 77_700, **GRAVE)
        if number == 5:
            report(uno, number, amount_minor=5_500, **GRAVE)
            report(town.acme2, number, amount_minor=31_000, **GRAVE)
    report(town.acme2, 4, conduct="wardrobing", evidence=evidence("intake_photo", "policy_clause"))
    days(1)
    # 6 to 11: each outcome.
    outcomes: list[tuple[Outcome, dict[str, Any]]] = [
        (Outcome.UPHELD, {}), (Outcome.AMENDED, {"conduct": Conduct.WARDROBING}), (Outcome.OVERTURNED, {}),
        (Outcome.UNCONFIRMED, {}), (Outcome.VICTIM, {}), (Outcome.UNLINKED, {"slots": [0]}),
    ]  # fmt: skip
    for number, (outcome, more) in enumerate(outcomes, 6):
        decide(contest(number, report(town.acme, number)), outcome, **more)
    days(3)
    # 12: a grave one, upheld by four eyes. 13: opened again and decided otherwise.
    decide(contest(12, report(town.bolt, 12, **GRAVE)), Outcome.UPHELD)
    case = contest(13, report(town.acme, 13))
    decide(case, Outcome.UPHELD)
    consumer.reopen(town.rt.context, session(town, 13, 1), case, "I found the receipt.")
    decide(case, Outcome.OVERTURNED)
    # 14: withdrawn. 15: restitution. 16: a person's own words. 17: protected.
    town.withdraw(town.acme, report(town.acme, 14)["id"])
    town.restitute(town.bolt, report(town.bolt, 15, **GRAVE), format_time(town.clock()))
    stated = report(town.acme, 16)
    consumer.add_statement(town.rt.context, session(town, 16, 1), str(stated["id"]), "My flatmate ordered it.", "en")
    report(town.acme, 17, conduct="impersonated", evidence=evidence("admission"))
    report(town.bolt, 17)
    snapshot(town)
    days(2)
    rotate(town.rt.settings, town.rt.engine, town.clock)
    town.rt.members.refresh()
    # Under the second key: 18 is contested and open, 19 cools, 20 was replaced, 21 is by a group that is suspended.
    contest(18, report(town.acme, 18, 2), epoch=2)
    report(town.acme, 19, 2, notice_sent_at=format_time(town.clock()))
    order: dict[str, Any] = {"epoch": 2, "now": town.clock(), "order": "replaced"}
    replaced = town.report(town.acme, people(town, 20, 2), **order, **GRAVE)
    days(0.25)
    town.report(
        town.acme, people(town, 20, 2), **order, replaces=replaced["id"], conduct="empty_parcel",
        evidence=evidence("dispatch_weight", "return_weight", "intake_photo"), **town.told_now(),
    )  # fmt: skip
    report(late, 21, 2, **GRAVE)
    report(town.bolt, 21, 2)
    set_status(town.rt.engine, platform="late", status="suspended", now=town.clock())
    town.rt.members.refresh()
    # 22: silence decides. 23: cools at the end. 24: never reported.
    case = contest(22, report(uno, 22, 2), epoch=2)
    asking = next(staff)
    staff_actions.take(town.rt.context, case, asking)
    staff_actions.ask_reporter(town.rt.context, case, asking, "Which carrier?")
    days(8)
    run_clocks(town.rt.context)
    erase_due(town.rt.context, town.rt.settings)
    report(town.acme, 23, 2, notice_sent_at=format_time(town.clock()))
    for number in (0, 3, 5, 18):
        town.lookup(people(town, number, 2), epoch=2)
    snapshot(town)
    publish(town.rt.settings)


def snapshot(town: Town) -> None:
    """Build and publish one snapshot at the town's time."""
    engine = builder_engine(town.rt.settings)
    try:
        build_and_publish(
            town.rt.settings, engine, load_log_key(town.rt.settings), town.clock(), random_bytes=secrets.token_bytes
        )
    finally:
        engine.dispose()


SAID_OF_A_PERSON = (
    "tier", "credit", "points", "events", "reporters", "disputed", "protected", "has_statement", "reasons", "guidance",
    "matched_kinds", "policy_version",
)  # fmt: skip


def observe(town: Town, moment: datetime, epochs: Sequence[int] = (1, 2)) -> dict[str, Any]:
    """What lookups under the keys of `epochs`, and each person's record, say at `moment`."""
    town.clock.moment = moment
    town.rt.members.refresh()
    found: dict[str, Any] = {"at": format_time(moment), "lookups": [], "records": []}
    for epoch in epochs:
        for number in range(PEOPLE):
            answer = town.lookup(people(town, number, epoch), epoch=epoch)
            found["lookups"].append(
                [epoch, number, {name: answer[name] for name in SAID_OF_A_PERSON if name in answer}]
            )
    for number in range(PEOPLE):
        for entry in own_record(town.rt.context, town.rt.members.weights(), session(town, number, 2))["reports"]:
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
