"""Receipts: the tlog-proof format to the byte, and that nothing but the logged entry opens under it."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidCheckpoint, InvalidInclusion, InvalidLeaf, InvalidReceipt, ProofError
from ledger.protocol.encoding import b64url, canonical_json
from ledger.tlog.checkpoint import Checkpoint, b64, open_checkpoint, parse_verifier_key, sign
from ledger.tlog.entries import commitment, event_leaf, parse_leaf
from ledger.tlog.merkle import grow, inclusion_proof, leaf_hash
from ledger.tlog.proof import (
    MAX_EXTRA_BYTES,
    TlogProof,
    format_proof,
    format_receipt,
    is_sealed,
    open_leaf_proof,
    open_receipt,
    open_sealed_receipt,
    parse_proof,
    sealed_receipt,
)
from tests.counts import trials
from tests.oracles import root_of

ORIGIN = "refund-ledger.test/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
HOUR = datetime(2026, 11, 23, 19, tzinfo=UTC)
SALTS = [number.to_bytes(32, "big") for number in range(300)]
ENTRIES = [{"type": "report", "n": number, "body": {"reason": "\u7834\u635f"}} for number in range(300)]
BODIES = [canonical_json(entry) for entry in ENTRIES]
LEAVES = [event_leaf(n, HOUR, commitment(SALTS[n], body)) for n, body in enumerate(BODIES)]
TREE = grow(0, {}, [leaf_hash(leaf) for leaf in LEAVES])
NOTE = sign(Checkpoint(ORIGIN, TREE.size, TREE.root), KEY)


def read(level: int, index: int) -> bytes:
    return TREE.tiles[level, index]


def receipt(number: int, /, **changes: Any) -> str:
    """A true receipt of entry `number`, or one that differs in `changes`."""
    values: dict[str, Any] = {
        "index": number,
        "hashes": inclusion_proof(number, TREE.size, read),
        "checkpoint_note": NOTE,
        "body": BODIES[number],
        "hour": HOUR,
        "salt": SALTS[number],
    }
    return format_receipt(**{**values, **changes})


def with_extra(extra: bytes | None) -> str:
    return format_proof(replace(parse_proof(receipt(7)), extra=extra))


def test_the_text_is_what_the_specification_says() -> None:
    hashes = (b"\x01" * 32, b"\xfb" * 32)
    lines = ["c2sp.org/tlog-proof@v1", "index 7", *(base64.b64encode(item).decode() for item in hashes)]
    text = "\n".join(lines) + "\n\n" + NOTE
    assert format_proof(TlogProof(7, hashes, NOTE)) == text
    assert parse_proof(text) == TlogProof(7, hashes, NOTE, None)
    lines.insert(1, "extra " + base64.b64encode(b"{}?>").decode())
    text = "\n".join(lines) + "\n\n" + NOTE
    assert format_proof(TlogProof(7, hashes, NOTE, b"{}?>")) == text
    assert parse_proof(text) == TlogProof(7, hashes, NOTE, b"{}?>")


@settings(deadline=None, max_examples=trials(30, 50))
@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.none() | st.binary(min_size=1, max_size=100),
)
def test_proofs_come_back(index: int, hashes: list[bytes], extra: bytes | None) -> None:
    proof = TlogProof(index, tuple(hashes), NOTE, extra)
    assert parse_proof(format_proof(proof)) == proof


@pytest.mark.parametrize("index", [0, 7, 255, 256, 299])
def test_a_receipt_opens(index: int) -> None:
    opened = open_receipt(receipt(index), ORIGIN, PUBLIC)
    assert opened.index == index
    assert opened.entry == ENTRIES[index]
    assert opened.hour == "2026-11-23T19:00:00Z"
    assert opened.checkpoint == Checkpoint(ORIGIN, 300, TREE.root)
    extra = {"entry": ENTRIES[index], "hour": "2026-11-23T19:00:00Z", "salt": b64url(SALTS[index])}
    assert parse_proof(receipt(index)).extra == canonical_json(extra)


def test_any_moment_of_the_hour_makes_the_same_receipt() -> None:
    kolkata = timezone(timedelta(hours=5, minutes=30))
    for moment in (HOUR + timedelta(minutes=59, seconds=59), HOUR.astimezone(kolkata)):
        assert receipt(7, hour=moment) == receipt(7)


def test_a_tree_of_one_needs_no_hashes() -> None:
    single = grow(0, {}, [leaf_hash(LEAVES[0])])
    note = sign(Checkpoint(ORIGIN, 1, single.root), KEY)
    assert open_receipt(receipt(0, hashes=[], checkpoint_note=note), ORIGIN, PUBLIC).index == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"body": BODIES[8]},
        {"salt": SALTS[8]},
        {"hour": HOUR + timedelta(hours=1)},
        {"index": 8},
        {"index": 300},
        {"hashes": inclusion_proof(8, 300, read)},
        {"hashes": inclusion_proof(7, 299, read)},
        {"hashes": inclusion_proof(7, 300, read)[:-1]},
        {"hashes": []},
        {"checkpoint_note": sign(Checkpoint(ORIGIN, 600, TREE.root), KEY)},
        {"checkpoint_note": sign(Checkpoint(ORIGIN, 300, b"\x00" * 32), KEY)},
    ],
)
def test_nothing_else_is_in_the_log(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInclusion):
        open_receipt(receipt(7, **changes), ORIGIN, PUBLIC)


def test_no_leaf_has_an_index_that_json_readers_lose() -> None:
    note = sign(Checkpoint(ORIGIN, 2**62, TREE.root), KEY)
    with pytest.raises(InvalidReceipt):
        open_receipt(receipt(7, index=2**53, checkpoint_note=note), ORIGIN, PUBLIC)


def test_only_the_pinned_log_is_believed() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    forged = receipt(7, checkpoint_note=sign(Checkpoint(ORIGIN, 300, TREE.root), other))
    for text, origin in ((forged, ORIGIN), (receipt(7), "else.test/log"), (receipt(7, checkpoint_note="x\n"), ORIGIN)):
        with pytest.raises(InvalidCheckpoint):
            open_receipt(text, origin, PUBLIC)


@settings(deadline=None, max_examples=trials(60, 3000))
@given(st.data())
def test_every_flipped_bit_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(receipt(7).encode())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(ProofError):
        open_receipt(text, ORIGIN, PUBLIC)


OPENING = {"entry": ENTRIES[7], "hour": "2026-11-23T19:00:00Z", "salt": b64url(SALTS[7])}


@pytest.mark.parametrize(
    "extra",
    [
        None,
        b"x",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        json.dumps(OPENING, sort_keys=True).encode(),
        canonical_json({"entry": ENTRIES[7], "hour": OPENING["hour"]}),
        canonical_json({**OPENING, "entry": "report"}),
        canonical_json({**OPENING, "hour": "2026-11-23T19:30:00Z"}),
        canonical_json({**OPENING, "hour": 19}),
        canonical_json({**OPENING, "salt": b64url(SALTS[7][:31])}),
        canonical_json({**OPENING, "salt": None}),
        canonical_json(OPENING).replace(b'"n":7', b'"n":7,"n":7'),
        canonical_json(OPENING).replace(b'"n":7', b'"n":7.0'),
    ],
)
def test_an_opening_has_one_form(extra: bytes | None) -> None:
    assert extra != canonical_json(OPENING)
    with pytest.raises(InvalidReceipt):
        open_receipt(with_extra(extra), ORIGIN, PUBLIC)


@pytest.mark.parametrize("name", ["more", "commitment"])
def test_members_of_later_versions_in_an_opening_are_ignored(name: str) -> None:
    text = with_extra(canonical_json({**OPENING, name: "A"}))
    assert open_receipt(text, ORIGIN, PUBLIC) == open_receipt(with_extra(canonical_json(OPENING)), ORIGIN, PUBLIC)
    assert not is_sealed(text)


HEAD = "c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD,
        HEAD + "index 7",
        HEAD + "index 7\n",
        HEAD + "index 7\n\n",
        HEAD + "index 7\n" + NOTE,
        HEAD + "\n" + NOTE,
        HEAD + "index 07\n\n" + NOTE,
        HEAD + "index -7\n\n" + NOTE,
        HEAD + "index  7\n\n" + NOTE,
        HEAD + "index 7 \n\n" + NOTE,
        HEAD + "index \u0667\n\n" + NOTE,
        HEAD + f"index {2**63}\n\n" + NOTE,
        HEAD + "index 7\r\n\n" + NOTE,
        HEAD + "extra \nindex 7\n\n" + NOTE,
        HEAD + "extra\nindex 7\n\n" + NOTE,
        HEAD + "extra e30\nindex 7\n\n" + NOTE,
        HEAD + "extra e31=\nindex 7\n\n" + NOTE,
        HEAD + "extra e30=\nextra e30=\nindex 7\n\n" + NOTE,
        HEAD + "index 7\nextra e30=\n\n" + NOTE,
        HEAD + f"extra {b64(bytes(MAX_EXTRA_BYTES + 1))}\nindex 7\n\n" + NOTE,
        HEAD + "index 7\n" + b64(bytes(31)) + "\n\n" + NOTE,
        HEAD + "index 7\n" + b64(bytes(33)) + "\n\n" + NOTE,
        HEAD + "index 7\n" + bytes(32).hex() + "\n\n" + NOTE,
        HEAD + "index 7\n" + (b64(bytes(32)) + "\n") * 64 + "\n" + NOTE,
        HEAD.replace("v1", "v2") + "index 7\n\n" + NOTE,
        "\n" + HEAD + "index 7\n\n" + NOTE,
        "\ufeff" + HEAD + "index 7\n\n" + NOTE,
        HEAD + "index 7\n\n" + "x" * 2**20,
    ],
)
def test_other_texts_are_no_proofs(text: str) -> None:
    with pytest.raises(InvalidReceipt):
        parse_proof(text)


@pytest.mark.parametrize(
    "proof",
    [
        TlogProof(-1, (), NOTE),
        TlogProof(2**63, (), NOTE),
        TlogProof(7, (bytes(31),), NOTE),
        TlogProof(7, (bytes(32),) * 64, NOTE),
        TlogProof(7, (), ""),
        TlogProof(7, (), NOTE, b""),
    ],
)
def test_no_text_for_impossible_proofs(proof: TlogProof) -> None:
    with pytest.raises(InvalidReceipt):
        format_proof(proof)


@pytest.mark.parametrize("changes", [{"body": b"{} "}, {"body": b"x"}, {"hour": HOUR.replace(tzinfo=None)}])
def test_no_receipt_for_unfit_values(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidReceipt):
        receipt(7, **changes)


def test_the_example_in_the_documentation() -> None:
    """docs/log.md gives auditors values to test a verifier of their own against."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "log.md").read_text("utf-8")
    key_text, table, note, text = re.findall(r"^```text\n(.*?)^```$", page.split("## An example")[1], re.S | re.M)
    origin, public_key = parse_verifier_key(key_text.strip())
    assert public_key == PUBLIC
    lines = table.splitlines()
    leaves, hashes = [line.encode() for line in lines[::2]], [bytes.fromhex(line) for line in lines[1::2]]
    assert [leaf_hash(item) for item in leaves] == hashes
    assert [parse_leaf(item).index for item in leaves] == [0, 1, 2]
    assert open_checkpoint(note, origin, public_key) == Checkpoint(origin, 3, root_of(hashes))
    opened = open_receipt(text, origin, public_key)
    assert (opened.index, opened.entry["reason"]) == (1, "duplicate")
    assert parse_proof(text).checkpoint_note == note


@settings(deadline=None, max_examples=trials(30, 50))
@given(st.integers(0, 299), st.integers(0, 299))
def test_a_public_leaf_is_proven_at_its_own_place_only(number: int, other: int) -> None:
    def proof(index: int, hashes: list[bytes]) -> str:
        return format_proof(TlogProof(index, tuple(hashes), NOTE))

    hashes = inclusion_proof(number, TREE.size, read)
    text = proof(number, hashes)
    leaf, checkpoint = open_leaf_proof(text, LEAVES[number], ORIGIN, PUBLIC)
    assert (leaf, checkpoint.size) == (parse_leaf(LEAVES[number]), TREE.size)
    forged = event_leaf(number, HOUR, bytes(32))
    with pytest.raises(InvalidInclusion):
        open_leaf_proof(text, forged, ORIGIN, PUBLIC)
    with pytest.raises(InvalidInclusion):
        open_leaf_proof(proof(number, hashes[:-1]), LEAVES[number], ORIGIN, PUBLIC)
    if other != number:
        with pytest.raises(InvalidLeaf):
            open_leaf_proof(text, LEAVES[other], ORIGIN, PUBLIC)
        with pytest.raises(InvalidLeaf):
            open_leaf_proof(proof(other, hashes), LEAVES[number], ORIGIN, PUBLIC)
    with pytest.raises(InvalidLeaf):
        open_leaf_proof(text, LEAVES[number] + b" ", ORIGIN, PUBLIC)
    with pytest.raises(InvalidCheckpoint):
        open_leaf_proof(text, LEAVES[number], ORIGIN, bytes(31) + b"\x01")
    with pytest.raises(InvalidReceipt):
        open_leaf_proof(text[1:], LEAVES[number], ORIGIN, PUBLIC)


@settings(deadline=None, max_examples=trials(18, 30))
@given(st.integers(0, 299))
def test_a_sealed_receipt_proves_the_place_and_tells_nothing(number: int) -> None:
    text = sealed_receipt(receipt(number))
    leaf, checkpoint = open_sealed_receipt(text, ORIGIN, PUBLIC)
    assert (leaf, checkpoint.size) == (parse_leaf(LEAVES[number]), TREE.size)
    assert parse_proof(text).extra == LEAVES[number]
    assert is_sealed(text)
    assert not is_sealed(receipt(number))
    with pytest.raises(InvalidReceipt):
        open_receipt(text, ORIGIN, PUBLIC)
    with pytest.raises(InvalidReceipt):
        sealed_receipt(text)
    forged = format_proof(replace(parse_proof(text), extra=event_leaf(number, HOUR, bytes(32))))
    with pytest.raises(InvalidInclusion):
        open_sealed_receipt(forged, ORIGIN, PUBLIC)


def test_what_carries_neither_entry_nor_leaf_is_refused() -> None:
    bare = format_proof(replace(parse_proof(receipt(1)), extra=None))
    for call in (is_sealed, lambda text: open_sealed_receipt(text, ORIGIN, PUBLIC)):
        with pytest.raises(InvalidReceipt):
            call(bare)
    with pytest.raises(InvalidLeaf):
        open_sealed_receipt(receipt(1), ORIGIN, PUBLIC)
