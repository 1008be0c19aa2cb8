"""Against an independent implementation, the PyPI package `voprf` (Rust): their client with our server and back."""

from __future__ import annotations

from hashlib import sha512

import pytest
from voprf import ristretto

from ledger.protocol import sodium, voprf
from ledger.protocol.threshold import HolderKey, KeySet, Share, combine, interpolate, verify_share
from tests.oracles import shamir_share

SEED, INFO = bytes(range(32)), b"interop"
NONCE = bytes(range(64))
PROOF_BYTES = 64


def finalize(message: bytes, element: bytes) -> bytes:
    return sha512(len(message).to_bytes(2, "big") + message + b"\x00\x20" + element + b"Finalize").digest()


def inputs_of(count: int) -> list[bytes]:
    return [b"email:buyer-%d@example.com" % i for i in range(count)]


def blinds_of(count: int) -> list[bytes]:
    return [voprf.blinding_scalar(sha512(b"blind %d" % i).digest()) for i in range(count)]


def their_answer(server: ristretto.Evaluator, blinded: list[bytes]) -> tuple[tuple[bytes, ...], bytes]:
    """Their batch output on the wire is the proof, then the elements."""
    out = server.evaluate_batch([ristretto.BlindedInput.deserialize(b) for b in blinded]).serialize()
    elements = out[PROOF_BYTES:]
    return tuple(elements[i : i + 32] for i in range(0, len(elements), 32)), out[:PROOF_BYTES]


def test_keys_agree() -> None:
    server = ristretto.Evaluator.from_seed(SEED, INFO)
    assert server.public_key.serialize() == voprf.public_key(voprf.derive_secret(SEED, INFO))


@pytest.mark.parametrize("count", [1, 2, 50])
def test_our_client_with_their_server(count: int) -> None:
    server = ristretto.Evaluator.from_seed(SEED, INFO)
    inputs, blinds = inputs_of(count), blinds_of(count)
    blinded = voprf.blind(inputs, blinds)
    evaluated, proof = their_answer(server, blinded)
    keys = KeySet.single("theirs", server.public_key.serialize())
    elements = combine(blinds, [verify_share(keys, blinded, Share(1, 1, evaluated, proof))])
    outputs = [finalize(x, t) for x, t in zip(inputs, elements, strict=True)]
    assert outputs == [server.evaluate_known_input(x) for x in inputs]


@pytest.mark.parametrize("count", [1, 2, 50])
def test_their_client_with_our_server(count: int) -> None:
    secret = voprf.derive_secret(SEED, INFO)
    inputs = inputs_of(count)
    blindings = [ristretto.Client.blind(x) for x in inputs]
    evaluation = voprf.evaluate(secret, [b.serialize() for _, b in blindings], NONCE)
    output = ristretto.VerifiableBatchOutput.deserialize(evaluation.proof + b"".join(evaluation.evaluated))
    key = ristretto.PublicKey.deserialize(voprf.public_key(secret))
    outputs = ristretto.Client.finalize_batch([client for client, _ in blindings], output, key)
    assert outputs == [finalize(x, sodium.scalarmult(secret, voprf.hash_to_group(x))) for x in inputs]


def test_their_single_evaluation() -> None:
    server = ristretto.Evaluator.from_seed(SEED, INFO)
    inputs, blinds = inputs_of(1), blinds_of(1)
    blinded = voprf.blind(inputs, blinds)
    out = server.evaluate(ristretto.BlindedInput.deserialize(blinded[0])).serialize()
    keys = KeySet.single("theirs", server.public_key.serialize())
    share = verify_share(keys, blinded, Share(1, 1, (out[PROOF_BYTES:],), out[:PROOF_BYTES]))
    element = combine(blinds, [share])[0]
    assert finalize(inputs[0], element) == server.evaluate_known_input(inputs[0])


def test_their_client_refuses_our_proof_under_another_key() -> None:
    secret = voprf.derive_secret(SEED, INFO)
    client, blinded = ristretto.Client.blind(b"x")
    evaluation = voprf.evaluate(secret, [blinded.serialize()], NONCE)
    output = ristretto.VerifiableOutput.deserialize(evaluation.proof + evaluation.evaluated[0])
    other = ristretto.PublicKey.deserialize(voprf.public_key(voprf.derive_secret(SEED, b"another")))
    with pytest.raises(ValueError, match=r".+"):
        client.finalize(output, other)


def test_a_holder_of_each_implementation() -> None:
    """A sharing 2 of 3 whose polynomial goes through their key at index 1 and ours at index 3."""
    their_secret, our_secret = voprf.derive_secret(SEED, INFO), voprf.derive_secret(SEED, b"ours")
    theirs = ristretto.Evaluator.from_seed(SEED, INFO)
    order = sodium.GROUP_ORDER
    first, third = (int.from_bytes(part, "little") for part in (their_secret, our_secret))
    slope = (third - first) * pow(2, -1, order) % order
    whole = ((first - slope) % order).to_bytes(32, "little")
    assert shamir_share(whole, [slope.to_bytes(32, "little")], 3) == our_secret
    public = {1: theirs.public_key.serialize(), 3: voprf.public_key(our_secret)}
    public[2] = interpolate([*public.items()], 2)
    holders = tuple([HolderKey(index, f"h{index}", key) for index, key in public.items()])
    keys = KeySet(1, 2, voprf.public_key(whole), holders)
    inputs, blinds = inputs_of(3), blinds_of(3)
    blinded = voprf.blind(inputs, blinds)
    evaluation = voprf.evaluate(our_secret, blinded, NONCE)
    shares = [Share(1, 1, *their_answer(theirs, blinded)), Share(1, 3, evaluation.evaluated, evaluation.proof)]
    elements = combine(blinds, [verify_share(keys, blinded, share) for share in shares])
    assert elements == [sodium.scalarmult(whole, voprf.hash_to_group(x)) for x in inputs]
