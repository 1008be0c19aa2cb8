"""Standings recomputed from nothing but the log's own bodies, in the plainest way."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import select

from ledger.protocol.encoding import day_floor, hour_floor, parse_time, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.protocol.tags import subject_commitment, tag
from ledger.rules.standing import Event, Standing, fold
from ledger.server.db.engine import reading
from ledger.server.db.tables.log import EntryBody
from ledger.server.db.tables.reports import Subject
from ledger.server.runtime import Runtime


def standings_from_entries(rt: Runtime, people: Sequence[bytes]) -> dict[bytes, Standing]:
    """Standing by tag of each person (a phone's element), from entry bodies and commitment salts alone."""
    with reading(rt.engine) as connection:
        rows = connection.execute(select(EntryBody.entry_index, EntryBody.body).order_by(EntryBody.entry_index)).all()
        salts = {(row.report_id, row.slot): bytes(row.salt) for row in connection.execute(select(Subject.__table__))}
    live: dict[int, Event] = {}
    amounts: dict[int, tuple[int, str]] = {}
    person_of: dict[int, bytes] = {}
    for index, body in rows:
        entry = json.loads(bytes(body))
        if entry["type"] == "report":
            signed = entry["body"]
            committed = unb64url(signed["subjects"][0]["c"], 32)
            salt = salts[(index, 0)]
            person = next(
                item for item in people if subject_commitment(salt, signed["epoch"], Kind.PHONE, item) == committed
            )
            amounts[index] = (signed["amount_minor"], signed["currency"])
            person_of[index] = person
            act_day = day_floor(parse_time(signed["act_ended_at"]))
            act = index
            mine = {
                event.act_id
                for other, event in live.items()
                if person_of[other] == person and event.control_group == entry["control_group"]
            }
            for other, event in sorted(live.items()):
                if (
                    person_of[other] == person
                    and event.act_id not in mine
                    and event.control_group != entry["control_group"]
                    and amounts[other] == amounts[index]
                    and abs(event.act_day - act_day) <= 7
                ):
                    act = event.act_id
                    break
            if signed.get("replaces"):
                live.pop(decode_id("rp", signed["replaces"], rt.settings.service), None)
            live[index] = Event(
                report_id=index,
                act_id=act,
                control_group=entry["control_group"],
                conduct=signed["conduct"],
                act_day=act_day,
                effective_hour=hour_floor(parse_time(entry["effective_from"])),
                expires_day=day_floor(parse_time(entry["expires_at"])),
                disputed=False,
                unconfirmed=False,
                restituted=False,
                has_statement=False,
                matched=frozenset({Kind.PHONE}),
            )
        elif entry["type"] == "withdrawal":
            live.pop(decode_id("rp", entry["report"], rt.settings.service), None)
    weights = rt.members.weights()
    now = rt.now()
    return {
        tag(Kind.PHONE, person): fold(
            [event for index, event in live.items() if person_of[index] == person], weights, rt.policy, now
        )
        for person in people
    }
