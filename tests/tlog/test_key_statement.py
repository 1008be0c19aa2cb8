"""Key statements and cards: who signed what, what may follow, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import (
    HolderMismatch,
    InvalidCanonicalForm,
    InvalidInput,
    InvalidProof,
    InvalidSignature,
    NewerFormat,
)
from ledger.protocol import sodium, voprf
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import b64url, canonical_json
from ledger.protocol.fingerprints import fingerprint
from ledger.protocol.threshold import HolderKey
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.key_statement import (
    MAX_HOLDERS,
    Card,
    Endorsement,
    KeyStatement,
    PreviousKeys,
    StatedHolder,
    check_endorsed,
    check_succession,
    check_url,
    endorse,
    endorsement_json,
    make_card,
    make_statement,
    parse_card,
    parse_endorsement,
    parse_statement,
)

LOG_KEY = verifier_key(
    "ledger.example/log", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key().public_bytes_raw()
)
K, SLOPE = 1234567, 7654321


def signing_key(index: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([index]) * 32)


def holders(
    secret: int = K, slope: int = SLOPE, indexes: tuple[int, ...] = (1, 2, 3), **changes: dict[str, Any]
) -> list[StatedHolder]:
    stated = []
    for i in indexes:
        public_key = voprf.public_key(((secret + slope * i) % sodium.GROUP_ORDER).to_bytes(32, "little"))
        holder = StatedHolder(
            HolderKey(i, f"holder-{i}", public_key),
            f"Organisation {i}",
            i == 3,
            signing_key(i).public_key().public_bytes_raw(),
        )
        stated.append(replace(holder, **changes.get(f"h{i}", {})))
    return stated


def statement(stated: list[StatedHolder] | None = None, **changes: Any) -> KeyStatement:
    members: dict[str, Any] = {
        "service": "ledger.example",
        "environment": "live",
        "log_key": LOG_KEY,
        "epoch": 1,
        "kind": CeremonyKind.GENERATE,
        "generation": 1,
        "threshold": 2,
        "public_key": voprf.public_key(K.to_bytes(32, "little")),
        "holders": stated or holders(),
    }
    return make_statement(**{**members, **changes})


def endorsed(statement: KeyStatement, *indexes: int) -> list[Endorsement]:
    return [endorse(statement, signing_key(index)) for index in indexes or (1, 2, 3)]


def refreshed(**changes: Any) -> KeyStatement:
    keys = statement().keys
    previous = PreviousKeys(1, 1, keys.public_key)
    members: dict[str, Any] = {
        "kind": CeremonyKind.REFRESH,
        "generation": 2,
        "previous": previous,
        "stated": holders(slope=99),
    }
    return statement(**{**members, **changes})


def rotated(**changes: Any) -> KeyStatement:
    members: dict[str, Any] = {
        "kind": CeremonyKind.ROTATE,
        "epoch": 2,
        "previous": PreviousKeys(1, 1, statement().keys.public_key),
        "public_key": voprf.public_key((2 * K).to_bytes(32, "little")),
        "stated": holders(2 * K, 55),
        "multiple_proof": b"\x05" * 64,
    }
    return statement(**{**members, **changes})


def believe(_old: bytes, _new: bytes, _proof: bytes) -> None:
    """Accept every proof: `ledger.protocol.ceremony` tests the real one."""


def test_a_statement_is_read_back_with_all_that_it_names() -> None:
    made = statement()
    assert parse_statement(json.loads(made.canonical)) == made
    assert (made.log_origin, made.log_key, made.keys.threshold) == ("ledger.example/log", LOG_KEY, 2)
    assert [holder.operator for holder in made.holders] == [False, False, True]
    assert made.holder(2).key == made.keys.at(2)
    with pytest.raises(HolderMismatch):
        made.holder(4)


def test_members_of_a_later_version_are_signed_and_ignored() -> None:
    members = {**statement().json, "later": {"x": 1}}
    members["holders"] = [{**holder, "later": 1} for holder in members["holders"]]
    read = parse_statement(members)
    assert read.canonical == canonical_json(members)
    check_endorsed(read, endorsed(read))
    with pytest.raises(InvalidSignature):
        check_endorsed(read, endorsed(statement()))


def test_every_holder_signs() -> None:
    made = statement()
    check_endorsed(made, endorsed(made))
    check_endorsed(made, [*endorsed(made), *endorsed(made, 9)])
    with pytest.raises(InvalidSignature) as caught:
        check_endorsed(made, endorsed(made, 1, 3))
    assert caught.value.details == {"holder": "holder-2"}
    first, second, third = endorsed(made)
    with pytest.raises(InvalidSignature):
        check_endorsed(made, [first, replace(second, signature=third.signature), third])
    assert parse_endorsement(endorsement_json(first)) == first
    faults: list[object] = [None, {}, {**endorsement_json(first), "signature": "AA"}]
    for wrong in faults:
        with pytest.raises(InvalidCanonicalForm):
            parse_endorsement(wrong)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["holders"][0].update(id="Holder 1"),
        lambda m: m["holders"][0].update(id="holder-2"),
        lambda m: m["holders"][0].update(index=2),
        lambda m: m["holders"][0].update(public_key=m["holders"][1]["public_key"]),
        lambda m: m["holders"][0].update(signing_key=m["holders"][1]["signing_key"]),
        lambda m: m["holders"][0].update(signing_key=b64url(bytes(32))),
        lambda m: m["holders"][0].update(organisation=" "),
        lambda m: m["holders"][0].update(organisation="ORGANISATION 2"),
        lambda m: m["holders"][0].update(organisation="Organisation  2"),
        lambda m: m.update(service="holder-2"),
        lambda m: m["holders"][0].update(operator=True),
        lambda m: m["holders"][0].update(operator=0),
        lambda m: m["holders"].clear(),
        lambda m: m["holders"].extend([dict(m["holders"][0]) for _ in range(MAX_HOLDERS)]),
        lambda m: m.update(threshold=1),
        lambda m: m.update(threshold=3),
        lambda m: m.update(threshold=True),
        lambda m: m.update(generation=0),
        lambda m: m.update(epoch="1"),
        lambda m: m.update(kind="copy"),
        lambda m: m.update(public_key=m["holders"][0]["public_key"]),
        lambda m: m["log"].update(origin="other.example/log"),
        lambda m: m["log"].update(key="no key"),
        lambda m: m.update(service=1),
        lambda m: m.update(previous={"epoch": 1}),
        lambda m: m.update(multiple_proof="AA"),
        lambda m: m.pop("log"),
        lambda m: m.update(extra=1.5),
    ],
)
def test_malformed_and_contradictory_statements(change: Callable[[dict[str, Any]], object]) -> None:
    members = statement().json
    change(members)
    with pytest.raises((HolderMismatch, InvalidCanonicalForm)):
        parse_statement(members)


def test_statements_of_another_form() -> None:
    faults: list[object] = [None, [], "x", {}]
    for wrong in faults:
        with pytest.raises(InvalidCanonicalForm):
            parse_statement(wrong)
    with pytest.raises(NewerFormat):
        parse_statement({**statement().json, "format": 2})


def test_one_of_one_may_be_the_operator() -> None:
    alone = [replace(holders(slope=0, indexes=(1,))[0], operator=True)]
    assert statement(alone, threshold=1).keys.is_single


# --- succession -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [refreshed, rotated])
def test_a_sharing_follows_another(make: Callable[[], KeyStatement]) -> None:
    new = make()
    check_succession(statement(), new, endorsed(new), believe)


def test_a_resharing_is_signed_by_the_dealers_that_leave() -> None:
    new = refreshed(kind=CeremonyKind.RESHARE, stated=holders(slope=42, indexes=(4, 5, 6), h6={"operator": False}))
    check_succession(statement(), new, endorsed(new, 1, 2, 4, 5, 6), believe)
    with pytest.raises(InvalidSignature, match="Too few"):
        check_succession(statement(), new, endorsed(new, 1, 4, 5, 6), believe)
    with pytest.raises(InvalidSignature) as caught:
        check_succession(statement(), new, endorsed(new, 1, 2, 4, 6), believe)
    assert caught.value.details == {"holder": "holder-5"}


@pytest.mark.parametrize(
    "new",
    [
        lambda: refreshed(service="other.example"),
        lambda: refreshed(environment="test"),
        lambda: refreshed(generation=3),
        lambda: refreshed(epoch=2),
        lambda: refreshed(kind=CeremonyKind.GENERATE),
        lambda: refreshed(previous=None),
        lambda: refreshed(previous=PreviousKeys(1, 2, statement().keys.public_key)),
        lambda: refreshed(previous=PreviousKeys(2, 1, statement().keys.public_key)),
        lambda: refreshed(public_key=voprf.public_key((2 * K).to_bytes(32, "little")), stated=holders(2 * K)),
        lambda: rotated(epoch=1),
        lambda: rotated(public_key=statement().keys.public_key, stated=holders(K, 55)),
        lambda: rotated(multiple_proof=None),
    ],
)
def test_what_does_not_follow(new: Callable[[], KeyStatement]) -> None:
    made = new()
    with pytest.raises(HolderMismatch):
        check_succession(statement(), made, endorsed(made), believe)


def test_a_rotation_needs_a_true_proof() -> None:
    def refuse(old: bytes, new: bytes, proof: bytes) -> None:
        assert (old, proof) == (statement().keys.public_key, b"\x05" * 64)
        raise InvalidProof("no")

    with pytest.raises(InvalidProof):
        check_succession(statement(), rotated(), endorsed(rotated()), refuse)


# --- cards ------------------------------------------------------------------------------------------------------


def card(index: int = 1, url: str = "https://north.example/", **changes: Any) -> bytes:
    return json.dumps({**make_card(statement(), index, url, signing_key(index)), **changes}).encode()


def test_a_card_is_read_back_verified() -> None:
    read = parse_card(card())
    made = statement()
    assert read == Card(made, 1, "https://north.example", endorse(made, signing_key(1)))
    assert (read.holder.key.holder, read.holder.organisation) == ("holder-1", "Organisation 1")
    check_endorsed(made, [parse_card(card(index)).endorsement for index in (1, 2, 3)])


def test_false_cards_are_refused() -> None:
    good = json.loads(card())
    for change, error in (
        ({"url": "https://other.example"}, InvalidSignature),
        ({"index": 2}, InvalidSignature),
        ({"index": 4}, HolderMismatch),
        ({"later": 1}, InvalidSignature),
        ({"signature": b64url(bytes(64))}, InvalidSignature),
        ({"statement_signature": b64url(bytes(64))}, InvalidSignature),
        ({"url": "http://north.example"}, InvalidCanonicalForm),
        ({"statement": None}, InvalidCanonicalForm),
        ({"statement": {**good["statement"], "format": 2}}, NewerFormat),
    ):
        with pytest.raises(error):
            parse_card(json.dumps({**good, **change}).encode())
    for text in (b"{", b"[]", b"[" * 10_000, b" " * 70_000, b"\xff"):
        with pytest.raises(InvalidCanonicalForm):
            parse_card(text)


def test_a_holder_signs_its_own_card_only() -> None:
    with pytest.raises(InvalidSignature):
        make_card(statement(), 1, "https://north.example", signing_key(2))


@pytest.mark.parametrize(
    "url", ["https://a.example", "https://a.example:8443/oprf", "http://127.0.0.1:9", "http://localhost"]
)
def test_addresses(url: str) -> None:
    assert check_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "a.example",
            "ftp://a.example",
            "http://a.example",
            "https://",
            "https://u@a.example",
            "https://a.example?x",
        ),
        *("https://a.example#x", "https://a.example:0", "https://a.example:x", "https://a b", "https://\u00e4.example"),
        "https://" + "a" * 200,
    ],
)
def test_impossible_addresses(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url)


def test_fingerprints_are_groups_of_digits() -> None:
    text = fingerprint(b"abc")  # SHA-256 of "abc" (FIPS 180-2): ba7816bf 8f01cfea 414140de 5dae2223
    assert text == "47736 05823 36609 53226 16705 16606 23982 08739 45059 24995"
    assert fingerprint(b"abd") != text
