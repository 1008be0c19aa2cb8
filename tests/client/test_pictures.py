"""Searches for reused pictures against a real server, alone and with a lookup; and what an outage does to them."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.client import PictureHash, PictureReuse, RefundLedger, claim_upload, evidence
from ledger.client.transport.budgets import Deadline
from ledger.errors import InvalidRequest, NotFound, PictureUnfit, QuotaExceeded, UnexpectedAnswer
from ledger.server.db.engine import open_engine
from ledger.server.pictures.benign import add_benign, remove_benign
from tests.faulty import PROMPT_SECONDS, SLOW_SECONDS, answering
from tests.kit import Connect, Running, giving_up, person, report_arguments
from tests.support import CONSENT

NOBODY = PictureReuse(0, 0, 0, more=False, common=False)
COMMON = PictureReuse(0, 0, 0, more=False, common=True)


def some_picture() -> PictureHash:
    """A picture that was never used."""
    half = secrets.token_bytes(16)
    return PictureHash((half + bytes(255 - byte for byte in half)).hex(), 80)


def report(ledger: RefundLedger, who: dict[str, str], *pictures: PictureHash, **changes: Any) -> str:
    """A report with these pictures; its id."""
    uploaded = claim_upload(datetime(2024, 1, 1, tzinfo=UTC))
    items = [
        evidence(
            "original_file",
            sha256=secrets.token_bytes(32),
            pdq=picture.pdq,
            pdq_quality=picture.quality,
            origin=uploaded,
        )
        for picture in pictures
    ]
    items += [evidence(kind, sha256=secrets.token_bytes(32)) for kind in ("listing_match", "admission")]
    arguments = report_arguments(conduct="edited_image", evidence=items, **changes)
    sent = ledger.reports.create(ledger.tag(**who), **arguments).report
    assert sent is not None
    return sent.id


def test_a_used_picture_is_found_by_others(connect: Connect) -> None:
    acme, bazaar, asker = connect("acme"), connect("bazaar"), connect("asker")
    picture, other = some_picture(), some_picture()
    first = report(acme, person(), picture, other)
    assert asker.pictures.search([picture, some_picture(), other], order="1") == [
        PictureReuse(1, 1, 0, False, False),
        NOBODY,
        PictureReuse(1, 1, 0, False, False),
    ]
    assert acme.pictures.for_report(first) == [NOBODY, NOBODY]
    report(bazaar, person(), picture)
    assert acme.pictures.for_report(first) == [PictureReuse(1, 1, 0, False, False), NOBODY]
    assert acme.pictures.search([picture], order="1") == [PictureReuse(1, 1, 1, False, False)]
    with pytest.raises(NotFound):
        bazaar.pictures.for_report(first)
    acme.reports.withdraw(first, "wrong_facts")
    assert asker.pictures.search([picture], order="1") == [PictureReuse(1, 1, 0, False, False)]


def test_a_lookup_asks_about_pictures_too(connect: Connect) -> None:
    acme, asker = connect("acme"), connect("asker", lookup_budget_seconds=5)
    picture, who = some_picture(), person()
    report(acme, person(), picture)
    lookup = asker.lookup(asker.tag(**who), order="A-1", consent_ref=CONSENT, pictures=[some_picture(), picture])
    assert (lookup.tier, lookup.pictures) == ("clear", (NOBODY, PictureReuse(1, 1, 0, False, False)))
    assert lookup.pictures_unavailable_because is None
    without = asker.lookup(asker.tag(**who), order="A-1", consent_ref=CONSENT)
    assert (without.pictures, without.pictures_unavailable_because) == (None, None)


def test_the_operators_list_holds_at_once(running: Running, connect: Connect) -> None:
    asker, picture = connect("asker"), some_picture()
    report(connect("acme"), person(), picture)
    engine = open_engine(running.settings.database_url, pool_size=1)
    add_benign(engine, bytes.fromhex(picture.pdq), "a courier's page", datetime.now(UTC))
    assert asker.pictures.search([picture], order="1") == [COMMON]
    remove_benign(engine, bytes.fromhex(picture.pdq), "a mistake", datetime.now(UTC))
    assert asker.pictures.search([picture], order="1") == [PictureReuse(1, 1, 0, False, False)]
    engine.dispose()


def test_what_is_wrong_is_refused_before_anything_is_sent(connect: Connect) -> None:
    ledger = connect("acme", url="http://127.0.0.1:1")
    good = some_picture()
    for pictures, error in (
        ([PictureHash(good.pdq, 49)], PictureUnfit),
        ([PictureHash("0" * 64, 80)], PictureUnfit),
        ([PictureHash(good.pdq.upper() + "A", 80)], InvalidRequest),
        ([good] * 9, InvalidRequest),
    ):
        with pytest.raises(error):
            ledger.pictures.search(pictures, order="1")
        with pytest.raises(error):
            ledger.lookup(person(), order="1", consent_ref=CONSENT, pictures=pictures)
    with pytest.raises(InvalidRequest):
        ledger.pictures.search([], order="1")
    with pytest.raises(InvalidRequest):
        ledger.pictures.for_report("rp_../x")


@pytest.mark.parametrize(
    ("status", "problem", "because"),
    [
        (429, {"code": "quota_exceeded", "detail": "Used up."}, "quota_exceeded"),
        (503, {"code": "overloaded", "detail": "Busy."}, "overloaded"),
        (200, {"results": []}, "unexpected_answer"),
        (0, {}, "timeout"),
    ],
)
def test_pictures_cost_a_lookup_neither_its_answer_nor_time(
    running: Running, connect: Connect, status: int, problem: dict[str, object], because: str
) -> None:
    """The lookup's part is answered by the real server, the picture's part goes wrong."""
    real = connect("acme")
    buyer = real.tag(**person())
    suite = running.suite("acme").read_text()

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path == "/v1/pictures/search":
            time.sleep(0 if status else SLOW_SECONDS)
            return status or 200, {}, json.dumps(problem).encode()
        if path == "/v1/suite":
            return 200, {}, suite.encode()
        return 200, {}, real._session.transport.send(method, path, Deadline(5), content=body or None).body

    with answering(respond) as url:
        # Two servers are on the way. Only a search that is not answered lasts as long as the budget.
        budget = 20 if status else PROMPT_SECONDS / 2
        ledger = connect("acme", url=url, lookup_budget_seconds=budget)
        ledger.connect()
        started = time.perf_counter()
        lookup = ledger.lookup(buyer, order="A-1", consent_ref=CONSENT, pictures=[some_picture()])
        assert time.perf_counter() - started < PROMPT_SECONDS
        assert (lookup.tier, lookup.pictures, lookup.pictures_unavailable_because) == ("clear", None, because)
        if status == 200:
            with pytest.raises(UnexpectedAnswer):
                ledger.pictures.search([some_picture()], order="1")
        if status == 429:
            hurried = connect("acme", url=url)
            with giving_up(hurried), pytest.raises(QuotaExceeded):
                hurried.pictures.search([some_picture()], order="1")


def test_an_outage_says_so_of_both(connect: Connect) -> None:
    buyer = connect("acme").tag(**person())
    down = connect("acme", url="http://127.0.0.1:1")
    lookup = down.lookup(buyer, order="1", consent_ref=CONSENT, pictures=[some_picture()])
    assert (lookup.tier, lookup.pictures) == ("unavailable", None)
    assert lookup.pictures_unavailable_because == "connect"
