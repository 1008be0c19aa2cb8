"""Limits that count before they insert hold when many requests come at once, through two engines as two processes have
them. (Of blinded elements, searched pictures and logins: test_budgets, test_pictures, test_staff_sessions.)"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pytest
from sqlalchemy import Engine, func, select

from ledger.errors import AppealInvalid, AttachmentRefused, InvalidRequest, LedgerError, QuotaExceeded, WebhookInvalid
from ledger.protocol.tags import tag
from ledger.rules.pictures import is_degenerate
from ledger.server.appeals import consumer, participants
from ledger.server.appeals.sessions import open_link
from ledger.server.context import Context
from ledger.server.db.engine import open_engine, reading
from ledger.server.db.tables.appeals import SubjectSession
from ledger.server.pictures import benign as benign_pictures
from ledger.server.webhooks import endpoints
from tests.server.appeals.contested import contest
from tests.server.appeals.test_appeals import session_of
from tests.server.conftest import LedgerFixture

AT_ONCE = 8


@pytest.fixture
def engines(ledger: LedgerFixture) -> Iterator[tuple[Engine, Engine]]:
    """The runtime's engine, and an engine as another process has it."""
    other = open_engine(ledger.rt.settings.database_url, pool_size=10)
    yield ledger.rt.engine, other
    other.dispose()


def refused(
    engines: tuple[Engine, Engine], act: Callable[[Engine, int], object], count: int = AT_ONCE
) -> list[LedgerError]:
    """Return the refusals of `count` calls that begin at the same time, half of them on each engine."""
    start = threading.Barrier(count)

    def call(number: int) -> LedgerError | None:
        start.wait(10)
        try:
            act(engines[number % 2], number)
        except LedgerError as error:
            return error
        return None

    with ThreadPoolExecutor(count) as pool:
        return [error for error in pool.map(call, range(count)) if error is not None]


def test_the_daily_quota_of_links_to_records(ledger: LedgerFixture, engines: tuple[Engine, Engine]) -> None:
    settings = ledger.rt.settings.model_copy(update={"subject_sessions_daily_quota": 10})
    subjects = [(kind, tag(kind, element)) for kind, element in ledger.person()]
    ledger.report(ledger.acme, ledger.person())

    def link(engine: Engine, _number: int) -> None:
        open_link(
            engine,
            settings,
            ledger.bolt.member(),
            epoch=ledger.rt.keys.epoch or 0,
            subjects=subjects,
            locale="en",
            now=ledger.clock(),
            random_bytes=secrets.token_bytes,
            base_url="https://ledger.example",
        )

    errors = refused(engines, link, 60)
    assert {type(error) for error in errors} == {QuotaExceeded}
    with reading(ledger.rt.engine) as connection:
        sessions = connection.execute(select(func.count()).select_from(SubjectSession)).scalar_one()
    assert (sessions, len(errors)) == (10, 50)


def test_endpoints_of_webhooks(ledger: LedgerFixture, engines: tuple[Engine, Engine]) -> None:
    settings = ledger.rt.settings.model_copy(update={"webhook_allow_private": True})

    def create(engine: Engine, number: int) -> None:
        endpoints.create(
            replace(ledger.rt.webhooks, context=replace(ledger.rt.context, engine=engine), settings=settings),
            ledger.acme.member(),
            f"http://127.0.0.1:{9000 + number}/",
            ["key.rotated"],
        )

    errors = refused(engines, create)
    assert {type(error) for error in errors} == {WebhookInvalid}
    assert len(endpoints.list_all(ledger.rt.webhooks, ledger.acme.member())["data"]) == endpoints.MAX_ENDPOINTS


def test_benign_pictures(
    ledger: LedgerFixture, engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benign_pictures, "MAX_BENIGN", 5)
    hashes = (secrets.token_bytes(32) for _ in range(1000))
    pictures = list(islice((pdq for pdq in hashes if not is_degenerate(pdq)), AT_ONCE))
    errors = refused(
        engines,
        lambda engine, number: benign_pictures.add_benign(engine, pictures[number], "a courier's page", ledger.clock()),
    )
    assert {type(error) for error in errors} == {InvalidRequest}
    assert len(benign_pictures.list_benign(ledger.rt.engine)) == 5


def test_what_a_party_adds_to_a_case(
    ledger: LedgerFixture, engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participants, "MAX_ADDITIONS", 3)
    monkeypatch.setattr(consumer, "MAX_STATEMENTS", 2)
    report = ledger.report(ledger.acme, ledger.person())
    (case,) = contest(ledger, ledger.person(), report)
    session = session_of(ledger, ledger.person())

    def context(engine: Engine) -> Context:
        return replace(ledger.rt.context, engine=engine)

    errors = refused(
        engines, lambda engine, number: consumer.add_message(context(engine), session, case, f"More: {number}")
    )
    assert {type(error) for error in errors} == {AppealInvalid}
    assert len(errors) == AT_ONCE - 3
    errors = refused(
        engines,
        lambda engine, number: consumer.add_statement(context(engine), session, str(report["id"]), f"I {number}", "en"),
    )
    assert {type(error) for error in errors} == {AppealInvalid}
    assert len(errors) == AT_ONCE - 2


def test_files_of_a_case(ledger: LedgerFixture, engines: tuple[Engine, Engine]) -> None:
    settings = ledger.rt.settings.model_copy(update={"attachments_per_case": 4})
    (case,) = contest(ledger, ledger.person(), ledger.report(ledger.acme, ledger.person()))
    session = session_of(ledger, ledger.person())

    def attach(engine: Engine, number: int) -> None:
        context = replace(ledger.rt.context, engine=engine)
        text = f"Note {number}".encode()
        consumer.add_file(context, settings, session, case, text, f"{number}.txt", secrets.token_bytes)

    errors = refused(engines, attach)
    assert {type(error) for error in errors} == {AttachmentRefused}
    assert len(errors) == AT_ONCE - 4
