"""The key holders of a log, entry by entry: what is accepted, and every way in which an entry can be false."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.verify.keys import KeyAudit
from ledger.errors import (
    HolderMismatch,
    InvalidCanonicalForm,
    InvalidLeaf,
    InvalidProof,
    InvalidRequest,
    InvalidSignature,
    LedgerError,
    NewerFormat,
)
from ledger.protocol import sodium
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.threshold import HolderKey, KeySet
from ledger.tlog.ceremony_files import verify_multiple
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.entries import (
    MAX_LEAF_BYTES,
    GovernanceType,
    IntroducedSharing,
    KeyEvent,
    SharedKey,
    governance_leaf,
    key_rotation_body,
    parse_leaf,
)
from ledger.tlog.key_history import KeyHistory, event_of
from ledger.tlog.key_statement import KeyStatement, StatedHolder, endorse, make_statement
from ledger.tlog.ledger_card import LedgerCard
from tests.sharing import Holders, Made

AT = datetime(2026, 11, 23, tzinfo=UTC)
ORIGIN = "refund-ledger.local/log"
LOG_KEY = verifier_key(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
G = sodium.scalarmult_base((1).to_bytes(32, "little"))

Body = dict[str, Any]


def shared(statement: KeyStatement, entry: int) -> SharedKey:
    return SharedKey(statement.keys, entry)


def body_of(made: Made, index: int, before: int | None, **members: Any) -> Body:
    """The body of the entry `index` that introduces what a ceremony made."""
    values = {"epoch": made.statement.epoch, "holders": shared(made.statement, index), **members}
    return key_rotation_body(
        **values,
        log_origin=ORIGIN,
        log_key=LOG_KEY,
        kind=event_of(made.statement.kind),
        sharing=IntroducedSharing(made.statement, made.sharing.endorsements, before),
    )


@cache
def story() -> tuple[tuple[int, Body], ...]:
    """Genesis, refresh, resharing, rotation announced, switched, retired: (index, body) of each entry."""
    holders = Holders(LedgerCard("refund-ledger.local", "live", "Ledger Ltd", LOG_KEY, "https://ledger.example", G))
    first, refreshed = holders.generate(), holders.refresh()
    holders.add("east", "East Ltd")
    reshared = holders.reshare(2, ["north", "south", "east"])
    turned = holders.rotate()
    old, new = shared(reshared.statement, 7), shared(turned.statement, 9)
    common = {"log_origin": ORIGIN, "log_key": LOG_KEY}
    return (
        (0, body_of(first, 0, None)),
        (4, body_of(refreshed, 4, 0)),
        (7, body_of(reshared, 7, 4)),
        (9, body_of(turned, 9, 7, epoch=1, holders=old, next_epoch=(2, new))),
        (
            12,
            key_rotation_body(
                epoch=2,
                holders=new,
                previous_epoch=(1, old, AT),
                kind=KeyEvent.SWITCH,
                **common,  # type: ignore[arg-type]
            ),
        ),
        (20, key_rotation_body(epoch=2, holders=new, retired_epochs=[1], kind=KeyEvent.RETIRE, **common)),  # type: ignore[arg-type]
    )


def copy(body: Body) -> Body:
    copied: Body = json.loads(json.dumps(body))
    return copied


def replayed(until: int) -> KeyHistory:
    history = KeyHistory(verify_multiple)
    for index, body in story():
        if index < until:
            history.see(index, body)
    return history


def test_a_whole_story() -> None:
    history = replayed(100)
    assert [(known.entry_index, known.statement.kind.value) for known in history.sharings] == [
        (0, "generate"), (4, "refresh"), (7, "reshare"), (9, "rotate"),
    ]  # fmt: skip
    of_first = history.sharing_of(1)
    assert of_first is not None
    assert of_first.entry_index == 7
    assert history.newest == history.sharing_of(2)


def without(name: str) -> Callable[[Body], None]:
    return lambda body: body.pop(name)


def setting(*path: str | int, to: Any) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        value: Any = body
        for part in path[:-1]:
            value = value[part]
        value[path[-1]] = to

    return change


def drop(name: str, place: int) -> Callable[[Body], None]:
    return lambda body: body[name].pop(place)


FALSE = [
    (0, setting("previous_entry", to=3), HolderMismatch),
    (0, setting("kind", to="announce"), HolderMismatch),
    (0, setting("epoch", to=2), HolderMismatch),
    (0, drop("endorsements", 1), InvalidSignature),
    (4, drop("endorsements", 0), InvalidSignature),
    (4, setting("previous_entry", to=3), HolderMismatch),
    (4, setting("previous_entry", to=None), HolderMismatch),
    (4, setting("previous_entry", to=True), InvalidCanonicalForm),
    (4, without("endorsements"), InvalidCanonicalForm),
    (4, without("statement"), HolderMismatch),
    (4, without("kind"), HolderMismatch),
    (4, setting("statement", "organisation", to="x"), InvalidSignature),
    (4, setting("statement", "format", to=99), NewerFormat),
    (4, setting("log", "key", to="other"), HolderMismatch),
    (4, setting("generation", to=1), HolderMismatch),
    (4, setting("threshold", to=1), HolderMismatch),
    (4, setting("statement_entry", to=0), HolderMismatch),
    (4, setting("public_key", to="AAAA"), HolderMismatch),
    (4, setting("holders", 0, "id", to="ghost"), HolderMismatch),
    (4, setting("holders", 0, "index", to=9), HolderMismatch),
    (4, drop("holders", 0), HolderMismatch),
    (7, drop("endorsements", 0), InvalidSignature),
    (9, without("next"), HolderMismatch),
    (9, setting("next", "public_key", to="AAAA"), HolderMismatch),
    (9, setting("next", "epoch", to=3), HolderMismatch),
    (9, setting("statement", "multiple_proof", to="A" * 86), LedgerError),
    (12, setting("previous", "generation", to=1), HolderMismatch),
    (12, setting("previous", to=7), InvalidCanonicalForm),
    (12, setting("epoch", to="2"), InvalidCanonicalForm),
    (20, setting("holders", to=[{"id": "operator", "public_key": "AAAA"}]), HolderMismatch),
]


@pytest.mark.parametrize("at", range(len(FALSE)))
def test_an_entry_that_is_false_is_refused_and_changes_nothing(at: int) -> None:
    index, change, error = FALSE[at]
    history = replayed(index)
    good = dict(story())[index]
    body = copy(good)
    change(body)
    before = list(history.sharings)
    with pytest.raises(error):
        history.see(index, body)
    assert history.sharings == before
    history.see(index, good)


def test_entries_that_are_left_out_or_repeated_are_noticed() -> None:
    bodies = dict(story())
    for left_out in (0, 4, 7, 9):
        history = KeyHistory(verify_multiple)
        with pytest.raises((HolderMismatch, InvalidSignature)):
            for index, body in story():
                if index != left_out:
                    history.see(index, body)
    history = replayed(100)
    for index in (0, 4, 9):
        with pytest.raises(HolderMismatch):
            history.see(30, bodies[index])


def test_the_multiple_is_proven() -> None:
    def refuse(*_arguments: bytes) -> None:
        raise InvalidProof("false")

    history = KeyHistory(refuse)
    for index, body in story()[:3]:
        history.see(index, body)
    with pytest.raises(InvalidProof):
        history.see(*story()[3])


def test_a_log_of_one_holder_stays_one() -> None:
    def single(**members: Any) -> Body:
        values = {"epoch": 1, "holders": [("ledger", G)], "log_origin": ORIGIN, "log_key": LOG_KEY, **members}
        return key_rotation_body(**values)

    history = KeyHistory(verify_multiple)
    history.see(0, single())
    history.see(3, single(next_epoch=(2, [("ledger", sodium.add(G, G))]), kind=KeyEvent.ANNOUNCE))
    with pytest.raises(HolderMismatch, match="begun 1 of 1"):
        history.see(5, story()[0][1])
    with pytest.raises(HolderMismatch, match="without their statement"):
        history.see(5, {**single(), "holders": [*single()["holders"], {"id": "b", "public_key": "x"}]})
    with pytest.raises(HolderMismatch, match="another key"):
        history.see(5, single(epoch=2))
    history.see(5, single(epoch=2, holders=[("ledger", sodium.add(G, G))]))
    assert history.newest is None


def test_the_audit_of_a_log_names_the_entry() -> None:
    audit = KeyAudit()
    leaves = [parse_leaf(governance_leaf(index, GovernanceType.KEY_ROTATION, AT, body)) for index, body in story()]
    for leaf in leaves:
        audit.see(leaf)
    assert len(audit.history.sharings) == 4
    audit = KeyAudit()
    audit.see(replace(leaves[0], type="policy"))
    with pytest.raises(InvalidLeaf) as refused:
        audit.see(leaves[1])
    assert refused.value.details["index"] == 4
    newer = copy(story()[0][1])
    newer["statement"]["format"] = 99
    with pytest.raises(NewerFormat):
        KeyAudit().see(replace(leaves[0], body=newer))


def many_holders(count: int, organisation: str) -> tuple[KeyStatement, list[Ed25519PrivateKey]]:
    """A statement of `count` holders with threshold 2: f(x) = 5 + 7x in plain integers."""
    publics = [sodium.scalarmult_base((5 + 7 * index).to_bytes(32, "little")) for index in range(count + 1)]
    signing = [Ed25519PrivateKey.generate() for _ in range(count)]
    holders = [
        StatedHolder(
            HolderKey(index, f"{index:032}", publics[index]),
            f"{organisation}{index:03}",
            False,
            signing[index - 1].public_key().public_bytes_raw(),
        )
        for index in range(1, count + 1)
    ]
    statement = make_statement(
        service="refund-ledger.local",
        environment="live",
        log_key=LOG_KEY,
        epoch=1,
        kind=CeremonyKind.GENERATE,
        generation=1,
        threshold=2,
        public_key=publics[0],
        holders=holders,
    )
    return statement, signing


def test_fifty_holders_fit_in_one_leaf() -> None:
    """The longest ids and names of organisations, and a rotation, which names two epochs."""
    statement, signing = many_holders(50, "\U0001f3e2" * 125)
    sharing = IntroducedSharing(statement, [endorse(statement, key) for key in signing], 2**40)
    key = shared(statement, 2**40)
    body = key_rotation_body(
        epoch=1, holders=key, log_origin=ORIGIN, log_key=LOG_KEY, next_epoch=(2, key), kind=KeyEvent.ANNOUNCE,
        sharing=sharing,
    )  # fmt: skip
    leaf = governance_leaf(2**40, GovernanceType.KEY_ROTATION, AT, body)
    assert 50_000 < len(leaf) <= MAX_LEAF_BYTES
    assert parse_leaf(leaf).body == json.loads(json.dumps(body))
    with pytest.raises(InvalidRequest, match="65535"):
        governance_leaf(1, GovernanceType.KEY_ROTATION, AT, {**body, "more": "x" * 20_000})


def test_the_keys_of_a_statement_are_checked_when_it_is_parsed() -> None:
    statement, _ = many_holders(3, "Org ")
    keys = statement.keys
    with pytest.raises(HolderMismatch):
        KeySet(1, 3, keys.public_key, keys.holders[:2])
    with pytest.raises(HolderMismatch):
        KeySet(1, 2, sodium.add(keys.public_key, G), keys.holders)
