"""Ledgers that began under policy version 1 keep their standings: weights in twentieths fold as they did when that was
the only policy."""

from __future__ import annotations

import hashlib
from random import Random

from ledger.protocol.encoding import from_day
from ledger.protocol.identifiers import Kind
from ledger.rules.policy.shipped import shipped_version
from ledger.rules.standing import Event, Standing, fold

POLICY = shipped_version(1)[1]
TODAY = 20_780
CONDUCTS = [
    "ai_fabricated_image",
    "edited_image",
    "tampered_video",
    "false_non_receipt",
    "empty_parcel",
    "switched_return",
    "fake_return_tracking",
    "wardrobing",
    "friendly_chargeback",
    "account_farm",
    "impersonated",
]
KINDS = ["phone", "email", "device", "payment", "cn_id"]

RECORDED = "de9d212f5ff88709e61a565fe4b405856830de2506e66e6bf945f9e9628a97a5"
"""SHA-256 of what the last version before policy version 2 said of these 400 records, one a line."""


def record(rng: Random) -> tuple[list[Event], dict[str, int]]:
    """The reports about a person, and weights in twentieths."""
    events = []
    for number in range(rng.randrange(6)):
        day = TODAY - rng.randrange(1100)
        conduct = rng.choice(CONDUCTS)
        events.append(
            Event(
                report_id=number,
                act_id=rng.randrange(4),
                control_group=rng.choice("ABC"),
                conduct=conduct,
                act_day=day,
                effective_hour=(day + 4) * 24,
                expires_day=POLICY.expiry_day(conduct, day),
                matched=frozenset(Kind(kind) for kind in rng.sample(KINDS, rng.choice([1, 1, 2]))),
                disputed=rng.random() < 0.1,
                unconfirmed=rng.random() < 0.1,
                restituted=rng.random() < 0.3,
                has_statement=rng.random() < 0.1,
            )
        )
    return events, {group: rng.randrange(21) for group in "ABC"}


def line(standing: Standing) -> str:
    reasons, kinds = ",".join(standing.reasons), ",".join(standing.matched_kinds)
    marks = f"{standing.disputed} {standing.protected} {standing.has_statement}"
    numbers = f"{standing.credit} {standing.points_milli} {standing.events} {standing.reporters}"
    return f"{standing.tier} {numbers} {marks} {reasons} {kinds}"


def test_standings_are_those_of_the_version_before() -> None:
    rng, said = Random(20260129), []
    for _ in range(400):
        events, twentieths = record(rng)
        weights = {group: 2 * weight for group, weight in twentieths.items()}
        said.append(line(fold(events, weights, POLICY, from_day(TODAY))))
    assert len(set(said)) > 200
    assert hashlib.sha256("\n".join(said).encode()).hexdigest() == RECORDED
