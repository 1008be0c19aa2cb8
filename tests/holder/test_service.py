"""The service of a holder: evaluations with its share, refusals, and what needs no token."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ledger.client.holders.answers import holder_share
from ledger.client.holders.tokens import HolderTokens
from ledger.protocol import sodium, voprf
from tests.holder.kit import (
    Caller,
    Consortium,
    HolderService,
    as_scalar,
    combined,
    evaluation_body,
    points,
    share_of,
)


def test_any_two_holders_together_evaluate_as_the_key_itself(
    consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    sharing = consortium.sharings[0]
    caller = Caller("acme", "acme-group")
    blinds = [voprf.derive_secret(bytes([number]) * 32, b"blind") for number in range(1, 4)]
    blinded = voprf.blind([b"phone:+1", b"phone:+2", b"email:x"], blinds)
    shares = []
    for name in ("north", "west"):
        service = open_service(name)
        caller.admitted(service.rt.engine)
        service.rt.state.refresh()
        shares.append(share_of(service.evaluate(caller, blinded)))
    whole = as_scalar(sharing.secret)
    expected = [sodium.scalarmult(whole, voprf.hash_to_group(text)) for text in (b"phone:+1", b"phone:+2", b"email:x")]
    assert combined(sharing.statement.keys, blinds, blinded, shares) == expected
    assert [share.index for share in shares] == [1, 3]


def test_an_evaluation_answers(service: HolderService, acme: Caller) -> None:
    answer = service.evaluate(acme, points(2))
    assert share_of(answer).index == 1
    assert answer.json["epoch"] == answer.json["generation"] == 1
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_sdks_own_tokens_and_parsers_fit(service: HolderService, acme: Caller, consortium: Consortium) -> None:
    tokens = HolderTokens(
        acme.key,
        kid=acme.kid,
        platform=acme.name,
        holder="north",
        log_key=consortium.log.verifier_key,
        now=service.clock,
        random_bytes=secrets.token_bytes,
        correctable=True,
    )
    blinded, body = points(3), evaluation_body(points(3), 1, 1)
    answer = service.post("/v1/oprf/evaluate", tokens.token(body), body)
    verified = holder_share(answer.json, 1, consortium.sharings[0].statement.keys, 1, blinded)
    assert verified.index == 1
    service.clock.turn(seconds=51)
    assert service.post("/v1/oprf/evaluate", tokens.token(body), body).status == 200
