"""Tags, prefixes and commitments: published vectors, and `cryptography` as a second implementation of HKDF and HMAC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidInput, InvalidPoint, UnsupportedKind
from ledger.protocol import sodium, voprf
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import MAX_EPOCH, prefix, subject_commitment, tag
from tests.counts import trials
from tests.oracles import scalar_sum

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "docs" / "vectors" / "tags.json").read_text("utf-8"))[
    "vectors"
]

kinds = st.sampled_from(list(Kind))
bytes_32 = st.binary(min_size=32, max_size=32)
epochs = st.integers(0, MAX_EPOCH)


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v['kind']}-{len(v['secrets'])}" for v in VECTORS])
def test_published_vectors_from_identifier_to_commitment(vector: dict[str, Any]) -> None:
    hashed = voprf.hash_to_group(vector["canonical"].encode("utf-8"))
    assert hashed.hex() == vector["hash_to_group"]
    element = bytes.fromhex(vector["element"])
    secret, *others = (bytes.fromhex(s) for s in vector["secrets"])
    for other in others:
        secret = scalar_sum(secret, other)
    assert sodium.scalarmult(secret, hashed) == element
    created = tag(vector["kind"], element)
    assert created.hex() == vector["tag"]
    assert (prefix(created, 12), prefix(created, 14)) == (vector["prefix_12"], vector["prefix_14"])
    salt = bytes.fromhex(vector["salt"])
    assert subject_commitment(salt, vector["epoch"], vector["kind"], element).hex() == vector["subject_commitment"]


def test_the_vectors_cover_every_kind_with_one_and_two_holders() -> None:
    assert {(v["kind"], len(v["secrets"])) for v in VECTORS} == {(kind, n) for kind in Kind for n in (1, 2)}


@given(kinds, bytes_32)
@settings(deadline=None)
def test_a_tag_is_hkdf_sha512(kind: Kind, element: bytes) -> None:
    info = b"refund-ledger tag v1:" + kind.value.encode()
    assert tag(kind, element) == HKDF(hashes.SHA512(), 32, salt=None, info=info).derive(element)
    assert tag(kind.value, element) == tag(kind, element)


@given(bytes_32, epochs, kinds, bytes_32)
@settings(deadline=None)
def test_a_commitment_is_hmac_sha256(salt: bytes, epoch: int, kind: Kind, element: bytes) -> None:
    mac = HMAC(salt, hashes.SHA256())
    mac.update(epoch.to_bytes(4, "big") + bytes([len(kind.value)]) + kind.value.encode() + element)
    assert subject_commitment(salt, epoch, kind, element) == mac.finalize()


@given(bytes_32, bytes_32)
@settings(deadline=None, max_examples=trials(18, 30))
def test_a_wrong_kind_or_another_element_never_matches(first: bytes, two: bytes) -> None:
    elements = {first, two}
    assert len({tag(kind, element) for kind in Kind for element in elements}) == len(Kind) * len(elements)


@given(bytes_32, epochs, kinds, bytes_32)
@settings(deadline=None, max_examples=trials(18, 30))
def test_a_commitment_binds_every_part(salt: bytes, epoch: int, kind: Kind, element: bytes) -> None:
    other_kind = next(k for k in Kind if k != kind)
    flipped = bytes([element[0] ^ 1]) + element[1:]
    created = {
        subject_commitment(salt, epoch, kind, element),
        subject_commitment(bytes([salt[0] ^ 1]) + salt[1:], epoch, kind, element),
        subject_commitment(salt, epoch ^ 1, kind, element),
        subject_commitment(salt, epoch, other_kind, element),
        subject_commitment(salt, epoch, kind, flipped),
    }
    assert len(created) == 5


@given(bytes_32, st.integers(1, 32))
def test_a_prefix_is_the_first_bits(value: bytes, bits: int) -> None:
    written = "".join(f"{byte:08b}" for byte in value)
    assert f"{prefix(value, bits):0{bits}b}" == written[:bits]


@pytest.mark.parametrize("bits", [0, -1, 33])
def test_prefix_lengths_are_1_to_32_bits(bits: int) -> None:
    with pytest.raises(InvalidInput):
        prefix(bytes(32), bits)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_lengths_are_checked(length: int) -> None:
    wrong, right = bytes(length), bytes(range(32))
    with pytest.raises(InvalidInput):
        prefix(wrong, 12)
    with pytest.raises(InvalidPoint):
        tag(Kind.PHONE, wrong)
    with pytest.raises(InvalidPoint):
        subject_commitment(right, 1, Kind.PHONE, wrong)
    with pytest.raises(InvalidInput):
        subject_commitment(wrong, 1, Kind.PHONE, right)


@pytest.mark.parametrize("epoch", [-1, MAX_EPOCH + 1])
def test_epochs_fit_four_bytes(epoch: int) -> None:
    with pytest.raises(InvalidInput):
        subject_commitment(bytes(32), epoch, Kind.PHONE, bytes(range(32)))


def test_unknown_kinds_are_unsupported() -> None:
    with pytest.raises(UnsupportedKind):
        tag("account", bytes(range(32)))
    with pytest.raises(UnsupportedKind):
        subject_commitment(bytes(32), 1, "account", bytes(range(32)))
