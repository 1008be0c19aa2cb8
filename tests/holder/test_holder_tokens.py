"""Tokens for a holder: every claim, the body, one use, and what the holder and the log took away."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from ledger.errors import TokenUsed
from ledger.holder.budgets import GroupLimits, spend
from ledger.holder.tokens import LEEWAY_SECONDS
from tests.holder.kit import Caller, HolderService, evaluation_body, points

BODY = evaluation_body(points(1))


def refusal(service: HolderService, token: str, body: bytes = BODY) -> tuple[int, str]:
    """Status and code of a refused request."""
    answer = service.post("/v1/oprf/evaluate", token, body)
    return answer.status, answer.code


WRONG: list[dict[str, Any]] = [
    {"iss": None}, {"aud": None}, {"iat": None}, {"exp": None}, {"jti": None}, {"body": None},
    {"aud": "south"}, {"aud": ["north"]}, {"aud": ["north", "south"]},
    {"jti": "short"}, {"jti": "x" * 65}, {"jti": "with blanks in it  "}, {"jti": 1234567890123456},
    {"iat": "now"}, {"exp": True}, {"iat": -1}, {"exp": 2**60},
    {"log": "other.example/log+00000000+AAAA"}, {"log": 5},
    {"body": "x" * 43}, {"body": 5}, {"body": "\u00e9" * 43}, {"body": "\ud800"},
]  # fmt: skip


def test_a_claim_that_is_missing_or_wrong_is_refused(service: HolderService, acme: Caller) -> None:
    """Each by itself; a token with none of these changes is taken before and after them all."""
    assert service.post("/v1/oprf/evaluate", acme.token("north", BODY, service.clock()), BODY).status == 200
    for changes in WRONG:
        token = acme.token("north", BODY, service.clock(), **changes)
        assert refusal(service, token) == (401, "invalid_token"), changes
    assert service.post("/v1/oprf/evaluate", acme.token("north", BODY, service.clock()), BODY).status == 200


def test_a_token_lives_a_minute_and_its_clock_may_be_ahead_by_one(service: HolderService, acme: Caller) -> None:
    now = int(service.clock().timestamp())

    def answered(iat: int, exp: int) -> tuple[int, str]:
        answer = service.post(
            "/v1/oprf/evaluate", acme.token("north", BODY, service.clock(), iat=now + iat, exp=now + exp), BODY
        )
        return answer.status, "" if answer.status == 200 else answer.code

    assert answered(0, 60) == answered(-59, 1) == answered(LEEWAY_SECONDS, LEEWAY_SECONDS + 60) == (200, "")
    assert answered(0, 61) == answered(0, 0) == answered(5, 4) == (401, "invalid_token")
    assert answered(LEEWAY_SECONDS + 1, LEEWAY_SECONDS + 2) == (401, "invalid_token")
    assert answered(-60, 0) == answered(-90, -31) == (401, "token_expired"), "there is no leeway at the end"


def test_a_token_is_bound_to_the_bytes_of_the_body(service: HolderService, acme: Caller) -> None:
    token = acme.token("north", BODY, service.clock())
    assert refusal(service, token, evaluation_body(points(2))) == (401, "invalid_token")
    assert refusal(service, token, BODY + b" ") == (401, "invalid_token")
    assert service.post("/v1/oprf/evaluate", token, BODY).status == 200


def test_a_token_is_taken_once_whatever_the_path(service: HolderService, acme: Caller) -> None:
    token = acme.token("north", BODY, service.clock(), jti="A" * 16)
    assert service.post("/v1/oprf/evaluate", token, BODY).status == 200
    assert refusal(service, token) == (401, "token_used")
    again = acme.token("north", BODY, service.clock(), jti="A" * 16, exp=int(service.clock().timestamp()) + 30)
    assert refusal(service, again) == (401, "token_used"), "the id counts, not the signature"
    other = Caller("acme2", "acme-group").admitted(service.rt.engine)
    service.rt.state.refresh()
    assert service.evaluate(other, points(1), jti="A" * 16).status == 200, "ids are a platform's own"


def test_a_used_token_is_remembered_until_it_cannot_be_used(service: HolderService, acme: Caller) -> None:
    token = acme.token("north", BODY, service.clock())
    assert service.post("/v1/oprf/evaluate", token, BODY).status == 200
    upkeep = next(worker for worker in service.rt.workers if worker.name == "upkeep")
    service.clock.turn(minutes=30)
    upkeep._step()
    service.clock.turn(minutes=-30)
    assert refusal(service, token) == (401, "token_used")
    service.clock.turn(minutes=62)
    upkeep._step()
    assert refusal(service, token) == (401, "token_expired")
    limits = GroupLimits(10, 10, 10)
    spend(service.rt.engine, "acme-group", limits, 0, (bytes(32), 1), service.clock())
    with pytest.raises(TokenUsed):
        spend(service.rt.engine, "acme-group", limits, 0, (bytes(32), 1), service.clock())
    upkeep._step()
    spend(service.rt.engine, "acme-group", limits, 0, (bytes(32), 1), service.clock())


def test_who_signed_decides(service: HolderService, acme: Caller) -> None:
    now = service.clock()
    assert refusal(service, "x") == refusal(service, "a.b.c") == (401, "invalid_token")
    assert service.request("POST", "/v1/oprf/evaluate", BODY).code == "unauthenticated"
    assert refusal(service, Caller("ghost", "ghost-group").token("north", BODY, now)) == (403, "not_admitted")
    assert refusal(service, acme.renewed("k1").token("north", BODY, now)) == (401, "invalid_token")
    assert refusal(service, acme.renewed("k2").token("north", BODY, now)) == (401, "unknown_key")
    assert refusal(service, acme.token("north", BODY, now, iss="other")) == (403, "not_admitted")
    claims = acme.claims("north", BODY, now)
    unsigned = jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"})  # type: ignore[arg-type]
    assert refusal(service, unsigned) == (401, "invalid_token")
    shared = jwt.encode(claims, acme.public_key, algorithm="HS256", headers={"kid": "k1"})
    assert refusal(service, shared) == (401, "invalid_token")
    other = Caller("bolt", "bolt-group").admitted(service.rt.engine)
    service.rt.state.refresh()
    assert refusal(service, other.token("north", BODY, now, iss="acme")) == (401, "invalid_token")


def test_refused_tokens_are_counted(service: HolderService, acme: Caller) -> None:
    token = acme.token("north", BODY, service.clock())
    service.post("/v1/oprf/evaluate", token, BODY)
    refusal(service, token)
    refusal(service, Caller("ghost", "g-group").token("north", BODY, service.clock()))
    text = service.request("GET", "/metrics", authorization="Bearer " + "m" * 16).body.decode()
    assert 'refund_ledger_holder_tokens_refused_total{code="token_used"} 1.0' in text
    assert 'refund_ledger_holder_tokens_refused_total{code="not_admitted"} 1.0' in text
