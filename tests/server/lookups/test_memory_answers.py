"""What an answer from memory is made of: the desk's bytes, its own id, a count; and epochs that change meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select

from ledger.errors import StaleEpoch
from ledger.protocol.encoding import b64url
from ledger.protocol.public_ids import decode_id
from ledger.rules.guidance import Claim
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.timeline import PolicyTimeline
from ledger.rules.standing import CLEAN
from ledger.server.db import id_blocks
from ledger.server.db.engine import reading, writing
from ledger.server.db.id_blocks import IdBlock
from ledger.server.db.tables.lookups import LookupCount, LookupLog
from ledger.server.keys.epochs import change_epoch, insert_epoch, read_epochs
from ledger.server.lookups import service as module
from ledger.server.lookups.answers import ANSWER_BYTES, LookupAnswers, QuestionEcho
from ledger.server.settings import Settings
from tests.server.conftest import LedgerFixture
from tests.support import lookup_request, opened, submit_lookup

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

ANSWERS = LookupAnswers(PolicyTimeline.of(shipped_policy()[1]), "ledger-1.example", "live")

questions = st.builds(
    QuestionEcho,
    st.from_regex(r"[a-z0-9][a-z0-9-]{1,31}", fullmatch=True),
    st.integers(1, 2**31 - 1),
    st.none() | st.binary(min_size=16, max_size=16).map(b64url),
    st.binary(min_size=32, max_size=32).map(b64url),
)
moments = st.floats(1_577_836_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(
    st.lists(
        st.tuples(st.from_regex(r"lk_[A-Za-z0-9]{8,29}", fullmatch=True), st.integers(0, 2**53), moments, questions),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, *Claim]),
)
def test_a_clean_answer_is_the_desks_byte_for_byte(
    asked: list[tuple[str, int, datetime, QuestionEcho]], claim: str | None
) -> None:
    for public_id, size, now, question in asked:
        answer, day = ANSWERS.clean(public_id, size, now, question)
        assert answer == ANSWERS.answer(public_id, CLEAN, claim, size, now, question)
        assert len(answer) == ANSWER_BYTES
        assert day == (now - datetime(1970, 1, 1, tzinfo=UTC)).days


def from_memory(ledger: LedgerFixture, number: int = 1, **changes: Any) -> dict[str, Any]:
    """A lookup of a stranger that memory answers."""
    request = lookup_request(ledger.rt, ledger.person(number), **changes)
    end = time.monotonic() + 20
    while True:
        found = ledger.rt.lookups.from_memory(ledger.bolt.member(), request)
        if found is not None:
            return dict(json.loads(found))
        assert time.monotonic() < end
        submit_lookup(ledger.rt, ledger.bolt.member(), lookup_request(ledger.rt, ledger.person())).result(
            10
        )  # reserves ids
        time.sleep(0.01)


def test_memory_and_desk_say_the_same_of_a_stranger(ledger: LedgerFixture) -> None:
    mine = from_memory(ledger)
    again = lookup_request(ledger.rt, ledger.person(1), nonce=mine["nonce"], digest=mine["question"])
    theirs = json.loads(submit_lookup(ledger.rt, ledger.bolt.member(), again).result(60))
    assert mine["id"] != theirs["id"]
    assert decode_id("lk", mine["id"], ledger.rt.settings.service)
    assert {**mine, "id": "", "padding": ""} == {**theirs, "id": "", "padding": ""}
    assert list(mine) == list(theirs)


def test_answers_from_memory_are_counted_and_never_logged(ledger: LedgerFixture) -> None:
    for _ in range(3):
        from_memory(ledger)
    end = time.monotonic() + 20
    while True:
        with reading(ledger.rt.engine) as connection:
            counted = list(connection.execute(select(LookupCount.platform, LookupCount.clean)))
            assert not list(connection.execute(select(LookupLog.id)))
        if counted and counted[0][1] >= 3:
            assert counted[0][0] == "bolt"
            return
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_closed_desk_answers_nothing(ledger: LedgerFixture) -> None:
    from_memory(ledger)
    ledger.rt.lookups.close()
    assert (
        ledger.rt.lookups.clean(ledger.bolt.member(), lookup_request(ledger.rt, ledger.person(1)), 1, ledger.clock())
        is None
    )


def test_ids_differ_in_all_threads_and_blocks(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_blocks, "BLOCK", 50)
    blocks = [IdBlock(ledger.rt.engine, "lk", "s") for _ in range(2)]
    assert blocks[0].take() is None, "nothing is reserved before somebody asks"
    assert blocks[0].low.is_set()
    taken: list[tuple[int, str]] = []

    def take(block: IdBlock) -> None:
        taken.extend([block.next() for _ in range(120)])

    threads = [threading.Thread(target=take, args=(block,)) for block in blocks * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({number for number, _ in taken}) == len({text for _, text in taken}) == 480
    assert all(decode_id("lk", text, "s") == number for number, text in taken)


def test_ids_are_refilled_behind_the_scenes(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_blocks, "BLOCK", 5)
    ids = {from_memory(ledger)["id"] for _ in range(40)}
    assert len(ids) == 40


# --- key epochs ---------------------------------------------------------------------------------------------------


def change_epochs(ledger: LedgerFixture) -> None:
    """Epoch 1 is retired and 2 is current, as another process would have it."""
    with writing(ledger.rt.engine) as connection:
        [first] = read_epochs(connection)
        change_epoch(connection, 1, state="retired")
        values = {name: getattr(first, name) for name in first.__dataclass_fields__}
        insert_epoch(connection, type(first)(**{**values, "epoch": 2, "state": "current"}))


def test_the_desk_looks_again_whether_the_epoch_still_answers(ledger: LedgerFixture) -> None:
    """A request that was let in before the epoch was retired: its listings may be gone, so it is not called clear."""
    ledger.report(ledger.acme, ledger.person())
    old, new = (lookup_request(ledger.rt, ledger.person(), epoch=epoch) for epoch in (1, 2))
    change_epochs(ledger)
    answers = [
        ledger.rt.lookups.batcher.submit(module.QueuedLookup(ledger.bolt.member(), one)) for one in (old, new, old)
    ]
    assert isinstance(answers[0].exception(60), StaleEpoch)
    assert answers[0].exception(60).details["epoch"] == 2  # type: ignore[union-attr]
    assert answers[1].exception(60) is None
    assert isinstance(answers[2].exception(60), StaleEpoch)


@pytest.fixture
def slow_settings(settings: Settings) -> Settings:
    """A process that looks at the epochs by itself every five seconds."""
    return settings.model_copy(update={"auth_refresh_seconds": 5.0})


@pytest.mark.parametrize("way", ["desk", "lookup"])
def test_an_unknown_epoch_is_looked_up_before_it_is_refused(
    ledger: LedgerFixture, slow_settings: Settings, way: str
) -> None:
    with opened(slow_settings, ledger.clock) as rt:
        request = lookup_request(rt, ledger.person(), epoch=2)

        def ask() -> bytes:
            if way == "desk":
                return submit_lookup(rt, ledger.bolt.member(), request).result(60)
            return asyncio.run(rt.lookups.lookup(ledger.bolt.member(), request))

        with pytest.raises(StaleEpoch):
            ask()
        change_epochs(ledger)
        time.sleep(module.EPOCHS_REREAD_MS / 1000)
        assert json.loads(ask())["tier"] == "clear"


def test_unknown_epochs_do_not_become_a_flood_of_queries(
    ledger: LedgerFixture, slow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EPOCHS_REREAD_MS", 3_600_000)
    with opened(slow_settings, ledger.clock) as rt:
        asked: list[str] = []

        @event.listens_for(rt.engine, "before_cursor_execute")
        def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                asked.append(statement)

        for _ in range(5):
            with pytest.raises(StaleEpoch):
                submit_lookup(rt, ledger.bolt.member(), lookup_request(rt, ledger.person(), epoch=7))
        assert len([one for one in asked if "key_epoch" in one]) == 1
