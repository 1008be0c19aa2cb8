"""Checkpoints: the signed-note format to the byte, what is refused, and a second implementation's opinion."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tlog_scales.signing import DummySigner, NoteSignature, PlainEd25519Signer, Vkey
from tlog_scales.tlog import Checkpoint as TheirCheckpoint

from ledger.errors import InvalidCheckpoint, InvalidEncoding
from ledger.tlog.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    b64,
    checkpoint_body,
    key_id,
    open_checkpoint,
    parse,
    parse_verifier_key,
    sign,
    verifier_key,
)
from ledger.tlog.merkle import EMPTY_ROOT
from tests.counts import trials

ORIGIN = "refund-ledger.test/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
ROOT = sha256(b"a root").digest()
CHECKPOINT = Checkpoint(ORIGIN, 70, ROOT)
NOTE = sign(CHECKPOINT, KEY)
BODY = f"{ORIGIN}\n70\n{b64(ROOT)}\n"


def signed(body: str, key: Ed25519PrivateKey = KEY, name: str = ORIGIN) -> str:
    """A note over any body at all, truly signed."""
    identity = key_id(name, key.public_key().public_bytes_raw())
    return f"{body}\n\u2014 {name} {b64(identity + key.sign(body.encode()))}\n"


def their_key(name: str, sort: int, public_key: bytes) -> str:
    """The other implementation's verifier key; it refuses nothing."""
    return str(Vkey(name, None, sort, public_key).serialize())  # type: ignore[no-untyped-call]


def cosignature(number: int) -> str:
    return f"\u2014 witness{number}.example {b64(number.to_bytes(4, 'big') + bytes(72))}\n"


def test_the_note_is_what_the_specification_says() -> None:
    identity = sha256(ORIGIN.encode() + b"\n\x01" + PUBLIC).digest()[:4]
    assert checkpoint_body(CHECKPOINT) == BODY
    encoded = base64.b64encode(identity + KEY.sign(BODY.encode())).decode()
    assert f"{BODY}\n\u2014 {ORIGIN} {encoded}\n" == NOTE
    assert open_checkpoint(NOTE, ORIGIN, PUBLIC) == CHECKPOINT
    checkpoint, (signature,) = parse(NOTE)
    assert checkpoint == CHECKPOINT
    assert (signature.name, signature.key_id) == (ORIGIN, identity)


@settings(deadline=None, max_examples=trials(24, 40))
@given(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoints_come_back(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert open_checkpoint(sign(checkpoint, KEY), ORIGIN, PUBLIC) == checkpoint


def test_another_implementation_agrees_both_ways() -> None:
    theirs = Vkey.from_string(verifier_key(ORIGIN, PUBLIC))
    TheirCheckpoint.from_text(NOTE).verify(theirs)
    signer = PlainEd25519Signer(ORIGIN, KEY)
    assert verifier_key(ORIGIN, PUBLIC) == their_key(ORIGIN, 1, PUBLIC)
    note = TheirCheckpoint.make_signed(ORIGIN, 70, ROOT, [signer, DummySigner("witness.example", 5)]).serialize()
    assert open_checkpoint(note, ORIGIN, PUBLIC) == CHECKPOINT
    with pytest.raises(Exception, match="no signature matched"):
        TheirCheckpoint.from_text(sign(CHECKPOINT, OTHER)).verify(theirs)
    assert NoteSignature.from_line(NOTE.splitlines()[-1]).key_id.to_bytes(4, "big") == key_id(ORIGIN, PUBLIC)


def test_cosignatures_of_others_are_ignored_wherever_they_stand() -> None:
    first, last = NOTE[: len(BODY) + 1], NOTE[len(BODY) + 1 :]
    witnesses = "".join(cosignature(number) for number in range(16))
    assert open_checkpoint(first + witnesses + last, ORIGIN, PUBLIC) == CHECKPOINT
    assert open_checkpoint(NOTE + witnesses, ORIGIN, PUBLIC) == CHECKPOINT
    # The name alone or the key id alone does not make a key known.
    same_name = f"\u2014 {ORIGIN} {b64(bytes(68))}\n"
    same_id = f"\u2014 else.example {b64(key_id(ORIGIN, PUBLIC) + bytes(64))}\n"
    assert open_checkpoint(NOTE + same_name + same_id, ORIGIN, PUBLIC) == CHECKPOINT
    assert len(parse(NOTE + witnesses)[1]) == 17


def test_a_false_line_under_our_key_spoils_the_note() -> None:
    false = f"\u2014 {ORIGIN} {b64(key_id(ORIGIN, PUBLIC) + bytes(64))}\n"
    for note in (NOTE + false, BODY + "\n" + false + NOTE[len(BODY) + 1 :]):
        with pytest.raises(InvalidCheckpoint):
            open_checkpoint(note, ORIGIN, PUBLIC)


def test_only_the_pinned_log_and_key_are_believed() -> None:
    for note, origin, key in [
        (NOTE, "else.example/log", PUBLIC),
        (NOTE, ORIGIN, OTHER.public_key().public_bytes_raw()),
        (NOTE, ORIGIN, PUBLIC[:31]),
        (sign(CHECKPOINT, OTHER), ORIGIN, PUBLIC),
        (signed(BODY, KEY, "else.example/log"), ORIGIN, PUBLIC),
        (sign(Checkpoint("else.example/log", 70, ROOT), KEY), ORIGIN, PUBLIC),
        (signed(BODY.replace(ORIGIN, "else.example/log"), KEY, ORIGIN), ORIGIN, PUBLIC),
    ]:
        with pytest.raises(InvalidCheckpoint):
            open_checkpoint(note, origin, key)


@settings(deadline=None, max_examples=trials(60, 3000))
@given(st.integers(0, len(NOTE.encode()) * 8 - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    data = bytearray(NOTE.encode())
    data[bit // 8] ^= 1 << bit % 8
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(InvalidCheckpoint):
        open_checkpoint(text, ORIGIN, PUBLIC)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\n",
        f"{ORIGIN}\n70\n",
        f"{ORIGIN}\n070\n{b64(ROOT)}\n",
        f"{ORIGIN}\n+70\n{b64(ROOT)}\n",
        f"{ORIGIN}\n 70\n{b64(ROOT)}\n",
        f"{ORIGIN}\n7_0\n{b64(ROOT)}\n",
        f"{ORIGIN}\n-1\n{b64(ROOT)}\n",
        f"{ORIGIN}\n\n{b64(ROOT)}\n",
        f"{ORIGIN}\n\u0667\n{b64(ROOT)}\n",
        f"{ORIGIN}\n{2**63}\n{b64(ROOT)}\n",
        f"{ORIGIN}\n70\n{b64(ROOT[:31])}\n",
        f"{ORIGIN}\n70\n{b64(ROOT + b'x')}\n",
        f"{ORIGIN}\n70\n{b64(ROOT)[:-1]}\n",
        f"{ORIGIN}\n70\n{b64(ROOT).replace('=', '')}\n",
        f"{ORIGIN}\n70\n{base64.urlsafe_b64encode(bytes([251] * 32)).decode()}\n",
        f"{ORIGIN}\n70\n{ROOT.hex()}\n",
        f"{ORIGIN}\n0\n{b64(ROOT)}\n",
        f"{ORIGIN}\n70\n{b64(ROOT)}\nextension\n",
        f"{ORIGIN}\n70\n{b64(ROOT)}\n\nmore\n",
        f"{ORIGIN}\r\n70\r\n{b64(ROOT)}\r\n",
        f"{ORIGIN} \n70\n{b64(ROOT)}\n",
        f"\n70\n{b64(ROOT)}\n",
    ],
)
def test_a_true_signature_does_not_excuse_a_wrong_form(body: str) -> None:
    with pytest.raises(InvalidCheckpoint):
        parse(signed(body))


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        BODY,
        BODY + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\u2014", "-"),
        NOTE.replace("\u2014 ", "\u2014  "),
        NOTE.replace("\u2014 ", "\u2014\u00a0"),
        NOTE[:-1] + " \n",
        NOTE + "trailing\n",
        NOTE + "\u2014 witness.example AAAAAA==\n",
        NOTE + "\u2014 witness.example !!!!\n",
        NOTE + "\u2014 wit+ness.example AAAAAAAA\n",
        NOTE + "\u2014  AAAAAAAA\n",
        "\ud800" + NOTE,
        NOTE + "".join(cosignature(number) for number in range(MAX_SIGNATURES)),
        NOTE + f"\u2014 witness.example {b64(bytes(MAX_NOTE_BYTES))}\n",
    ],
)
def test_malformed_notes_are_refused(note: str) -> None:
    with pytest.raises(InvalidCheckpoint):
        parse(note)
    with pytest.raises(InvalidCheckpoint):
        open_checkpoint(note, ORIGIN, PUBLIC)


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("", 70, ROOT),
        Checkpoint("a b", 70, ROOT),
        Checkpoint("a+b", 70, ROOT),
        Checkpoint("a\nb", 70, ROOT),
        Checkpoint("a\u2003b", 70, ROOT),
        Checkpoint("a\ud800", 70, ROOT),
        Checkpoint("a" * 256, 70, ROOT),
        Checkpoint(ORIGIN, -1, ROOT),
        Checkpoint(ORIGIN, 2**63, ROOT),
        Checkpoint(ORIGIN, 70, ROOT[:31]),
        Checkpoint(ORIGIN, 0, ROOT),
    ],
)
def test_impossible_checkpoints_are_never_signed(checkpoint: Checkpoint) -> None:
    with pytest.raises(InvalidCheckpoint):
        sign(checkpoint, KEY)


def test_the_empty_log_is_signed_with_its_one_root() -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert open_checkpoint(sign(empty, KEY), ORIGIN, PUBLIC) == empty


def test_verifier_keys() -> None:
    text = verifier_key(ORIGIN, PUBLIC)
    assert text == f"{ORIGIN}+{key_id(ORIGIN, PUBLIC).hex()}+{b64(bytes([1]) + PUBLIC)}"
    assert parse_verifier_key(text) == (ORIGIN, PUBLIC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ORIGIN,
        verifier_key(ORIGIN, PUBLIC)[:-1],
        verifier_key(ORIGIN, PUBLIC) + "\n",
        verifier_key(ORIGIN, PUBLIC).replace(ORIGIN, "else.example/log"),
        verifier_key(ORIGIN, PUBLIC).replace(key_id(ORIGIN, PUBLIC).hex(), "00000000"),
        verifier_key(ORIGIN, PUBLIC).replace(key_id(ORIGIN, PUBLIC).hex(), key_id(ORIGIN, PUBLIC).hex().upper()),
        their_key(ORIGIN, 2, PUBLIC),
        their_key(ORIGIN, 1, PUBLIC[:31]),
        their_key("a b", 1, PUBLIC),
    ],
)
def test_other_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        parse_verifier_key(text)


@pytest.mark.parametrize(("origin", "key"), [("a b", PUBLIC), ("", PUBLIC), (ORIGIN, PUBLIC[:31])])
def test_no_verifier_key_for_unfit_values(origin: str, key: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        verifier_key(origin, key)
