"""Direct lookups: what they disclose is logged first, what they do not is only counted, and all look alike."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select, update

from ledger.errors import IndexNotReached, StaleEpoch
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import MAX_ID_NUMBER, encode_id
from ledger.rules.guidance import Advice
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.timeline import PolicyTimeline
from ledger.rules.reasons import MAX_REASONS, Reason
from ledger.rules.standing import Standing, Tier
from ledger.server.db.engine import reading, writing
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.db.tables.lookups import LookupCount, LookupLog, LookupTag
from ledger.server.db.tables.reports import Listing
from ledger.server.lookups import service
from ledger.server.lookups.answers import (
    ANSWER_BYTES,
    MAX_KEY_ID_CHARS,
    SIGNATURE_BYTES,
    LookupAnswers,
    QuestionEcho,
    padded,
)
from ledger.server.platforms.members import _NAME, set_status
from ledger.server.settings import Settings
from ledger.tlog.entries import PlatformState
from tests.processes import until
from tests.server.conftest import LedgerFixture
from tests.support import evidence, lookup_request, opened, submit_lookup

pytestmark = pytest.mark.one_engine

MEMBERS = [
    "id", "tier", "credit", "points", "events", "reporters", "disputed", "protected", "has_statement", "reasons",
    "guidance", "matched_kinds", "policy", "as_of_index", "as_of", "expires_at", "service", "environment", "platform",
    "epoch", "nonce", "question", "key_id", "signature", "padding",
]  # fmt: skip
"""Of an answer, in their order."""


def rows(ledger: LedgerFixture, table: Any) -> list[Any]:
    with reading(ledger.rt.engine) as connection:
        return list(connection.execute(select(table.__table__)))


def test_hit_and_miss_have_the_same_size_and_shape(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    ledger.report(ledger.bolt, ledger.person(), conduct="wardrobing", amount_minor=1,
                evidence=evidence("intake_photo", "policy_clause"))  # fmt: skip
    answers = [
        submit_lookup(ledger.rt, ledger.bolt.member(), lookup_request(ledger.rt, subjects)).result(60)
        for subjects in (ledger.person(), ledger.person(1), ledger.person(2)[:1])
    ]
    assert {len(answer) for answer in answers} == {ANSWER_BYTES}
    assert len({tuple(json.loads(answer)) for answer in answers}) == 1


def test_the_longest_answer_fits() -> None:
    """Every member at its longest, with a key id and a signature in place."""
    standing = Standing(
        tier=max(Tier, key=len),
        credit=100,
        points_milli=2**53 - 1,
        events=2**53 - 1,
        reporters=2**53 - 1,
        disputed=False,
        protected=False,
        has_statement=False,
        reasons=tuple(sorted(Reason, key=len)[-MAX_REASONS:]),
        matched_kinds=tuple(Kind),
    )
    service, platform = "s" * 64, "p" * 32
    assert Settings(service=service).service == service
    with pytest.raises(ValidationError):
        Settings(service=service + "s")
    assert _NAME.match(platform)
    assert not _NAME.match(platform + "p")
    answers = LookupAnswers(PolicyTimeline.of(replace(shipped_policy()[1], version=2**31 - 1)), service, "live")
    question = QuestionEcho(platform, 2**31 - 1, b64url(bytes(16)), b64url(bytes(32)))
    public_id, now = encode_id("lk", MAX_ID_NUMBER, "s"), datetime(9999, 12, 31, tzinfo=UTC) - timedelta(days=1)
    written = answers.answer(public_id, standing, None, 2**63 - 1, now, question)
    assert len(written) == ANSWER_BYTES
    answer = json.loads(written)
    assert list(answer) == MEMBERS
    signed = {
        **answer,
        "id": "lk_" + "x" * 29,
        "guidance": list(Advice),
        "matched_kinds": list(Kind),
        "key_id": "k" * MAX_KEY_ID_CHARS,
        "signature": b64url(bytes(SIGNATURE_BYTES)),
    }
    del signed["padding"]
    longest = padded(signed)
    assert len(longest) == ANSWER_BYTES
    assert list(json.loads(longest)) == MEMBERS
    assert longest.endswith(b'.."}'), "there is room left"


@pytest.mark.both_engines
def test_a_disclosure_is_logged_against_the_tags_and_a_clean_lookup_is_not(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    person = lookup_request(ledger.rt, ledger.person(), consent_ref="c-1")
    disclosed = json.loads(submit_lookup(ledger.rt, ledger.bolt.member(), person).result(60))
    ledger.lookup(ledger.person(1))
    (logged,) = rows(ledger, LookupLog)
    assert (logged.platform, logged.purpose, logged.tier, logged.consent_ref, logged.claim) == (
        "bolt", "refund_review", disclosed["tier"], "c-1", "damaged",
    )  # fmt: skip
    assert {bytes(row.tag) for row in rows(ledger, LookupTag)} == {tag for _, tag in person.subjects}
    assert {row.lookup_id for row in rows(ledger, LookupTag)} == {logged.id}


@pytest.mark.parametrize(
    ("change", "disclosed"),
    [
        ({}, True),
        ({"disputed": True}, True),
        ({"conduct": "impersonated"}, True),
        ({"unconfirmed": True}, False),
        ({"effective_hour": 10**6}, False),
        ({"expires_day": 1}, False),
    ],
)
def test_what_counts_as_a_disclosure(ledger: LedgerFixture, change: dict[str, Any], disclosed: bool) -> None:
    ledger.report(ledger.acme, ledger.person())
    with writing(ledger.rt.engine) as connection:
        connection.execute(update(Listing).values({"kind": Listing.kind, **change}))
    answer = ledger.lookup(ledger.person())
    assert bool(rows(ledger, LookupLog)) is disclosed
    if change == {"disputed": True}:
        assert (answer["tier"], answer["disputed"], answer["guidance"]) == ("clear", True, ["approve"])
    if change == {"conduct": "impersonated"}:
        assert (answer["tier"], answer["protected"], answer["events"]) == ("clear", True, 0)


@pytest.mark.both_engines
def test_clean_lookups_are_counted_by_day_and_platform(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    for number in (0, 1, 1, 2):
        ledger.lookup(ledger.person(number))
    ledger.clock.moment += timedelta(days=1)
    ledger.lookup(ledger.person(1))

    def counted() -> list[tuple[int, int]]:
        return sorted((row.clean, row.disclosed) for row in rows(ledger, LookupCount))

    until(lambda: counted() == [(1, 0), (3, 1)], "not counted")


def test_several_identifiers_are_one_person(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    alone = ledger.lookup(ledger.person()[:1])
    both = ledger.lookup(ledger.person())
    assert (alone["events"], both["events"]) == (1, 1)
    assert alone["points"] == both["points"]
    assert both["matched_kinds"] == ["payment", "phone"]
    assert alone["reasons"][0] == "weak_match_only"


def test_a_suspended_groups_reports_weigh_nothing(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    assert ledger.lookup(ledger.person())["tier"] == "watch"
    for platform in (ledger.acme, ledger.acme2):
        set_status(ledger.rt.engine, platform=platform.name, status=PlatformState.SUSPENDED, now=ledger.clock())
    ledger.rt.members.refresh()
    assert ledger.lookup(ledger.person())["tier"] == "watch"
    ledger.clock.moment += timedelta(days=1)
    assert ledger.lookup(ledger.person())["tier"] == "clear", "from the next UTC midnight on"


def test_another_epoch_is_refused(ledger: LedgerFixture) -> None:
    with pytest.raises(StaleEpoch) as caught:
        ledger.lookup(ledger.person(), epoch=2)
    assert caught.value.details["epoch"] == 1


def test_min_index_reads_ones_own_writes_and_waits_no_longer_than_it_says(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    seen = ledger.lookup(ledger.person(), min_index=report["entry_index"] + 1)
    assert seen["as_of_index"] == report["entry_index"] + 1
    ahead = lookup_request(ledger.rt, ledger.person(), min_index=seen["as_of_index"] + 1)
    started = time.monotonic()
    with pytest.raises(IndexNotReached):
        asyncio.run(ledger.rt.lookups.lookup(ledger.bolt.member(), ahead))
    assert time.monotonic() - started >= service.MIN_INDEX_WAIT_MS / 1000


@pytest.mark.both_engines
def test_min_index_is_met_by_a_report_that_comes_meanwhile(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the report may need longer than a lookup waits; how long that is, another test checks.
    monkeypatch.setattr(service, "MIN_INDEX_WAIT_MS", 30_000)
    size = ledger.lookup(ledger.person())["as_of_index"]
    request = lookup_request(ledger.rt, ledger.person(), min_index=size + 1)

    async def both() -> bytes:
        waiting = asyncio.create_task(ledger.rt.lookups.lookup(ledger.bolt.member(), request))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(ledger.report, ledger.acme, ledger.person())
        return await waiting

    assert json.loads(asyncio.run(both()))["tier"] == "watch"


def test_one_unmet_min_index_does_not_hold_up_the_others(ledger: LedgerFixture) -> None:
    futures = [
        submit_lookup(ledger.rt, ledger.bolt.member(), lookup_request(ledger.rt, ledger.person(n), min_index=index))
        for n, index in enumerate((None, 10**6, 0))
    ]
    assert [type(future.exception(60)) for future in futures] == [type(None), IndexNotReached, type(None)]


@pytest.mark.both_engines
def test_two_processes_never_share_an_id(ledger: LedgerFixture) -> None:
    with opened(ledger.rt.settings) as other:
        ids = [
            json.loads(submit_lookup(rt, ledger.bolt.member(), lookup_request(rt, ledger.person())).result(60))["id"]
            for rt in (ledger.rt, other) * 5
        ]
    assert len(set(ids)) == 10
    with writing(ledger.rt.engine) as connection:
        blocks = [reserve_ids(connection, "test", 7) for _ in range(3)]
    assert [b - a for a, b in itertools.pairwise(blocks)] == [7, 7]
