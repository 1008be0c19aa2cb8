"""An answer to a lookup belongs to its question: what answers another one is an error, never a standing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.client import Buyer, Lookup, Query, Refund, RefundLedger, buyers
from ledger.client.identity.suite import parse_suite
from ledger.client.lookups.questions import SETTLE_SECONDS, Questioner, Watermark
from ledger.client.lookups.request import query_json
from ledger.client.transport.budgets import Deadline
from ledger.errors import AnswerMismatch, InvalidRequest, UnexpectedAnswer
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.request_digest import question_digest
from tests.client.small_ledger import SmallLedger
from tests.counts import trials
from tests.faulty import answering, proxy
from tests.kit import Connect, Running, person, report_arguments
from tests.support import CONSENT

WHO = {"phone": "+86 138 0013 8000"}
OTHER = {"phone": "+86 139 1234 5678"}
BUDGET_SECONDS = 20.0
"""For lookups whose outcome matters and not their time."""

FORGED: dict[str, list[object]] = {
    "nonce": [b64url(bytes(16)), None, "", 7, "x" * 22],
    "question": [b64url(bytes(32)), ""],
    "service": ["other.test", ""],
    "environment": ["live"],
    "platform": ["bazaar", "acme2"],
    "epoch": [2],
}


def changed(**changes: object) -> Callable[[bytes], bytes]:
    """An answer with these members changed."""
    return lambda body: json.dumps({**json.loads(body), **changes}).encode()


def without(name: str) -> Callable[[bytes], bytes]:
    """An answer without this member."""
    return lambda body: json.dumps({key: member for key, member in json.loads(body).items() if key != name}).encode()


def test_an_answer_that_repeats_another_question_is_an_error(ledger: SmallLedger) -> None:
    ledger.publish()
    buyer = ledger.buyer(WHO)
    with proxy(ledger.url) as between:
        suite = ledger.suite_file(url=between.url)
        with ledger.connect(suite=suite, lookup_budget_seconds=BUDGET_SECONDS) as acme:
            acme.refresh_snapshot()
            for name, value in [(name, value) for name, values in FORGED.items() for value in values]:
                assert acme.lookup(buyer, order="1").source == "direct"
                connections = between.connections
                ledger.forge("/v1/lookups", changed(**{name: value}))
                for who in (buyer, WHO):
                    with pytest.raises(AnswerMismatch) as caught:  # and not `clear` from the local filter
                        acme.lookup(who, order="1")
                    assert caught.value.details["compared"] == name
                ledger.replace.clear()
                assert acme.lookup(buyer, order="1").source == "direct"
                assert between.connections >= connections + 2, "each time the connection was dropped"


def test_what_has_no_place_for_a_question_is_no_answer(ledger: SmallLedger) -> None:
    with ledger.connect(lookup_budget_seconds=BUDGET_SECONDS) as acme:
        for name in FORGED:
            ledger.forge("/v1/lookups", without(name))
            lookup = acme.lookup(ledger.buyer(WHO), order="1")
            assert (lookup.tier, lookup.unavailable_because) == ("unavailable", "unexpected_answer")


def test_signed_answers_and_members_of_the_future_are_read(ledger: SmallLedger) -> None:
    future = changed(key_id="answers-2027", signature=b64url(bytes(64)), colour={"of": ["the", "future"]})
    ledger.forge("/v1/lookups", future)
    with ledger.connect(lookup_budget_seconds=BUDGET_SECONDS) as acme:
        assert acme.lookup(ledger.buyer(WHO), order="1").tier == "clear"


def test_answers_of_a_batch_are_each_compared(ledger: SmallLedger) -> None:
    queries = [Query(ledger.buyer(who), "1") for who in (WHO, OTHER, WHO)]

    def forge(change: Callable[[list[Any]], list[Any]]) -> None:
        ledger.forge(
            "/v1/lookups/batch", lambda body: json.dumps({"results": change(json.loads(body)["results"])}).encode()
        )

    with ledger.connect() as acme:
        assert [type(outcome) for outcome in acme.lookup_many(queries)] == [Lookup] * 3
        for swapped in ((1, 0, 2), (2, 1, 0), (0, 0, 2)):  # the first and the last ask the same
            forge(lambda results, order=swapped: [results[place] for place in order])  # type: ignore[misc]
            with pytest.raises(AnswerMismatch):
                acme.lookup_many(queries)
        forge(lambda results: results[:2])
        with pytest.raises(UnexpectedAnswer):
            acme.lookup_many(queries)


def test_a_query_that_cannot_be_sent_leaves_the_others(ledger: SmallLedger) -> None:
    half = Refund(129.5, "CNY", "damaged")  # type: ignore[arg-type]
    buyer = ledger.buyer(WHO)
    with ledger.connect() as acme:
        good, bad = acme.lookup_many([Query(buyer, "1"), Query(buyer, "1", half)])
        assert isinstance(good, Lookup)
        assert isinstance(bad, InvalidRequest)
        assert all(isinstance(outcome, InvalidRequest) for outcome in acme.lookup_many([Query(buyer, "1", half)]))
        with pytest.raises(InvalidRequest):
            acme.lookup(buyer, order="1", refund=half)


# --- against a real server ------------------------------------------------------------------------------------------


def test_answers_that_come_one_late_are_never_taken(running: Running, connect: Connect) -> None:
    """As over a connection that two processes share: each gets the answer to the question before."""
    real, reporter = connect("acme"), connect("bazaar")
    listed, clear = person(), person()
    report = reporter.reports.create(reporter.tag(**listed), **report_arguments()).report
    assert report is not None
    suite, late = running.suite("acme").read_text(), list[bytes]()

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path == "/v1/suite":
            return 200, {}, suite.encode()
        late.append(real._session.transport.send(method, path, Deadline(10), content=body).body)
        return 200, {}, late[-2] if path == "/v1/lookups" and len(late) > 1 else late[-1]

    known, unknown = buyers(real.tag_many([listed, clear]))
    real.lookup(known, order="1", consent_ref=CONSENT, min_index=report.entry_index + 1)
    with answering(respond) as url:
        mixed = connect("acme", url=url, lookup_budget_seconds=BUDGET_SECONDS)
        assert mixed.lookup(known, order="1", consent_ref=CONSENT).tier == "watch"
        for buyer in (unknown, known, known):
            with pytest.raises(AnswerMismatch):
                mixed.lookup(buyer, order="1", consent_ref=CONSENT)


def test_the_service_repeats_every_question(connect: Connect) -> None:
    acme = connect("acme", lookup_budget_seconds=BUDGET_SECONDS)
    buyer = acme.tag(**person())
    refund = Refund(12_900, "CNY", "damaged")
    for query in (Query(buyer, "1", consent_ref=CONSENT), Query(buyer, "2", refund, "appeal", "同意 1", 1)):
        lookup = acme.lookup(
            query.buyer, order=query.order, refund=query.refund, purpose=query.purpose,
            consent_ref=query.consent_ref, min_index=query.min_index,
        )  # fmt: skip
        (batched,) = acme.lookup_many([query])
        assert isinstance(batched, Lookup)
        assert (lookup.tier, batched.tier) == ("clear", "clear")


# --- the rule -------------------------------------------------------------------------------------------------------


def questioner(ledger: SmallLedger, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> Questioner:
    return Questioner(parse_suite(ledger.suite_file(url="http://127.0.0.1:1")), random_bytes)


REQUESTS = st.builds(
    lambda tags, order, purpose, index: query_json(
        Query(Buyer.from_tags(1, [("phone", b64url(tag)) for tag in tags]), "", None, purpose, None, index), order
    ),
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3),
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["refund_review", "appeal"]),
    st.none() | st.integers(0, 3),
)


@settings(max_examples=25)
@given(body=REQUESTS, other_body=REQUESTS)
def test_no_answer_fits_two_questions(tmp_path_factory: pytest.TempPathFactory, body: Any, other_body: Any) -> None:
    small = SmallLedger(tmp_path_factory.getbasetemp())
    asker = questioner(small)
    first, second, again = asker.question(body), asker.question(other_body), asker.question(body)
    answers = [small.clear_lookup(question.body) | {"as_of_index": 9} for question in (first, second, again)]
    for place, question in enumerate((first, second, again)):
        for other, answer in enumerate(answers):
            if place == other:
                assert asker.answer(question, answer).tier == "clear"
                continue
            with pytest.raises(AnswerMismatch):
                asker.answer(question, answer)
            # Nor with the nonce of the question: the digest binds the whole request, and the nonce.
            with pytest.raises(AnswerMismatch) as caught:
                asker.answer(question, answer | {"nonce": question.nonce})
            assert caught.value.details["compared"] == "question"


def test_the_nonce_comes_from_the_given_source_and_is_fresh(ledger: SmallLedger) -> None:
    drawn: list[bytes] = []

    def draw(size: int) -> bytes:
        drawn.append(secrets.token_bytes(size))
        return drawn[-1]

    asker = questioner(ledger, draw)
    request = query_json(Query(ledger.buyer(WHO), "1"), bytes(32))
    questions = [asker.question(request) for _ in range(3)]
    assert [unb64url(question.nonce, 16) for question in questions] == drawn
    assert len(set(drawn)) == 3
    assert [unb64url(question.digest, 32) for question in questions] == [
        question_digest(request, nonce) for nonce in drawn
    ]


# --- an index below what was seen -----------------------------------------------------------------------------------


def test_an_older_log_than_was_shown_is_an_error(ledger: SmallLedger) -> None:
    buyer = ledger.buyer(WHO)
    with ledger.connect(lookup_budget_seconds=BUDGET_SECONDS) as acme:
        seconds = [0.0]
        acme._session.questions._seen._monotonic = lambda: seconds[0]

        def ask(index: int) -> Lookup:
            ledger.forge("/v1/lookups", changed(as_of_index=index))
            return acme.lookup(buyer, order="1")

        assert ask(100).as_of_index == 100
        assert ask(90).as_of_index == 90, "another process of the server, which was 200 ms behind"
        seconds[0] += SETTLE_SECONDS
        assert ask(100).as_of_index == 100
        with pytest.raises(AnswerMismatch) as caught:
            ask(99)
        assert caught.value.details["compared"] == "as_of_index"
        ledger.forge("/v1/lookups", changed(as_of_index=110))
        with pytest.raises(AnswerMismatch):
            acme.lookup(buyer, order="1", min_index=111)
        assert acme.lookup(buyer, order="1", min_index=110).as_of_index == 110


@settings(max_examples=trials(30, 50))
@given(steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 5), st.floats(0, 0.2)), min_size=1, max_size=40))
def test_servers_that_are_200_ms_behind_are_never_accused(steps: list[tuple[float, int, float]]) -> None:
    """The log grows all the time; each answer comes from a process that knows what was there up to 200 ms before."""
    now, size = 0.0, 0
    grown: list[tuple[float, int]] = [(0.0, 0)]
    seen = Watermark(lambda: now)
    for pause, entries, behind in steps:
        now += pause
        size += entries
        grown.append((now, size))
        floor = seen.floor()
        known = max(entries for when, entries in grown if when <= max(0.0, now - behind))
        assert known >= floor
        seen.saw(known)


@settings(max_examples=trials(30, 50))
@given(steps=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), min_size=1, max_size=20))
def test_a_log_that_was_cut_back_is_found_out(steps: list[tuple[float, int]]) -> None:
    """After twice the time at the latest the floor covers what was answered, however many questions came between."""
    now, size = 0.0, 0
    seen = Watermark(lambda: now)
    for pause, entries in steps:
        now += pause
        size += entries
        seen.floor()
        seen.saw(size)
    for _ in range(2):
        now += SETTLE_SECONDS + 0.001
        floor = seen.floor()
    assert floor == size


# --- reasons --------------------------------------------------------------------------------------------------------


def reasons_of(acme: RefundLedger, buyer: Buyer) -> list[tuple[str, str, str]]:
    return [(reason.code, reason.en, reason.zh_cn) for reason in acme.lookup(buyer, order="1").reasons]


def test_a_reason_that_this_version_does_not_know_is_explained_by_the_ledger(ledger: SmallLedger) -> None:
    ledger.forge("/v1/lookups", changed(reasons=["no_record", "of_the_future"]))
    for locale, text in (("en", "New.\x1b[2J"), ("zh-CN", "新的。")):
        texts = {"locale": locale, "reasons": {"of_the_future": text, "no_record": "Not to be used."}}
        ledger.replace[f"/v1/texts/{locale}"] = lambda _, texts=texts: (200, {}, json.dumps(texts).encode())  # type: ignore[misc]
    with ledger.connect(lookup_budget_seconds=BUDGET_SECONDS) as acme:
        known, new = reasons_of(acme, ledger.buyer(WHO))
        assert known[1].startswith("Nothing on record")
        assert new == ("of_the_future", "New.[2J", "新的。")
        ledger.asked()
        reasons_of(acme, ledger.buyer(WHO))
        assert not [path for path in ledger.asked() if path.startswith("/v1/texts")], "asked once"


def test_a_reason_without_a_text_stands_for_itself(ledger: SmallLedger) -> None:
    ledger.forge("/v1/lookups", changed(reasons=["of_the_future"]))
    with ledger.connect(lookup_budget_seconds=BUDGET_SECONDS) as acme:
        assert reasons_of(acme, ledger.buyer(WHO)) == [("of_the_future",) * 3]
        assert [path for path in ledger.asked() if path.startswith("/v1/texts")] == ["/v1/texts/en"]
        assert reasons_of(acme, ledger.buyer(WHO)) == [("of_the_future",) * 3]
        assert not [path for path in ledger.asked() if path.startswith("/v1/texts")], "not again within a minute"
        for broken in (["\x1b[2J"], [3], [{"code": "no_record"}], "no_record"):
            ledger.forge("/v1/lookups", changed(reasons=broken))
            assert acme.lookup(ledger.buyer(WHO), order="1").unavailable_because == "unexpected_answer"
