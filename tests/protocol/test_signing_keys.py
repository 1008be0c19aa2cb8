"""Which Ed25519 public keys are taken, against an independent implementation of the curve."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature as SignatureRefused
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.client.identity.keyfiles import load_or_create_public_key, load_public_keys
from ledger.errors import ConfigurationError, InvalidPublicKey
from ledger.protocol import sodium
from ledger.protocol.signing_keys import check_public_key, is_sound
from ledger.tlog.checkpoint import parse_verifier_key, verifier_key
from tests import edwards
from tests.counts import trials

UNFIT = edwards.unfit_keys()


def test_the_points_of_small_order_are_those_that_libsodium_is_not_asked_about() -> None:
    points = edwards.small_order()
    assert len(points) == 8
    assert {y for _, y in points} == sodium._SMALL_ORDER_Y
    assert len(UNFIT) == len(set(UNFIT)) == 8 + 2 + 4 + 7, (
        "8 encodings, 2 of x = 0 with the sign, 4 with p added, mixed"
    )


@pytest.mark.parametrize("key", UNFIT, ids=bytes.hex)
def test_keys_that_others_can_sign_for_are_refused(key: bytes) -> None:
    assert not edwards.fit(key)
    assert not is_sound(key)
    with pytest.raises(InvalidPublicKey):
        check_public_key(key)


def test_under_a_key_of_small_order_anybody_can_sign() -> None:
    """Why they are refused: the signature (R = the identity, s = 0) holds for every eighth message at least."""
    signature = edwards.encode(edwards.IDENTITY) + bytes(32)
    for point in edwards.small_order():
        key = Ed25519PublicKey.from_public_bytes(edwards.encode(point))
        held = 0
        for n in range(80):
            try:
                key.verify(signature, n.to_bytes(2, "big"))
            except SignatureRefused:
                continue
            held += 1
        assert held > 0


@given(st.binary(min_size=32, max_size=32))
@settings(deadline=None, max_examples=5)
def test_made_keys_are_taken(seed: bytes) -> None:
    created = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert created == edwards.public_key(seed)
    assert edwards.fit(created)
    check_public_key(created)


below = st.integers(2**255 - 60, 2**255 - 1)


@given(st.one_of(st.integers(0, 2**256 - 1), below, below.map(lambda n: n | 1 << 255), st.integers(0, 60)))
@settings(deadline=None, max_examples=trials(24, 40))
def test_any_32_bytes_are_judged_as_the_curve_says(number: int) -> None:
    key = number.to_bytes(32, "little")
    assert is_sound(key) == edwards.fit(key)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(InvalidPublicKey, match="32 bytes"):
        check_public_key(bytes(length))


def pem(key: bytes) -> bytes:
    """A public key as SubjectPublicKeyInfo (RFC 8410), whatever it is."""
    der = bytes.fromhex("302a300506032b6570032100") + key
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n"


def test_key_files_and_log_keys_hold_fit_keys_only(tmp_path: Path) -> None:
    good = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    path = tmp_path / "acme.public.pem"
    path.write_bytes(pem(good))
    assert [key.public_bytes_raw() for key in load_public_keys(path)] == [good]
    assert parse_verifier_key(verifier_key("l.test/log", good)) == ("l.test/log", good)
    for key in UNFIT:
        for text in (pem(key), pem(good) + pem(key)):
            path.write_bytes(text)
            with pytest.raises(ConfigurationError):
                load_public_keys(path)
        path.write_bytes(pem(key))
        with pytest.raises(ConfigurationError, match="Others could sign"):
            load_or_create_public_key(path)
        with pytest.raises(InvalidPublicKey):
            parse_verifier_key(verifier_key("l.test/log", key))
