"""Blinding on the client's side: every proof is checked against the pinned holders, nothing is asked twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ledger.client.subjects import CACHE_SIZE, Blinder, Buyer, normalise
from ledger.errors import (
    BatchSizeInvalid,
    HolderMismatch,
    InvalidEncoding,
    InvalidPhone,
    InvalidProof,
    LedgerError,
    UnexpectedAnswer,
    UnsupportedKind,
)
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag


class Holders:
    """Key holders in this process, who answer as the service would."""

    def __init__(self, count: int = 1) -> None:
        self.secrets = {f"h{n}": voprf.derive_secret(secrets.token_bytes(32), b"test") for n in range(count)}
        self.pinned = [voprf.HolderKey(name, voprf.public_key(secret)) for name, secret in self.secrets.items()]
        self.asked: list[int] = []

    def evaluate(self, blinded: Sequence[bytes]) -> dict[str, Any]:
        self.asked.append(len(blinded))
        shares = []
        for name, secret in self.secrets.items():
            evaluation = voprf.evaluate(secret, blinded, secrets.token_bytes(64))
            shares.append(
                {
                    "holder": name,
                    "evaluated": [b64url(element) for element in evaluation.evaluated],
                    "proof": b64url(evaluation.proof),
                }
            )
        return {"epoch": 1, "shares": shares}


PHONE = {"phone": "+86 138 0013 8000"}


def test_two_holders_give_the_same_element_whatever_the_blinds() -> None:
    holders = Holders(2)
    buyer = Blinder(1, holders.pinned).buyers([normalise(PHONE, None)], holders.evaluate)[0]
    two = Blinder(1, holders.pinned).buyers([normalise({"phone": "138 0013 8000"}, "CN")], holders.evaluate)[0]
    assert buyer == two
    assert buyer.subjects[0].element is not None
    assert buyer.subjects[0].tag == tag(Kind.PHONE, buyer.subjects[0].element)


def test_known_identifiers_are_not_asked_again_and_batches_hold_a_thousand() -> None:
    holders = Holders()
    blinder = Blinder(1, holders.pinned)
    people = [normalise({"device": f"device-{n:012d}"}, None) for n in range(1001)]
    buyers = blinder.buyers([*people, people[0]], holders.evaluate)
    assert holders.asked == [1000, 1]
    assert buyers[0] == buyers[-1]
    blinder.buyers(people[:3], holders.evaluate)
    assert holders.asked == [1000, 1]
    assert CACHE_SIZE >= 1001
    assert all(b"device" not in name for name in blinder._cache), "identifiers themselves are not kept"


def _wrong_key(answer: dict[str, Any], holders: Holders, blinded: Sequence[bytes]) -> None:
    other = voprf.evaluate(voprf.derive_secret(bytes(32), b"other"), blinded, secrets.token_bytes(64))
    answer["shares"][0].update(evaluated=[b64url(element) for element in other.evaluated], proof=b64url(other.proof))


def _swapped(answer: dict[str, Any], holders: Holders, blinded: Sequence[bytes]) -> None:
    answer["shares"][0]["evaluated"].reverse()


def _forged(answer: dict[str, Any], holders: Holders, blinded: Sequence[bytes]) -> None:
    proof = answer["shares"][0]["proof"]
    answer["shares"][0]["proof"] = ("B" if proof[0] != "B" else "C") + proof[1:]


def _one_missing(answer: dict[str, Any], holders: Holders, blinded: Sequence[bytes]) -> None:
    answer["shares"][0]["evaluated"].pop()


FORGERIES: dict[str, tuple[Callable[..., Any], type[LedgerError]]] = {
    "wrong key": (_wrong_key, InvalidProof),
    "swapped elements": (_swapped, InvalidProof),
    "forged proof": (_forged, InvalidProof),
    "element missing": (_one_missing, InvalidProof),
    "proof of another length": (lambda a, h, b: a["shares"][0].update(proof="AAAA"), InvalidProof),
    "element not base64url": (lambda a, h, b: a["shares"][0]["evaluated"].__setitem__(0, "*"), InvalidProof),
    "holder missing": (lambda a, h, b: a["shares"].pop(), HolderMismatch),
    "holder doubled": (lambda a, h, b: a["shares"].__setitem__(1, a["shares"][0]), HolderMismatch),
    "holder unknown": (lambda a, h, b: a["shares"][1].update(holder="stranger"), HolderMismatch),
    "another epoch": (lambda a, h, b: a.update(epoch=2), UnexpectedAnswer),
    "no shares": (lambda a, h, b: a.pop("shares"), UnexpectedAnswer),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_false_answer_is_refused_and_not_remembered(name: str) -> None:
    holders = Holders(2)
    blinder = Blinder(1, holders.pinned)
    change, error = FORGERIES[name]
    person = normalise({**PHONE, "email": "li@example.com"}, None)

    def forge(blinded: Sequence[bytes]) -> dict[str, Any]:
        answer = holders.evaluate(blinded)
        change(answer, holders, blinded)
        return answer

    with pytest.raises(error):
        blinder.buyers([person], forge)
    assert len(blinder.buyers([person], holders.evaluate)[0].subjects) == 2


def test_blinds_are_fresh_for_every_batch() -> None:
    holders = Holders()
    seen: list[bytes] = []

    def watch(blinded: Sequence[bytes]) -> dict[str, Any]:
        seen.extend(blinded)
        return holders.evaluate(blinded)

    for _ in range(2):
        Blinder(1, holders.pinned).buyers([normalise(PHONE, None)], watch)
    assert seen[0] != seen[1]


def test_wrong_identifiers_and_counts_are_refused() -> None:
    with pytest.raises(InvalidPhone):
        normalise({"phone": "+86 138 0013"}, None)
    with pytest.raises(UnsupportedKind):
        normalise({"account": "1"}, None)
    with pytest.raises(BatchSizeInvalid):
        normalise({}, None)


def test_a_buyer_can_be_kept_as_tags_and_shows_nothing() -> None:
    holders = Holders()
    buyer = Blinder(1, holders.pinned).buyers([normalise(PHONE, None)], holders.evaluate)[0]
    again = Buyer.from_tags(1, buyer.tags())
    assert again.subjects[0].tag == buyer.subjects[0].tag
    assert again.subjects[0].element is None
    assert b64url(buyer.subjects[0].tag) not in repr(buyer)
    with pytest.raises(InvalidEncoding):
        Buyer.from_tags(1, [("phone", "AAAA")])
    with pytest.raises(BatchSizeInvalid):
        Buyer.from_tags(1, [])
