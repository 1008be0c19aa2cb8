"""Logins during a flood of attempts, over real HTTP: attempts with unknown names delay no other login and compute no
hash, and guesses at a known login name do not lock out a browser in which its owner has logged in before."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from api.console import login_queue
from ledger.errors import LoginRefused
from ledger.server.staff import accounts as service
from ledger.server.staff import devices, passwords, sessions
from tests.api.conftest import Api
from tests.api.console_fixture import ConsoleFixture, post, said
from tests.staffing import SEALING_KEY, TIMES, account, cheap, enrol, forget_codes

REFUSED = "Name, password or code is wrong, or the account is locked."


@pytest.fixture(scope="module")
def shared_console(api: Api) -> ConsoleFixture:
    return ConsoleFixture(api)


@pytest.fixture
def console(shared_console: ConsoleFixture) -> Iterator[ConsoleFixture]:
    yield shared_console
    shared_console.close_clients()


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", cheap)
    monkeypatch.setattr(login_queue, "ANSWER_SECONDS", 0.02)


def lock(console: ConsoleFixture, name: str) -> None:
    """Guess until the account is locked, for which its name is enough."""
    for _ in range(5):
        answer = post(console.client(), "/console/login", {**console.credentials(name), "password": "a guess of mine"})
        assert answer.status_code == 401
    assert account(console.api.rt.engine, console.staff[name]).locked_until is not None


def again(console: ConsoleFixture, client: httpx2.Client, name: str, **changes: str) -> httpx2.Response:
    """Sign in with a browser that is there already, after its session is over."""
    post(client, "/console/logout")
    return post(client, "/console/login", {**console.credentials(name), **changes})


def test_a_flood_of_made_up_names_keeps_no_colleague_out(
    console: ConsoleFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_queue, "ANSWER_SECONDS", 0.3)
    compared: list[str | None] = []
    matches = passwords.matches

    def counted(stored: str | None, password: str) -> bool:
        compared.append(stored)
        return matches(stored, password)

    monkeypatch.setattr(passwords, "matches", counted)
    with ThreadPoolExecutor(24) as pool:
        flood = [
            pool.submit(post, console.client(), "/console/login", {"name": f"made-up-{number}", "password": "x" * 12})
            for number in range(48)
        ]
        assert [console.signed_in("reviewer").get("/console/queue").status_code for _ in range(3)] == [200] * 3
        answers = [item.result() for item in flood]
    assert {answer.status_code for answer in answers} == {401}
    assert len(compared) == 3, "no hash is computed for a name that is not there"


def test_a_known_browser_is_not_locked_by_others(console: ConsoleFixture) -> None:
    console.add("ann", "reviewer")
    own, other = console.signed_in("ann"), console.signed_in("reviewer")
    lock(console, "ann")
    assert post(console.client(), "/console/login", console.credentials("ann")).status_code == 401, (
        "a new browser has to wait"
    )
    page = console.signed_in("admin").get("/console/staff").text
    assert "for browsers without an earlier login of this account" in page, "an admin reads for whom the lock is"
    assert again(console, other, "ann").status_code == 401, "the cookie of a colleague is worth nothing"
    assert again(console, own, "ann").status_code == 303
    assert account(console.api.rt.engine, console.staff["ann"]).locked_until is not None
    assert post(console.client(), "/console/login", console.credentials("ann")).status_code == 401, (
        "the lock is not lifted by it"
    )
    assert again(console, own, "ann").status_code == 303, "as often as one likes"


def test_a_known_browser_has_five_guesses_of_its_own(console: ConsoleFixture) -> None:
    console.add("bo", "reviewer")
    own = console.signed_in("bo")
    lock(console, "bo")
    for _ in range(devices.TRIES):
        assert again(console, own, "bo", password="wrong again").status_code == 401
    assert again(console, own, "bo").status_code == 401, "its cookie is worth nothing any more"
    assert account(console.api.rt.engine, console.staff["bo"]).failed_count == 5


def test_guesses_of_a_known_browser_do_not_lock_the_account(console: ConsoleFixture) -> None:
    console.add("cy", "reviewer")
    own = console.signed_in("cy")
    for _ in range(devices.TRIES):
        assert again(console, own, "cy", code="000000").status_code == 401
    assert account(console.api.rt.engine, console.staff["cy"]).failed_count == 0
    assert post(console.client(), "/console/login", console.credentials("cy")).status_code == 303


def test_a_reset_ends_device_cookies_and_an_enrolment_gives_one(console: ConsoleFixture) -> None:
    person = console.add("di", "reviewer")
    rt = console.api.rt
    own = console.signed_in("di")
    [name] = [name for name in own.cookies if name.startswith("console_device_")]
    cookie = own.cookies[name]
    key = rt.keys.sealing_key
    assert devices.attempt(rt.engine, key, "di", cookie, rt.now()).device is not None
    late = rt.now() + devices.LIFETIME + timedelta(seconds=1)
    assert devices.attempt(rt.engine, key, "di", cookie, late).device is None
    for forged in (cookie[:-1] + ("A" if cookie[-1] != "A" else "E"), "1" + cookie, cookie + "\x00", "", "x" * 4000):
        assert devices.attempt(rt.engine, key, "di", forged, rt.now()).device is None
    assert devices.attempt(rt.engine, key, "reviewer", cookie, rt.now()).device is None
    service.reset_staff(rt.engine, key, person.name, service="x", now=rt.now(), random_bytes=lambda size: bytes(size))
    assert devices.attempt(rt.engine, key, "di", cookie, rt.now()).device is None


def test_a_device_cookie_signs_nobody_in(console: ConsoleFixture) -> None:
    own = console.signed_in("auditor")
    post(own, "/console/logout")
    assert any(name.startswith("console_device_") for name in own.cookies)
    assert own.get("/console/audit").status_code == 303


@pytest.mark.parametrize("state", ["locked", "disabled", "made up", "wrong"])
def test_no_answer_tells_whether_there_is_an_account(
    console: ConsoleFixture, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, page and headers are the same, and the time is a multiple of one interval."""
    name = f"oracle-{state.replace(' ', '-')}"
    if state != "made up":
        console.add(name, "reviewer")
    if state == "locked":
        lock(console, name)
    if state == "disabled":
        service.disable_staff(console.api.rt.engine, name, console.api.rt.now())
    monkeypatch.setattr(login_queue, "ANSWER_SECONDS", 0.5)
    client = console.client()
    started = time.monotonic()
    answer = post(client, "/console/login", {"name": name, "password": "x" * 12, "code": "123456"})
    taken = time.monotonic() - started
    assert answer.status_code == 401
    assert REFUSED in said(answer)
    assert taken >= 0.5
    page = re.sub(r'value="[^"]*"', "", answer.text)
    kept = {
        name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id", "content-length")
    }
    assert _first.setdefault(console.api.url, (page, kept)) == (page, kept)


_first: dict[str, tuple[str, dict[str, str]]] = {}


def test_guesses_with_a_device_are_bounded_and_counted_in_the_database(console: ConsoleFixture) -> None:
    """The same without HTTP: another process knows how often a device was refused."""
    rt = console.api.rt
    person = enrol(rt.engine, "ed", sealing_key=rt.keys.sealing_key, service_id=rt.settings.service)
    key, now = rt.keys.sealing_key, rt.now()
    cookie = devices.new_cookie(rt.engine, key, "ed", now, lambda size: bytes(size))
    judged = 0
    for _ in range(12):
        result = devices.attempt(rt.engine, key, "ed", cookie, now)
        if result.device is None:
            break
        judged += 1
        with pytest.raises(LoginRefused):
            sessions.login(
                rt.engine, key, name="ed", password="wrong", code="000000", times=TIMES, now=now,
                random_bytes=lambda size: bytes(size), device=result.device,
            )  # fmt: skip
    assert judged == devices.TRIES
    forget_codes(rt.engine, person)
    assert devices.new_cookie(rt.engine, SEALING_KEY, "nobody-at-all", now, lambda size: bytes(size)) is None


def test_a_burst_with_one_device_cookie_is_judged_no_more_often_than_one_by_one(
    console: ConsoleFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All attempts are let in before the first is refused, and the refusals are written down late."""
    rt = console.api.rt
    person = enrol(rt.engine, "flo", sealing_key=rt.keys.sealing_key, service_id=rt.settings.service)
    key, now = rt.keys.sealing_key, rt.now()
    cookie = devices.new_cookie(rt.engine, key, "flo", now, lambda size: b"b" * size)
    device = devices.attempt(rt.engine, key, "flo", cookie, now).device
    assert device is not None
    judged: list[bool] = []
    charge, refused = sessions._charge, sessions._refused

    def charged(*arguments: Any) -> Any:
        result = charge(*arguments)
        judged.append(result[1])
        return result

    def late(*arguments: Any) -> None:
        time.sleep(0.05)
        refused(*arguments)

    monkeypatch.setattr(sessions, "_charge", charged)
    monkeypatch.setattr(sessions, "_refused", late)
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 30)

    def guess(_: int) -> None:
        with pytest.raises(LoginRefused):
            sessions.login(
                rt.engine, key, name="flo", password="wrong", code="000000", times=TIMES, now=now,
                random_bytes=lambda size: bytes(size), device=device,
            )  # fmt: skip

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(guess, range(24)))
    assert len(judged) == 24
    assert 1 <= sum(judged) <= devices.TRIES
    assert sessions._attempts._open == {}, "every attempt was counted out"
    assert account(rt.engine, person).failed_count == 0, "the account's own count is another"
