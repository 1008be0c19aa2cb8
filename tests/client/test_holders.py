"""Evaluation by t of n key holders: the first t valid shares count, and a bad holder costs no answer."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import Buyer, buyers
from ledger.client.holders.evaluation import GroupEvaluation
from ledger.errors import (
    HolderMismatch,
    InvalidProof,
    LedgerError,
    NotAdmitted,
    PlatformSuspended,
    QuotaExceeded,
    Unavailable,
    UnexpectedAnswer,
    UnknownKey,
)
from ledger.tlog.key_statement import make_card
from tests.client.shared_ledger import PLATFORM_KEY, SharedLedger, SmallHolder, shared_ledger
from tests.client.test_epochs import WHO
from tests.faulty import PROMPT_SECONDS, SLOW_SECONDS, free_port
from tests.processes import until
from tests.support import ROOT

OTHER = {"email": "li@example.com"}
Spoil = Callable[[SmallHolder], object]


def expected(shared: SharedLedger, who: Mapping[str, str] = WHO) -> Buyer:
    """The buyer as a ledger with the whole key would make it."""
    return shared.buyer(who, shared.current)


def events(caplog: pytest.LogCaptureFixture, event: str = "holder_failed") -> list[dict[str, object]]:
    return [record.__dict__["fields"] for record in caplog.records if record.__dict__.get("event") == event]


def failed(caplog: pytest.LogCaptureFixture) -> set[tuple[object, object]]:
    return {(fields["holder"], fields["reason"]) for fields in events(caplog)}


def test_two_of_three_give_the_tags_of_one_of_one(shared: SharedLedger) -> None:
    with shared.connect(lookup_budget_seconds=5) as acme:
        assert acme.tag(**WHO) == expected(shared)
        assert acme.lookup(OTHER, order="1").tier == "clear"
        assert sum(len(holder.asked) for holder in shared.group) >= 4
        assert "/v1/oprf/evaluate" not in shared.asked(), "the ledger itself has no share"


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5), (2, 2)])
def test_whichever_holders_answer_the_tags_are_the_same(tmp_path: Path, threshold: int, count: int) -> None:
    with shared_ledger(tmp_path, threshold, count) as shared:
        truth = expected(shared)
        subsets = list(combinations(shared.group, threshold))
        for number, answering in enumerate(subsets):
            for holder in shared.group:
                holder.refusal = None if holder in answering else (503, "overloaded", {})
            with shared.connect(f"state-{number}", lookup_budget_seconds=5) as acme:
                assert acme.tag(**WHO) == truth


# --- bad holders --------------------------------------------------------------------------------------------------


def _forge_proof(answer: dict[str, Any]) -> None:
    proof = answer["proof"]
    answer["proof"] = ("B" if proof[0] != "B" else "C") + proof[1:]


def refuses(status: int, code: str, **members: Any) -> Spoil:
    return lambda holder: setattr(holder, "refusal", (status, code, members))


def changes(**members: Any) -> Spoil:
    return lambda holder: setattr(holder, "change", lambda answer: answer.update(members))


def sends(raw: bytes) -> Spoil:
    return lambda holder: setattr(holder, "raw", raw)


BAD: dict[str, tuple[Spoil, str, type[LedgerError]]] = {
    "not admitting": (refuses(403, "not_admitted"), "not_admitted", NotAdmitted),
    "suspending": (refuses(403, "platform_suspended"), "platform_suspended", PlatformSuspended),
    "out of quota": (
        refuses(429, "quota_exceeded", limit="daily", retry_after_seconds=3600),
        "quota_exceeded",
        QuotaExceeded,
    ),
    "overloaded": (refuses(503, "overloaded", retry_after_seconds=3600), "overloaded", Unavailable),
    "failing": (refuses(500, "internal", reason="any\nwords"), "unavailable", Unavailable),
    "breaking errors": (
        refuses(403, "not_admitted", message="x", self="x", retry_after_seconds=10**400),
        "not_admitted",
        NotAdmitted,
    ),
    "long-winded": (changes(padding="x" * 200_000), "malformed", UnexpectedAnswer),
    "lying": (SmallHolder.lie, "invalid_proof", InvalidProof),
    "forging": (lambda holder: setattr(holder, "change", _forge_proof), "invalid_proof", InvalidProof),
    "answering nothing": (changes(evaluated=[]), "invalid_proof", InvalidProof),
    "of no form": (sends(b"{}"), "malformed", UnexpectedAnswer),
    "a login page": (sends(b"<html>hello</html>"), "malformed", UnexpectedAnswer),
    "another epoch": (changes(epoch=2), "malformed", UnexpectedAnswer),
    "another generation": (changes(generation=2), "wrong_generation", HolderMismatch),
    "another index": (changes(index=9), "wrong_generation", HolderMismatch),
    "silent": (SmallHolder.be_silent, "timeout", Unavailable),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_holder_is_named_and_two_are_an_error(
    shared: SharedLedger, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, reason, error = BAD[name]
    bad, *others = shared.group
    spoil(bad)
    # What these fail with passes, so two of them are asked until the time is over; the other failures are final.
    budget = 2.0 if name in ("silent", "failing") else 20.0
    with shared.connect(subject_budget_seconds=budget) as acme, caplog.at_level(logging.INFO, "refund_ledger"):
        acme.connect()
        for holder in others if name != "silent" else []:
            holder.before_answer = lambda: until(lambda: bad.id in acme.holder_failures, "the failure is not counted")
        started = time.monotonic()
        assert acme.tag(**WHO) == expected(shared)
        assert name != "silent" or time.monotonic() - started < budget, "it is not waited for"
        if name != "silent":
            counts = {holder: dict(failures) for holder, failures in acme.holder_failures.items()}
            assert (failed(caplog), {holder: set(failures) for holder, failures in counts.items()}) == (
                {(bad.id, reason)},
                {bad.id: {reason}},
            )
            # Until the others have answered, it may be asked again if its failure is one that passes.
            assert counts[bad.id][reason] == 1 or name == "failing"
        spoil(others[0])
        with pytest.raises(error) as caught:
            acme.tag(**OTHER)
        assert type(caught.value) is error
        assert caught.value.details["holders"] == {bad.id: reason, others[0].id: reason}
        assert all(word in str(caught.value) for word in (bad.id, others[0].id, reason))
        for holder in others:
            holder.recover()
        assert bad.id in acme.holder_failures


def test_every_failure_is_noted_before_an_evaluation_ends(
    shared: SharedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a thread is held up between verifying a share and noting that it is false."""
    real = GroupEvaluation._note

    def late(*arguments: Any) -> None:
        time.sleep(0.1)
        real(*arguments)

    monkeypatch.setattr(GroupEvaluation, "_note", late)
    liars = shared.group[:2]
    for holder in liars:
        holder.lie()
    with shared.connect(subject_budget_seconds=20) as acme:
        with pytest.raises(InvalidProof) as caught:
            acme.tag(**WHO)
        reasons = {holder.id: "invalid_proof" for holder in liars}
        assert caught.value.details["holders"] == reasons
        assert {name: dict(counts) for name, counts in acme.holder_failures.items()} == {
            name: {reason: 1} for name, reason in reasons.items()
        }


def test_a_holder_that_is_away_is_named(shared: SharedLedger, caplog: pytest.LogCaptureFixture) -> None:
    away = shared.group[0]
    away.url, address = f"http://127.0.0.1:{free_port()}", away.url
    with shared.connect() as acme, caplog.at_level(logging.INFO, "refund_ledger"):
        acme.connect()
        shared.group[1].before_answer = lambda: until(lambda: away.id in acme.holder_failures, "it is not counted")
        assert acme.tag(**WHO) == expected(shared)
        assert failed(caplog) == {(away.id, "connect")}
    away.url = address


def test_a_holder_that_comes_back_is_waited_for(shared: SharedLedger) -> None:
    """Two of three are needed, one is silent, and another one refuses for a moment: one call, one answer."""
    first, second, third = shared.group
    first.be_silent()
    second.refusal = (503, "overloaded", {})
    with shared.connect(subject_budget_seconds=SLOW_SECONDS - 1) as acme, ThreadPoolExecutor(1) as pool:
        acme.connect()
        tagging = pool.submit(acme.tag, **WHO)
        until(lambda: second.id in acme.holder_failures, "the refusal is not counted")
        second.recover()
        assert tagging.result() == expected(shared)
        assert acme.holder_failures[second.id]["overloaded"] >= 1
    assert third.asked


def test_a_lookup_never_takes_longer_than_its_budget(shared: SharedLedger) -> None:
    with shared.connect() as acme:
        acme.connect()
        for holder in shared.group[:2]:
            holder.be_silent()
        started = time.monotonic()
        lookup = acme.lookup(WHO, order="1")
        assert (lookup.tier, lookup.unavailable_because) == ("unavailable", "timeout")
        assert time.monotonic() - started < PROMPT_SECONDS


def test_a_lying_majority_gives_no_tag_and_nothing_is_remembered(shared: SharedLedger) -> None:
    liars = shared.group[:2]
    truth = [dict(holder.shares) for holder in liars]
    for holder in liars:
        holder.lie()
    with shared.connect(lookup_budget_seconds=5) as acme:
        with pytest.raises(InvalidProof):
            acme.tag(**WHO)
        with pytest.raises(InvalidProof):
            acme.lookup(WHO, order="1")
        for holder, shares in zip(liars, truth, strict=True):
            holder.shares = shares
        assert acme.tag(**WHO) == expected(shared)


# --- requests -----------------------------------------------------------------------------------------------------


def test_many_are_tagged_in_batches_by_all_holders(shared: SharedLedger) -> None:
    people = [{"device": f"device-{n:012d}"} for n in range(1003)]
    liar = shared.group[2]
    liar.lie()
    with shared.connect(budget_seconds=20) as acme:
        tagged = buyers(acme.tag_many(people))
        assert [tagged[n] for n in (0, 999, 1002)] == [expected(shared, people[n]) for n in (0, 999, 1002)]
        assert [sorted(holder.asked) for holder in shared.group[:2]] == [[3, 1000], [3, 1000]]
        assert buyers(acme.tag_many(people[:5])) == tagged[:5]
        assert len(shared.group[0].asked) == 2, "remembered"


def test_a_wrong_clock_is_corrected_for_holders_too(shared: SharedLedger, caplog: pytest.LogCaptureFixture) -> None:
    """The small ledger itself checks no token, so it is the holders that notice."""
    ahead = shared.now + timedelta(hours=1)
    with shared.connect(now=lambda: ahead) as acme, caplog.at_level(logging.INFO, "refund_ledger"):
        assert acme.tag(**WHO) == expected(shared)
        assert len(events(caplog, "clock_corrected")) >= 2
        assert acme.tag(**OTHER) == expected(shared, OTHER)


def test_a_further_key_is_presented_to_all_holders(shared: SharedLedger) -> None:
    new = Ed25519PrivateKey.generate()
    refusing = shared.group[1]
    refusing.refusal = (403, "not_admitted", {})
    with shared.connect() as acme:
        outcomes = acme.endorse_key("acme-2", new.public_key())
        assert {name: error and error.code for name, error in outcomes.items()} == {
            "north": None,
            "south": "not_admitted",
            "west": None,
        }
    raw = new.public_key().public_bytes_raw()
    assert [holder.admitted.get("acme-2") == raw for holder in shared.group] == [True, False, True]
    with shared.connect(suite=shared.suite_file(kid="acme-2"), key=new) as later:
        refusing.recover()
        assert later.tag(**WHO) == expected(shared), "two of three know the new key"
    unknown = shared.connect("third", suite=shared.suite_file(kid="acme-3"), key=new)
    with unknown, pytest.raises(UnknownKey, match="acme-3"):
        unknown.tag(**WHO)


def test_calls_leave_no_thread_behind(shared: SharedLedger) -> None:
    before = {thread for thread in threading.enumerate() if thread.name.startswith("refund-ledger-")}
    shared.group[0].be_silent()
    with shared.connect(subject_budget_seconds=20) as acme:
        with ThreadPoolExecutor(8) as pool:
            people = [{"device": f"device-{n:012d}"} for n in range(8)]
            results = list(pool.map(lambda person: acme.tag(**person), people))
        assert results == [expected(shared, person) for person in people]
        running = [thread for thread in threading.enumerate() if thread not in before]
        ours = [thread for thread in running if thread.name.startswith("refund-ledger-")]
        assert all(thread.daemon for thread in ours), "a process that ends does not wait for a silent holder"
    shared.group[0].recover()
    for thread in ours:
        thread.join(PROMPT_SECONDS)
        assert not thread.is_alive()
    with pytest.raises(Unavailable):
        acme.tag(**OTHER)


_PROGRAM = """
import sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger.client import RefundLedger
folder, key = sys.argv[1:]
ledger = RefundLedger(
    folder + "/suite.json", Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)), state_dir=folder + "/other",
    order_key=bytes(32), cards=folder, subject_budget_seconds=60,
)
print(ledger.tag(device="device-0123456789abcdef").subjects[0].tag.hex())
"""


def test_a_program_ends_while_a_holder_is_silent(shared: SharedLedger, tmp_path: Path) -> None:
    """It does not close the client, and Python waits for no thread of it."""
    (tmp_path / "suite.json").write_text(json.dumps(shared.suite_file()))
    for holder in shared.group:
        card = make_card(shared.statements[1, 1], holder.index, holder.url, holder.signing_key)
        (tmp_path / f"{holder.id}.card.json").write_text(json.dumps(card))
    shared.group[0].delay_seconds = 60
    started = time.monotonic()
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path), PLATFORM_KEY.private_bytes_raw().hex()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    truth = expected(shared, {"device": "device-0123456789abcdef"})
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", truth.subjects[0].tag.hex())
    assert time.monotonic() - started < 40
