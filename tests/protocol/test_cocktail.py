"""Key generation reproduces the published vectors of cocktail-dkg byte for byte, and refuses what its specification
says must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import CeremonyFault, InvalidEncoding, InvalidInput
from ledger.protocol import sodium
from ledger.protocol.ceremony import cocktail
from ledger.protocol.ceremony.dealing import MAX_CIPHERTEXT_BYTES, MAX_PAYLOAD_BYTES, Dealing, bundle
from tests.ceremonies import Q

FILE = Path(__file__).parent / "vectors" / "cocktail_dkg_ristretto255.json"
PUBLISHED: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


def unhex(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


class Vector:
    """One published vector, with the inputs that its seed yields."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value
        self.t, self.n = int(value["t"]), int(value["n"])
        self.context, self.extension = bytes.fromhex(value["context"]), bytes.fromhex(value["extension"])
        self.secrets = unhex(value["config"]["static_secret_keys"])
        self.keys = unhex(value["config"]["static_public_keys"])
        self.payloads = unhex(value.get("payloads", [""] * self.n))

    def derived(self, label: str) -> bytes:
        seed, suite = str(PUBLISHED["seed"]), str(PUBLISHED["suite"])
        sizes = self.t.to_bytes(4, "little") + self.n.to_bytes(4, "little")
        return bytes.fromhex(seed) + suite.encode() + sizes + label.encode()

    def entropy(self, index: int) -> bytes:
        stream = self.derived(f"round1_participant_{index}")
        return b"".join([sha512(stream + count.to_bytes(8, "little")).digest() for count in range(self.t + 1)])

    def messages(self) -> list[bytes]:
        return [
            cocktail.round_1(
                self.context,
                self.t,
                self.secrets[index - 1],
                self.keys,
                self.entropy(index),
                dict.fromkeys(range(1, self.n + 1), self.payloads[index - 1]),
            )
            for index in range(1, self.n + 1)
        ]


VECTORS = [Vector(value) for value in PUBLISHED["vectors"]]
SMALL = VECTORS[0]


@pytest.fixture(scope="module")
def small() -> list[bytes]:
    return SMALL.messages()


@pytest.mark.parametrize("vector", VECTORS, ids=["2 of 3", "3 of 5", "7 of 14", "2 of 3 with payloads"])
def test_published_vectors(vector: Vector) -> None:
    for index, secret in enumerate(vector.secrets, 1):
        digest = sha512(vector.derived(f"static_secret_key_{index}")).digest()
        assert sodium.scalar_reduce(digest) == secret
    assert cocktail.context(bytes.fromhex(vector.value["session_tag"]), vector.keys) == vector.context

    messages = vector.messages()
    for message, expected in zip(messages, vector.value["round1"], strict=True):
        dealing = Dealing.decode(message, vector.t, vector.n)
        assert list(dealing.commitments) == unhex(expected["vss_commitment"])
        assert dealing.ephemeral.hex() == expected["ephemeral_public_key"]
        assert list(dealing.proofs) == unhex([expected["pop"]])
        assert list(dealing.ciphertexts) == unhex(expected["encrypted_shares"])
        assert dealing.encode() == message

    outputs = [cocktail.round_2(vector.context, vector.t, secret, vector.keys, messages) for secret in vector.secrets]
    for index, (output, expected) in enumerate(zip(outputs, vector.value["round2"], strict=True), 1):
        assert (output.index, output.share.hex()) == (index, expected["secret_share"])
        assert output.verification_shares[index - 1].hex() == expected["verification_share"]
        assert output.public_key.hex() == vector.value["group_public_key"]
        assert output.payloads == dict(enumerate(vector.payloads, 1))

    if vector.extension:
        lengths = [len(payload).to_bytes(8, "little") + payload for payload in vector.payloads]
        assert sha512(vector.n.to_bytes(8, "little") + b"".join(lengths)).digest() == vector.extension
    text = cocktail.certified(vector.context, vector.t, vector.keys, messages, vector.extension)
    assert sha512(text).hexdigest() == vector.value["round3"]["transcript_hash"]
    signatures = [cocktail.certify(secret, text) for secret in vector.secrets]
    assert signatures == unhex(vector.value["round3"]["signatures"])
    cocktail.check_certificate(vector.keys, text, signatures)

    received = [Dealing.decode(message, vector.t, vector.n).ciphertexts for message in messages]
    for index, secret in enumerate(vector.secrets[:3], 1):
        ciphertexts = bundle([texts[index - 1] for texts in received])
        assert cocktail.recover(secret, text, signatures, ciphertexts) == outputs[index - 1]
    if "recovery" in vector.value:
        backup = vector.value["recovery"]
        again = cocktail.recover(vector.secrets[0], text, signatures, bundle(unhex(backup["ciphertexts"])))
        assert again.share.hex() == backup["recovered_secret_share"]
        assert again.verification_shares[0].hex() == backup["recovered_verification_share"]


def edited(message: bytes, start: int, new: bytes) -> bytes:
    return message[:start] + new + message[start + len(new) :]


IDENTITY = bytes(32)
LENGTHS = 2 * 32 + 64 + 32
"""Where the first length of a ciphertext is in a message of 2 of 3."""
FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "identity as first commitment": (lambda m: edited(m, 0, IDENTITY), "malformed"),
    "identity as last commitment": (lambda m: edited(m, 32, IDENTITY), "malformed"),
    "identity as ephemeral key": (lambda m: edited(m, 128, IDENTITY), "malformed"),
    "commitment of no element": (lambda m: edited(m, 32, b"\xff" * 32), "malformed"),
    "one commitment more": (lambda m: m[:64] + m[32:], "malformed"),
    "one commitment less": (lambda m: m[32:], "malformed"),
    "bytes at the end": (lambda m: m + b"\x00", "malformed"),
    "shortened": (lambda m: m[:-1], "malformed"),
    "empty": (lambda m: b"", "malformed"),
    "too long a ciphertext": (lambda m: edited(m, LENGTHS, (MAX_CIPHERTEXT_BYTES + 1).to_bytes(8, "big")), "malformed"),
    "too long a ciphertext, in full": (
        lambda m: (
            m[:LENGTHS]
            + (MAX_CIPHERTEXT_BYTES + 1).to_bytes(8, "big")
            + bytes(MAX_CIPHERTEXT_BYTES + 1)
            + m[LENGTHS + 56 :]
        ),
        "malformed",
    ),
    "too short a ciphertext": (
        lambda m: m[:LENGTHS] + (47).to_bytes(8, "big") + m[LENGTHS + 8 : LENGTHS + 55] + m[LENGTHS + 56 :],
        "malformed",
    ),
    "swapped commitments": (lambda m: m[32:64] + m[:32] + m[64:], "possession"),
    "response that is not reduced": (lambda m: edited(m, 96, b"\xff" * 32), "possession"),
    "altered response": (lambda m: edited(m, 96, bytes([m[96] ^ 1])), "possession"),
    "other ephemeral key": (lambda m: edited(m, 128, m[:32]), "possession"),
    "altered ciphertext": (lambda m: edited(m, LENGTHS + 8, bytes([m[LENGTHS + 8] ^ 1])), "ciphertext"),
    "ciphertext of another receiver": (
        lambda m: edited(m, LENGTHS + 8, m[LENGTHS + 64 : LENGTHS + 112]),
        "ciphertext",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_false_message_names_its_participant(small: list[bytes], case: str) -> None:
    change, reason = FAULTS[case]
    messages = [small[0], change(small[1]), small[2]]
    with pytest.raises(CeremonyFault) as caught:
        cocktail.round_2(SMALL.context, SMALL.t, SMALL.secrets[0], SMALL.keys, messages)
    assert caught.value.details == {"participant": 2, "reason": reason}


def test_missing_swapped_and_doubled_messages(small: list[bytes]) -> None:
    for messages, participant in (
        (small[:2], 3),
        ([small[1], small[0], small[2]], 1),
        ([small[0], small[0], small[2]], 2),
    ):
        with pytest.raises(CeremonyFault) as caught:
            cocktail.round_2(SMALL.context, SMALL.t, SMALL.secrets[0], SMALL.keys, messages)
        assert caught.value.details["participant"] == participant
    with pytest.raises(InvalidInput):
        cocktail.round_2(SMALL.context, SMALL.t, SMALL.secrets[0], SMALL.keys, [*small, small[2]])


def test_a_key_that_no_dealer_knows_has_no_proof(small: list[bytes]) -> None:
    """Check that a dealer that cancels the others' keys out (a rogue key) cannot sign under its commitment."""
    others = [Dealing.decode(message, 2, 3).commitments[0] for message in small[:2]]
    rogue = sodium.sub(sodium.scalarmult_base((5).to_bytes(32, "little")), sodium.add(*others))
    with pytest.raises(CeremonyFault) as caught:
        cocktail.decode_all(SMALL.context, 2, SMALL.keys, [*small[:2], edited(small[2], 0, rogue)])
    assert caught.value.details == {"participant": 3, "reason": "possession"}


@pytest.mark.parametrize("plaintext", [bytes(32), (Q + 1).to_bytes(32, "little"), (9).to_bytes(32, "little")])
def test_a_share_that_is_zero_or_not_the_committed_one(small: list[bytes], plaintext: bytes) -> None:
    """Let the dealer sign and encrypt as it should, but another share than it committed to."""
    first, ephemeral = (sodium.scalar_reduce(SMALL.entropy(2)[place : place + 64]) for place in (0, 128))
    valid = Dealing.decode(small[1], 2, 3)
    text = cocktail.SUITE.encrypt(ephemeral, SMALL.secrets[1], SMALL.keys[0], SMALL.context, plaintext)
    proof = cocktail.SUITE.sign(first, SMALL.context + b"".join(valid.commitments) + valid.ephemeral)
    assert (proof,) == valid.proofs
    false = Dealing(valid.commitments, (proof,), valid.ephemeral, (text, *valid.ciphertexts[1:])).encode()
    with pytest.raises(CeremonyFault) as caught:
        cocktail.round_2(SMALL.context, 2, SMALL.secrets[0], SMALL.keys, [small[0], false, small[2]])
    assert caught.value.details == {"participant": 2, "reason": "share"}


def test_a_share_for_another_session_does_not_open(small: list[bytes]) -> None:
    text = cocktail.SUITE.encrypt(SMALL.secrets[1], SMALL.secrets[1], SMALL.keys[0], b"another", bytes(32))
    messages = [small[0], edited(small[1], LENGTHS + 8, text), small[2]]
    with pytest.raises(CeremonyFault) as caught:
        cocktail.round_2(SMALL.context, 2, SMALL.secrets[0], SMALL.keys, messages)
    assert caught.value.details == {"participant": 2, "reason": "ciphertext"}


def test_an_honest_dealer_does_not_deal_zero() -> None:
    """f(1) = 7 - 7 is refused before anything is sent."""
    entropy = (7).to_bytes(64, "little") + (Q - 7).to_bytes(64, "little") + SMALL.entropy(1)[:64]
    with pytest.raises(InvalidInput):
        cocktail.round_1(SMALL.context, 2, SMALL.secrets[0], SMALL.keys, entropy)


def test_payloads_of_the_largest_size(small: list[bytes]) -> None:
    largest = b"p" * MAX_PAYLOAD_BYTES
    message = cocktail.round_1(SMALL.context, 2, SMALL.secrets[0], SMALL.keys, SMALL.entropy(1), {2: largest})
    output = cocktail.round_2(SMALL.context, 2, SMALL.secrets[1], SMALL.keys, [message, *small[1:]])
    assert output.payloads == {1: largest, 2: b"", 3: b""}
    with pytest.raises(InvalidInput):
        cocktail.round_1(SMALL.context, 2, SMALL.secrets[0], SMALL.keys, SMALL.entropy(1), {2: largest + b"p"})


@pytest.mark.parametrize("threshold", [0, 4])
def test_impossible_thresholds(threshold: int) -> None:
    with pytest.raises(InvalidInput):
        cocktail.round_1(SMALL.context, threshold, SMALL.secrets[0], SMALL.keys, bytes(64))


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"\x01" * 31, SMALL.keys[0]])
def test_static_keys_that_are_no_elements_or_doubled(key: bytes) -> None:
    keys = [SMALL.keys[0], key, SMALL.keys[2]]
    with pytest.raises(CeremonyFault) as caught:
        cocktail.round_1(SMALL.context, 2, SMALL.secrets[0], keys, SMALL.entropy(1))
    assert caught.value.details == {"participant": 2, "reason": "key"}


def test_a_secret_of_no_participant_and_wrong_amounts_of_random_bytes() -> None:
    stranger = (3).to_bytes(32, "little")
    for secret, entropy in ((stranger, SMALL.entropy(1)), (SMALL.secrets[0], SMALL.entropy(1)[:-1])):
        with pytest.raises(InvalidInput):
            cocktail.round_1(SMALL.context, 2, secret, SMALL.keys, entropy)
    assert cocktail.entropy_bytes(2) == len(SMALL.entropy(1))


def test_recovery_refuses_other_backups(small: list[bytes]) -> None:
    text = cocktail.certified(SMALL.context, 2, SMALL.keys, small)
    signatures = unhex(SMALL.value["round3"]["signatures"])
    backup = bundle(unhex(SMALL.value["recovery"]["ciphertexts"]))
    own = SMALL.secrets[0]
    with pytest.raises(CeremonyFault) as caught:
        cocktail.recover(own, text, [signatures[0], signatures[0], signatures[2]], backup)
    assert caught.value.details == {"participant": 2, "reason": "certificate"}
    with pytest.raises(CeremonyFault) as caught:
        cocktail.recover(own, text, signatures[:2], backup)
    assert caught.value.details == {"participant": 3, "reason": "certificate"}
    for ciphertexts in (backup + b"\x00", backup[:-1], b""):
        with pytest.raises(InvalidEncoding):
            cocktail.recover(own, text, signatures, ciphertexts)
    with pytest.raises(CeremonyFault) as caught:
        cocktail.recover(own, text, signatures, edited(backup, 2 * 56 + 8, bytes(48)))
    assert caught.value.details == {"participant": 3, "reason": "ciphertext"}
    for changed in (text + b"\x00", text[:-1], edited(text, 8, b"Cocktail"), b""):
        with pytest.raises(InvalidEncoding):
            cocktail.recover(own, changed, signatures, backup)
    with pytest.raises(CeremonyFault):
        cocktail.recover(own, edited(text, 60, bytes([text[60] ^ 1])), signatures, backup)
    with pytest.raises(InvalidInput):
        cocktail.recover((3).to_bytes(32, "little"), text, signatures, backup)
