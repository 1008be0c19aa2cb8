"""Blinding on the client's side: every proof is checked against the pinned holders, nothing is asked twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ledger.client.holders.answers import holder_share, ledger_share
from ledger.client.subjects import CACHE_SIZE, Blinder, Buyer, Evaluate, normalise
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
from ledger.protocol import sodium, voprf
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.protocol.threshold import HolderKey, KeySet, VerifiedShare
from tests.oracles import shamir_share


class Holders:
    """A key in this process: of one holder, who answers as the service would, or 2 of 3."""

    def __init__(self, threshold: int = 1) -> None:
        self.secret = voprf.derive_secret(secrets.token_bytes(32), b"test")
        slope = [voprf.derive_secret(secrets.token_bytes(32), b"test")] if threshold > 1 else []
        self.shares = {index: shamir_share(self.secret, slope, index) for index in range(1, 2 * threshold)}
        members = [HolderKey(index, f"h{index}", voprf.public_key(share)) for index, share in self.shares.items()]
        self.keys = KeySet(1, threshold, voprf.public_key(self.secret), tuple(members))
        self.asked: list[int] = []

    def answer(self, blinded: Sequence[bytes]) -> dict[str, Any]:
        """The answer of the one holder."""
        self.asked.append(len(blinded))
        evaluation = voprf.evaluate(self.secret, blinded, secrets.token_bytes(64))
        share = {
            "holder": "h1",
            "evaluated": [b64url(element) for element in evaluation.evaluated],
            "proof": b64url(evaluation.proof),
        }
        return {"epoch": 1, "shares": [share]}

    def evaluate(self, blinded: Sequence[bytes]) -> Callable[[], list[VerifiedShare]]:
        return self.verified(blinded, self.answer(blinded))

    def verified(self, blinded: Sequence[bytes], answer: object) -> Callable[[], list[VerifiedShare]]:
        return lambda: [ledger_share(answer, 1, self.keys, blinded)]

    def by(self, *indexes: int) -> Evaluate:
        """The evaluation by these holders of the three."""

        def verified(blinded: Sequence[bytes], index: int) -> VerifiedShare:
            evaluation = voprf.evaluate(self.shares[index], blinded, secrets.token_bytes(64))
            answer = {
                "epoch": 1,
                "generation": 1,
                "index": index,
                "evaluated": [b64url(element) for element in evaluation.evaluated],
                "proof": b64url(evaluation.proof),
            }
            return holder_share(answer, 1, self.keys, index, blinded)

        return lambda blinded: lambda: [verified(blinded, index) for index in indexes]


PHONE = {"phone": "+86 138 0013 8000"}


def test_two_of_three_holders_give_the_same_element_whatever_the_blinds() -> None:
    holders = Holders(2)
    buyer = Blinder(1).buyers([normalise(PHONE, None)], holders.by(1, 2))[0]
    for pair in ((1, 3), (3, 2)):
        assert Blinder(1).buyers([normalise({"phone": "138 0013 8000"}, "CN")], holders.by(*pair))[0] == buyer
    assert buyer.subjects[0].element == sodium.scalarmult(
        holders.secret, voprf.hash_to_group(normalise(PHONE, None)[0][1])
    )
    assert buyer.subjects[0].element is not None
    assert buyer.subjects[0].tag == tag(Kind.PHONE, buyer.subjects[0].element)


def test_known_identifiers_are_not_asked_again_and_batches_hold_a_thousand() -> None:
    holders = Holders()
    blinder = Blinder(1)
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
    "holder doubled": (lambda a, h, b: a["shares"].append(a["shares"][0]), HolderMismatch),
    "holder unknown": (lambda a, h, b: a["shares"][0].update(holder="stranger"), HolderMismatch),
    "another epoch": (lambda a, h, b: a.update(epoch=2), UnexpectedAnswer),
    "no shares": (lambda a, h, b: a.pop("shares"), UnexpectedAnswer),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_false_answer_is_refused_and_not_remembered(name: str) -> None:
    holders = Holders()
    blinder = Blinder(1)
    change, error = FORGERIES[name]
    person = normalise({**PHONE, "email": "li@example.com"}, None)

    def forge(blinded: Sequence[bytes]) -> Callable[[], list[VerifiedShare]]:
        answer = holders.answer(blinded)
        change(answer, holders, blinded)
        return holders.verified(blinded, answer)

    with pytest.raises(error):
        blinder.buyers([person], forge)
    assert len(blinder.buyers([person], holders.evaluate)[0].subjects) == 2


def test_blinds_are_fresh_for_every_batch() -> None:
    holders = Holders()
    seen: list[bytes] = []

    def watch(blinded: Sequence[bytes]) -> Callable[[], list[VerifiedShare]]:
        seen.extend(blinded)
        return holders.evaluate(blinded)

    for _ in range(2):
        Blinder(1).buyers([normalise(PHONE, None)], watch)
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
    buyer = Blinder(1).buyers([normalise(PHONE, None)], holders.evaluate)[0]
    again = Buyer.from_tags(1, buyer.tags())
    assert again.subjects[0].tag == buyer.subjects[0].tag
    assert again.subjects[0].element is None
    assert b64url(buyer.subjects[0].tag) not in repr(buyer)
    with pytest.raises(InvalidEncoding):
        Buyer.from_tags(1, [("phone", "AAAA")])
    with pytest.raises(BatchSizeInvalid):
        Buyer.from_tags(1, [])
