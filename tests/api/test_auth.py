"""Tokens: which are let in, which are not and why, and how fast a revocation works."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from api import auth
from api.auth import Authenticator
from ledger.errors import (
    DatabaseUnavailable,
    InvalidToken,
    PlatformSuspended,
    ScopeMissing,
    TokenExpired,
    Unauthenticated,
    UnknownKey,
)
from ledger.server.db.engine import open_engine
from ledger.server.keys.files import raw_public
from ledger.server.platforms.members import Members, add_key, revoke_key, set_status
from tests.api.conftest import READER, Api
from tests.processes import until
from tests.support import Platform, new_ledger

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SERVICE = "refund-ledger.local"


class Gate:
    """An Authenticator with a clock of its own and a platform with one key."""

    def __init__(self, engine: Engine, platform: Platform) -> None:
        self.engine, self.platform = engine, platform
        self.time = NOW
        self.monotonic = time.monotonic
        self.members = Members(engine, refresh_seconds=60, monotonic=lambda: self.monotonic())
        self.authenticator = Authenticator(self.members, SERVICE, lambda: self.time)

    def token(self, key: Any = None, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A good token of the platform at NOW, but for `changes`; a claim that is None is left out."""
        claims = {"iss": self.platform.name, "aud": SERVICE, "iat": NOW, "exp": NOW + timedelta(minutes=15)}
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        headers = {"kid": self.platform.kid} if headers is None else headers
        return jwt.encode(claims, key or self.platform.key, algorithm="EdDSA", headers=headers)

    def enter(self, token: str, *scopes: str) -> str:
        """The platform's name, if the token lets it in."""
        return self.authenticator.member(f"Bearer {token}", *(scopes or ("report",))).platform


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Platform]:
    """The database of a ledger with one member, which each test copies, and the member."""
    folder = tmp_path_factory.mktemp("ledger")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
    platform = Platform("acme", "acme-group", "acme-1", scopes=("lookup", "report")).enrol(settings)
    return folder / "ledger.db", platform


@pytest.fixture
def gate(enrolled: tuple[Path, Platform], tmp_path: Path) -> Iterator[Gate]:
    """See Gate."""
    database, platform = enrolled
    shutil.copyfile(database, tmp_path / "ledger.db")
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    first = Gate(engine, platform)
    yield first
    first.members.close()
    engine.dispose()


def test_a_good_token_lets_in(gate: Gate) -> None:
    assert gate.enter(gate.token()) == "acme"
    assert gate.authenticator.member(f"bearer {gate.token()}", "lookup").platform == "acme"
    assert gate.enter(gate.token(), "log", "lookup") == "acme", "one of several scopes is enough"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "token"])
def test_no_token(gate: Gate, header: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        gate.authenticator.member(header, "report")
    assert type(caught.value) is Unauthenticated


BAD: dict[str, Callable[[Gate], str]] = {
    "not a JWT": lambda gate: "abc",
    "two parts": lambda gate: "abc.def",
    "not ASCII": lambda gate: "abc\u00e9",
    "too long": lambda gate: gate.token(padding="x" * 5000),
    "no kid": lambda gate: gate.token(headers={}),
    "kid is no string": lambda gate: hand_made(gate, {"alg": "EdDSA", "kid": 7}),
    "another audience": lambda gate: gate.token(aud="other.local"),
    "several audiences": lambda gate: gate.token(aud=[SERVICE, "other.local"]),
    "another issuer": lambda gate: gate.token(iss="rival"),
    "no audience": lambda gate: gate.token(aud=None),
    "a token for a key holder of the same name": lambda gate: gate.token(jti="x" * 22, body="y" * 43),
    "no issuer": lambda gate: gate.token(iss=None),
    "no iat": lambda gate: gate.token(iat=None),
    "no exp": lambda gate: gate.token(exp=None),
    "lives too long": lambda gate: gate.token(exp=NOW + timedelta(seconds=901)),
    "ends before it begins": lambda gate: gate.token(exp=NOW),
    "from the future": lambda gate: gate.token(iat=NOW + timedelta(seconds=61), exp=NOW + timedelta(seconds=120)),
    "not before": lambda gate: gate.token(nbf=NOW + timedelta(seconds=61)),
    "iat is no number": lambda gate: gate.token(iat="soon"),
    "exp is a bool": lambda gate: gate.token(exp=True),
    "exp is endless": lambda gate: gate.token(exp=float("inf")),
    "scope is a list": lambda gate: gate.token(scope=["report"]),
    "signed by another key": lambda gate: gate.token(key=Ed25519PrivateKey.generate()),
    "no signature": lambda gate: jwt.encode({"iss": "acme"}, "", algorithm="none", headers={"kid": "acme-1"}),
    "the public key as an HMAC secret": lambda gate: hand_made(gate, {"alg": "HS256", "kid": "acme-1"}),
    "an unknown critical header": lambda gate: hand_made(
        gate, {"alg": "EdDSA", "kid": "acme-1", "crit": ["x"], "x": 1}
    ),
}


def hand_made(gate: Gate, header: dict[str, Any]) -> str:
    """A token with any header, as an attacker would make it: HMAC under the public key, or a good signature."""
    claims = {"iss": "acme", "aud": SERVICE, "iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 600}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    if header["alg"] == "HS256":
        signature = hmac.digest(raw_public(gate.platform.key), signed, hashlib.sha256)
    else:
        signature = gate.platform.key.sign(signed)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_hand_made_tokens_are_good_when_nothing_is_wrong_with_them(gate: Gate) -> None:
    assert gate.enter(hand_made(gate, {"alg": "EdDSA", "kid": "acme-1"})) == "acme"


@pytest.mark.parametrize("name", BAD)
def test_bad_tokens_are_refused(gate: Gate, name: str) -> None:
    token = BAD[name](gate)
    for _ in range(2):  # a refusal is not remembered as anything else
        with pytest.raises(InvalidToken) as caught:
            gate.enter(token)
        assert type(caught.value) is InvalidToken
        assert token[:20] not in str(caught.value)


def test_sixty_seconds_of_leeway_on_either_side(gate: Gate) -> None:
    token = gate.token()
    gate.time = NOW - timedelta(seconds=60)
    assert gate.enter(token) == "acme"
    gate.time = NOW + timedelta(seconds=900 + 59)
    assert gate.enter(token) == "acme"
    gate.time = NOW + timedelta(seconds=900 + 60)
    with pytest.raises(TokenExpired):
        gate.enter(token)
    fresh = Authenticator(gate.members, SERVICE, lambda: gate.time)
    with pytest.raises(TokenExpired):
        fresh.member(f"Bearer {token}", "report")


def test_scopes_are_what_is_granted_and_not_given_up(gate: Gate) -> None:
    with pytest.raises(ScopeMissing):
        gate.enter(gate.token(), "log")
    narrowed = gate.token(scope="lookup log")
    assert gate.enter(narrowed, "lookup") == "acme"
    for scope in ("report", "log"):
        with pytest.raises(ScopeMissing) as caught:
            gate.enter(narrowed, scope)
        assert caught.value.details == {"scope": scope}
    with pytest.raises(ScopeMissing):
        gate.enter(gate.token(scope=""), "lookup")


def test_unknown_and_revoked_keys_are_refused_also_with_remembered_tokens(gate: Gate) -> None:
    with pytest.raises(UnknownKey):
        gate.enter(gate.token(headers={"kid": "acme-9"}))
    token = gate.token()
    assert gate.enter(token) == "acme"
    revoke_key(gate.engine, "acme-1", NOW)
    gate.members.refresh()
    for refused in (token, gate.token(scope="report")):
        with pytest.raises(UnknownKey):
            gate.enter(refused)
    second = Ed25519PrivateKey.generate()
    add_key(gate.engine, platform="acme", kid="acme-2", public_key=raw_public(second), now=NOW)
    gate.members.refresh()
    assert gate.enter(gate.token(key=second, headers={"kid": "acme-2"})) == "acme"


def test_a_suspended_platform_is_refused_also_with_a_remembered_token(gate: Gate) -> None:
    token = gate.token()
    assert gate.enter(token) == "acme"
    set_status(gate.engine, platform="acme", status="suspended", now=NOW)
    gate.members.refresh()
    with pytest.raises(PlatformSuspended):
        gate.enter(token)
    set_status(gate.engine, platform="acme", status="active", now=NOW)
    gate.members.refresh()
    assert gate.enter(token) == "acme"


def test_nobody_is_let_in_on_an_old_list_of_members(gate: Gate) -> None:
    token = gate.token()
    assert gate.enter(token) == "acme"
    gate.monotonic = lambda: time.monotonic() + 6
    with pytest.raises(DatabaseUnavailable):
        gate.enter(token)


def test_few_tokens_are_remembered(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_REMEMBERED", 3)
    tokens = [gate.token(jti=str(number)) for number in range(5)]
    for token in tokens:
        gate.enter(token)
    assert len(gate.authenticator._remembered) == 3
    checked: list[str] = []
    verify = gate.authenticator._verify

    def counted(token: str, now: float) -> auth.Verified:
        checked.append(token)
        return verify(token, now)

    monkeypatch.setattr(gate.authenticator, "_verify", counted)
    for token in (tokens[4], tokens[2], tokens[0]):
        assert gate.enter(token) == "acme"
    assert checked == [tokens[0]], "the most recently used ones are kept"


def test_a_remembered_token_is_cheap(gate: Gate) -> None:
    token = f"Bearer {gate.token()}"
    gate.authenticator.member(token, "report")
    best = min(_seconds(gate, token) for _ in range(5))
    assert best < 100e-6, "a signature check alone takes longer than this"


def _seconds(gate: Gate, header: str) -> float:
    started = time.perf_counter()
    for _ in range(200):
        gate.authenticator.member(header, "report")
    return (time.perf_counter() - started) / 200


def test_over_http_a_revoked_key_is_refused_within_five_seconds(api: Api) -> None:
    platform = Platform("gone", "gone-group", "gone-1").enrol(api.settings)
    headers = {"Authorization": f"Bearer {api.token(platform)}"}
    until(lambda: api.client.get("/v1/reports", headers=headers).status_code == 200, "a new platform is not let in")
    engine = open_engine(api.settings.database_url)
    revoke_key(engine, "gone-1", datetime.now(UTC))
    engine.dispose()
    revoked = time.monotonic()
    while True:
        begun = time.monotonic()
        answer = api.client.get("/v1/reports", headers=headers)
        if answer.status_code != 200:
            break
        assert begun < revoked + 5
    assert answer.status_code == 401
    assert answer.json()["code"] == "unknown_key"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_over_http_401_and_403_carry_a_challenge(api: Api) -> None:
    nobody = api.request("GET", "/v1/reports")
    assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthenticated")
    assert nobody.headers["www-authenticate"] == "Bearer"
    reader = api.request("GET", "/v1/reports", READER)
    assert (reader.status_code, reader.json()["code"]) == (403, "scope_missing")
    assert reader.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="report"'
    assert "scope" not in reader.json(), "what stands in a header is not repeated"


def test_over_http_a_token_is_asked_for_before_anything_else(api: Api) -> None:
    for method, path in (
        ("GET", "/v1/reports?limit=0"),
        ("GET", "/v1/reports/nonsense"),
        ("POST", "/v1/reports"),
        ("POST", "/v1/lookups"),
        ("POST", "/v1/oprf/evaluate"),
    ):
        answer = api.request(method, path, content=b"{")
        assert answer.status_code == 401, path
