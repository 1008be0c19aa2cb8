"""A wrong clock of the platform's machine: corrected for tokens from the answer's date, or told in minutes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.client import RefundLedger
from ledger.client.identity.tokens import (
    BACKDATE_SECONDS,
    MAX_CORRECTION_SECONDS,
    TOKEN_SECONDS,
    TokenSource,
    skew_in_words,
)
from ledger.errors import InvalidToken, LedgerError, TokenExpired, UnknownKey
from tests.client.small_ledger import Answer, SmallLedger, small_ledger
from tests.faulty import PROMPT_SECONDS
from tests.kit import Connect, Running, person
from tests.support import CONSENT

WHO = {"phone": "+86 138 0013 8000"}
LEEWAY = 60
"""How far the service lets times differ (docs/api.md)."""


@pytest.mark.parametrize("minutes", [-1440 + 5, -480, -20, -11, -2, 1, 2, 12, 480, 1440 - 5])
def test_a_wrong_clock_is_corrected_within_the_same_call(connect: Connect, minutes: int) -> None:
    client = connect(now=lambda: datetime.now(UTC) + timedelta(minutes=minutes), lookup_budget_seconds=PROMPT_SECONDS)
    assert client.lookup(person(), order="A-1", consent_ref=CONSENT).tier == "clear"
    assert client.tag(**person()).epoch == 1


@pytest.mark.parametrize(("days", "words"), [(-3, "4320 minutes behind"), (3, "4320 minutes ahead of")])
def test_a_clock_that_is_days_off_is_told_in_minutes(connect: Connect, days: int, words: str) -> None:
    client = connect(now=lambda: datetime.now(UTC) + timedelta(days=days), lookup_budget_seconds=PROMPT_SECONDS)
    with pytest.raises((InvalidToken, TokenExpired)) as caught:
        client.lookup(person(), order="A-1", consent_ref=CONSENT)
    assert f"This machine's clock is {words} the ledger's. Set it right." in str(caught.value)
    with pytest.raises((InvalidToken, TokenExpired), match=words):
        client.connect()


def test_a_clock_that_was_set_right_meanwhile_is_followed(connect: Connect) -> None:
    off = [timedelta(minutes=30)]
    client = connect(now=lambda: datetime.now(UTC) + off[0], lookup_budget_seconds=PROMPT_SECONDS)
    assert client.lookup(person(), order="A-1", consent_ref=CONSENT).tier == "clear"
    off[0] = timedelta(0)
    assert client.lookup(person(), order="A-1", consent_ref=CONSENT).tier == "clear"


def test_connect_proves_the_key(running: Running, connect: Connect) -> None:
    """A key that the ledger does not know yet is waited for; it is named when the time is over."""
    unknown = connect("acme", subject_budget_seconds=PROMPT_SECONDS)
    unknown._session.tokens._kid = "acme-of-tomorrow"
    unknown._session.transport._sleep = lambda _: None
    with pytest.raises(UnknownKey) as caught:
        unknown.connect()
    assert "acme-of-tomorrow" in str(caught.value)
    assert "within 5 seconds" in str(caught.value)
    assert caught.value.details["kid"] == "acme-of-tomorrow"
    with pytest.raises(UnknownKey, match="acme-of-tomorrow"):
        unknown.tag(**person())


# --- with every answer in reach --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLedger]:
    with small_ledger(tmp_path_factory.mktemp("clock")) as ledger:
        yield ledger


def refusing(ledger: SmallLedger, code: str, times: int, **headers: str) -> None:
    """Refuse the next lookups with `code`, and then answer them."""
    left = [times]

    def answer(good: Answer) -> Answer:
        left[0] -= 1
        return good if left[0] < 0 else (401, headers, f'{{"code": "{code}", "detail": "No."}}'.encode())

    ledger.replace = {"/v1/lookups": answer}


def connected(ledger: SmallLedger) -> RefundLedger:
    return ledger.connect(lookup_budget_seconds=PROMPT_SECONDS)


def test_a_new_key_is_waited_for(served: SmallLedger) -> None:
    left = [2]

    def answer(good: Answer) -> Answer:
        left[0] -= 1
        return good if left[0] < 0 else (401, {}, b'{"code": "unknown_key", "detail": "No."}')

    served.replace = {"/v1/reports?limit=1": answer}
    with served.connect() as acme:
        slept: list[float] = []
        acme._session.transport._sleep = slept.append
        acme.connect()
    assert slept == [0.5, 1.0]


def test_only_once_and_only_for_a_clock(served: SmallLedger) -> None:
    date = format_datetime(served.now + timedelta(hours=2), usegmt=True)
    for code, times, headers, asked in (
        ("token_expired", 1, {"Date": date}, 2),
        ("invalid_token", 1, {"Date": date}, 2),
        ("token_expired", 9, {"Date": date}, 2),
        ("unknown_key", 9, {"Date": date}, 1),
        ("token_expired", 9, {"Date": format_datetime(served.now, usegmt=True)}, 1),
        ("token_expired", 9, {"Date": format_datetime(served.now + timedelta(days=2), usegmt=True)}, 1),
        ("token_expired", 9, {"Date": "yesterday"}, 1),
    ):
        with connected(served) as acme:
            refusing(served, code, times, **headers)
            served.asked()
            if times == 1:
                assert acme.lookup(served.buyer(WHO), order="A-1").tier == "clear"
            else:
                with pytest.raises(LedgerError):
                    acme.lookup(served.buyer(WHO), order="A-1")
            assert served.asked().count("/v1/lookups") == asked, (code, headers)


def test_an_answer_that_is_not_the_ledgers_changes_no_clock(served: SmallLedger) -> None:
    """A proxy's sign-on page is no word about tokens, whatever date it has."""
    date = format_datetime(served.now + timedelta(hours=2), usegmt=True)
    served.replace = {"/v1/lookups": lambda _: (401, {"Date": date, "Content-Type": "text/html"}, b"<html>")}
    with connected(served) as acme:
        before = acme._session.tokens.token()
        assert acme.lookup(served.buyer(WHO), order="A-1").unavailable_because == "proxy_answer"
        assert acme._session.tokens.token() == before


START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def source(now: list[datetime], correctable: bool = True) -> TokenSource:
    return TokenSource(
        _KEY, kid="acme-1", platform="acme", service="l.test", now=lambda: now[0], correctable=correctable
    )


_KEY = Ed25519PrivateKey.generate()


def times(token: str) -> tuple[int, int]:
    claims = jwt.decode(token, options={"verify_signature": False})
    return claims["iat"], claims["exp"]


@given(st.integers(-2 * MAX_CORRECTION_SECONDS, 2 * MAX_CORRECTION_SECONDS))
def test_a_token_is_good_by_the_ledgers_clock_or_the_error_tells(skew: int) -> None:
    """`skew`: the ledger's clock minus this machine's. The rule of the service is applied to the token's times."""
    tokens, ledgers = source([START]), (START + timedelta(seconds=skew)).timestamp()

    def is_let_in(token: str) -> bool:
        issued_at, expires_at = times(token)
        assert expires_at - issued_at == TOKEN_SECONDS
        return issued_at <= ledgers + LEEWAY and ledgers < expires_at + LEEWAY

    token = tokens.token()
    if -BACKDATE_SECONDS - LEEWAY <= skew <= TOKEN_SECONDS - BACKDATE_SECONDS:
        assert is_let_in(token), "small differences pass at once"
    if is_let_in(token):
        return
    error = tokens.refused(TokenExpired("No."), token, START + timedelta(seconds=skew), again=False)
    if abs(skew) <= MAX_CORRECTION_SECONDS:
        assert error is None
        assert is_let_in(tokens.token())
    else:
        assert error is not None
        assert skew_in_words(skew) in str(error)
        assert tokens.token() == token, "nothing was changed"


def test_without_tls_the_clock_is_told_and_not_corrected() -> None:
    """An attacker on the network could have a token dated ahead, and use it later."""
    tokens = source([START], correctable=False)
    token = tokens.token()
    error = tokens.refused(InvalidToken("Not yet."), token, START + timedelta(minutes=12), again=False)
    assert error is not None
    assert "This machine's clock is 12 minutes behind the ledger's." in str(error)
    assert error.details["skew_seconds"] == 720
    assert tokens.token() == token
