"""RFC 9497 up to Finalize: the RFC's vectors, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import (
    BatchSizeInvalid,
    IdentityPoint,
    InvalidInput,
    InvalidPoint,
    InvalidProof,
    InvalidScalar,
)
from ledger.protocol import sodium, voprf
from ledger.protocol.threshold import KeySet, Share, combine, verify_share
from tests.counts import trials

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors" / "rfc9497_ristretto255.json"
MODE_VOPRF = 1

# RFC 9497 appendix A.1.2, ristretto255-SHA512, mode VOPRF: the third vector, a batch of two.
SEED, KEY_INFO = bytes.fromhex("a3" * 32), b"test key"
SECRET = bytes.fromhex("e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909")
PUBLIC_KEY = bytes.fromhex("c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e")
INPUTS = [b"\x00", b"\x5a" * 17]
BLINDS = [
    bytes.fromhex("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706"),
    bytes.fromhex("222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e"),
]
BLINDED = [
    bytes.fromhex("863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945"),
    bytes.fromhex("90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654"),
]
EVALUATED = [
    bytes.fromhex("aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e"),
    bytes.fromhex("cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a"),
]
R = bytes.fromhex("419c4f4f5052c53c45f3da494d2b67b220d02118e0857cdbcf037f9ea84bbe0c")
PROOF = bytes.fromhex(
    "cc203910175d786927eeb44ea847328047892ddf8590e723c37205cb74600b0a"
    "5ab5337c8eb4ceae0494c2cf89529dcf94572ed267473d567aeed6ab873dee08"
)
OUTPUTS = [
    "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7da4d8527693914139caee5bd03903af43a491351d23b430948"
    "dd50cde10d32b3c",
    "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60356f4610bf816f27afdd84f47719e480906d27ecd99498589"
    "0e5f539e7ea74b6",
]

NONCE = bytes(range(64))
OTHER_SECRET = voprf.derive_secret(bytes(32), b"another holder")
IDENTITY = bytes(32)
NOT_CANONICAL = bytes.fromhex("00" + "ff" * 31)
ORDER = sodium.GROUP_ORDER.to_bytes(32, "little")


def finalize(message: bytes, element: bytes) -> bytes:
    """The last step of RFC 9497, which the ledger leaves out (section 3.3.1)."""
    return sha512(len(message).to_bytes(2, "big") + message + b"\x00\x20" + element + b"Finalize").digest()


def share(secret: bytes, blinded: Sequence[bytes]) -> Share:
    evaluation = voprf.evaluate(secret, blinded, NONCE)
    return Share(1, 1, evaluation.evaluated, evaluation.proof)


def unblind(public_key: bytes, blinds: Sequence[bytes], blinded: Sequence[bytes], answer: Share) -> list[bytes]:
    """The elements, from one holder that has the whole key."""
    return combine(blinds, [verify_share(KeySet.single("a", public_key), blinded, answer)])


def many(count: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    inputs = [b"phone:+86138%08d" % i for i in range(count)]
    blinds = [voprf.blinding_scalar(sha512(b"blind" + message).digest()) for message in inputs]
    return inputs, blinds, voprf.blind(inputs, blinds)


def flip(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")


def test_rfc_vector_retyped() -> None:
    assert voprf.derive_secret(SEED, KEY_INFO) == SECRET
    assert voprf.public_key(SECRET) == PUBLIC_KEY
    assert voprf.blind(INPUTS, BLINDS) == BLINDED
    assert sodium.scalarmult_many(SECRET, BLINDED) == EVALUATED
    assert voprf.generate_proof(SECRET, BLINDED, EVALUATED, R) == PROOF
    voprf.verify(PUBLIC_KEY, BLINDED, EVALUATED, PROOF)
    elements = unblind(PUBLIC_KEY, BLINDS, BLINDED, Share(1, 1, tuple(EVALUATED), PROOF))
    assert [finalize(x, t).hex() for x, t in zip(INPUTS, elements, strict=True)] == OUTPUTS


def rfc_cases() -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param(None, None, marks=pytest.mark.skip(reason="shared/vectors is not beside this checkout"))]
    suites = json.loads(VECTORS.read_text())
    return [
        pytest.param(suite, vector, id=f"vector {i}")
        for suite in suites
        if suite["mode"] == MODE_VOPRF and suite["identifier"] == voprf.SUITE
        for i, vector in enumerate(suite["vectors"], 1)
    ]


@pytest.mark.parametrize(("suite", "vector"), rfc_cases())
def test_every_rfc_vector(suite: dict[str, Any], vector: dict[str, Any]) -> None:
    def values(name: str) -> list[bytes]:
        return [bytes.fromhex(part) for part in vector[name].split(",")]

    secret = voprf.derive_secret(bytes.fromhex(suite["seed"]), bytes.fromhex(suite["keyInfo"]))
    key = voprf.public_key(secret)
    assert (secret.hex(), key.hex()) == (suite["skSm"], suite["pkSm"])
    inputs, blinds, blinded = values("Input"), values("Blind"), values("BlindedElement")
    evaluated, proof = values("EvaluationElement"), bytes.fromhex(vector["Proof"]["proof"])
    assert len(inputs) == vector["Batch"]
    assert voprf.blind(inputs, blinds) == blinded
    assert list(voprf.evaluate(secret, blinded, NONCE).evaluated) == evaluated
    assert voprf.generate_proof(secret, blinded, evaluated, bytes.fromhex(vector["Proof"]["r"])) == proof
    elements = unblind(key, blinds, blinded, Share(1, 1, tuple(evaluated), proof))
    assert [finalize(x, t) for x, t in zip(inputs, elements, strict=True)] == values("Output")


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.binary(min_size=32, max_size=32), st.data())
@settings(deadline=None, max_examples=trials(24, 40))
def test_blinding_never_changes_the_element(inputs: list[bytes], seed: bytes, data: st.DataObject) -> None:
    secret = voprf.derive_secret(seed, b"property")
    uniform = st.binary(min_size=64, max_size=64).filter(lambda u: int.from_bytes(u, "little") % sodium.GROUP_ORDER)
    blinds = [voprf.blinding_scalar(data.draw(uniform)) for _ in inputs]
    blinded = voprf.blind(inputs, blinds)
    elements = unblind(voprf.public_key(secret), blinds, blinded, share(secret, blinded))
    assert elements == [sodium.scalarmult(secret, voprf.hash_to_group(x)) for x in inputs]


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("count", [1, 63, 64, 101])
def test_threads_give_the_same_evaluation(count: int, workers: int) -> None:
    _, _, blinded = many(count)
    assert voprf.evaluate(SECRET, blinded, NONCE, workers=workers) == voprf.evaluate(SECRET, blinded, NONCE)


def test_a_batch_of_1000_and_no_more() -> None:
    _, _, blinded = many(2)
    full = (blinded * 500)[: voprf.MAX_BATCH]
    evaluation = voprf.evaluate(SECRET, full, NONCE, workers=2)
    voprf.verify(PUBLIC_KEY, full, evaluation.evaluated, evaluation.proof)
    for wrong in ([], [*full, blinded[0]]):
        with pytest.raises(BatchSizeInvalid):
            voprf.evaluate(SECRET, wrong, NONCE)
        with pytest.raises(BatchSizeInvalid):
            voprf.verify(PUBLIC_KEY, wrong, wrong, evaluation.proof)
        with pytest.raises(BatchSizeInvalid):
            voprf.blind(wrong, [BLINDS[0]] * len(wrong))
        with pytest.raises(BatchSizeInvalid):
            unblind(PUBLIC_KEY, [BLINDS[0]] * len(wrong), wrong, Share(1, 1, tuple(wrong), evaluation.proof))


def test_the_proof_nonce_is_hedged() -> None:
    first = voprf.evaluate(SECRET, BLINDED, NONCE)
    assert voprf.evaluate(SECRET, BLINDED, NONCE) == first
    assert voprf.evaluate(SECRET, BLINDED, bytes(64)).proof != first.proof
    # One nonce for two batches: were r the same, (s1 - s2) / (c2 - c1) would be the secret.
    second = voprf.evaluate(SECRET, BLINDED[::-1], NONCE)
    (c1, s1), (c2, s2) = ((e.proof[:32], e.proof[32:]) for e in (first, second))
    recovered = sodium.scalar_mul(sodium.scalar_sub(s1, s2), sodium.scalar_invert(sodium.scalar_sub(c2, c1)))
    assert recovered != SECRET


def test_a_repeated_r_would_reveal_the_secret() -> None:
    # Why `evaluate` derives r: this is what `generate_proof` with one r for two batches gives away.
    proofs = [voprf.generate_proof(SECRET, BLINDED[::o], EVALUATED[::o], R) for o in (1, -1)]
    (c1, s1), (c2, s2) = ((p[:32], p[32:]) for p in proofs)
    recovered = sodium.scalar_mul(sodium.scalar_sub(s1, s2), sodium.scalar_invert(sodium.scalar_sub(c2, c1)))
    assert recovered == SECRET


BAD_POINTS = {
    "truncated": (BLINDED[0][:31], InvalidPoint),
    "over-long": (BLINDED[0] + b"\x00", InvalidPoint),
    "empty": (b"", InvalidPoint),
    "not canonical": (NOT_CANONICAL, InvalidPoint),
    "identity": (IDENTITY, IdentityPoint),
}
bad_point = pytest.mark.parametrize(("bad", "error"), BAD_POINTS.values(), ids=BAD_POINTS.keys())


@bad_point
@pytest.mark.parametrize("workers", [1, 2])
def test_evaluate_refuses_bad_elements(bad: bytes, error: type[InvalidPoint], workers: int) -> None:
    _, _, blinded = many(70)
    for position in (0, 69):
        batch = blinded.copy()
        batch[position] = bad
        with pytest.raises(error):
            voprf.evaluate(SECRET, batch, NONCE, workers=workers)


@bad_point
def test_check_element_and_the_callers_own_values(bad: bytes, error: type[InvalidPoint]) -> None:
    voprf.check_element(EVALUATED[0])
    with pytest.raises(error):
        voprf.check_element(bad)
    with pytest.raises(error):
        voprf.verify(bad, BLINDED, EVALUATED, PROOF)
    with pytest.raises(error):
        voprf.verify(PUBLIC_KEY, [bad, BLINDED[1]], EVALUATED, PROOF)


@bad_point
def test_verify_blames_the_holder_for_bad_elements(bad: bytes, error: type[InvalidPoint]) -> None:
    with pytest.raises(InvalidProof):
        voprf.verify(PUBLIC_KEY, BLINDED, [EVALUATED[0], bad], PROOF)


@pytest.mark.parametrize("bad", [IDENTITY, ORDER, b"\xff" * 32, SECRET[:31], SECRET + b"\x00", b""])
def test_bad_scalars_are_refused(bad: bytes) -> None:
    for call in (
        lambda: voprf.public_key(bad),
        lambda: voprf.evaluate(bad, BLINDED, NONCE),
        lambda: voprf.generate_proof(bad, BLINDED, EVALUATED, R),
        lambda: voprf.generate_proof(SECRET, BLINDED, EVALUATED, bad),
        lambda: voprf.blind(INPUTS, [BLINDS[0], bad]),
        lambda: unblind(PUBLIC_KEY, [BLINDS[0], bad], BLINDED, share(SECRET, BLINDED)),
    ):
        with pytest.raises(InvalidScalar):
            call()


def test_lengths_are_checked() -> None:
    for call in (
        lambda: voprf.derive_secret(bytes(31), b""),
        lambda: voprf.derive_secret(bytes(33), b""),
        lambda: voprf.derive_secret(bytes(32), bytes(2**16)),
        lambda: voprf.hash_to_group(bytes(2**16)),
        lambda: voprf.evaluate(SECRET, BLINDED, bytes(63)),
        lambda: voprf.blinding_scalar(bytes(32)),
    ):
        with pytest.raises(InvalidInput):
            call()
    with pytest.raises(BatchSizeInvalid):
        voprf.blind(INPUTS, BLINDS[:1])
    with pytest.raises(BatchSizeInvalid):
        unblind(PUBLIC_KEY, BLINDS[:1], BLINDED, share(SECRET, BLINDED))
    with pytest.raises(BatchSizeInvalid):
        voprf.generate_proof(SECRET, BLINDED, EVALUATED[:1], R)


C, S = PROOF[:32], PROOF[32:]
FALSE_PROOFS: dict[str, bytes] = {
    "empty": b"",
    "truncated": PROOF[:63],
    "over-long": PROOF + b"\x00",
    "zeros": bytes(64),
    "c zero": IDENTITY + S,
    "s zero": C + IDENTITY,
    "halves swapped": S + C,
    "c not canonical": (int.from_bytes(C, "little") + sodium.GROUP_ORDER).to_bytes(32, "little") + S,
    "s not canonical": C + (int.from_bytes(S, "little") + sodium.GROUP_ORDER).to_bytes(32, "little"),
    "of another key": voprf.generate_proof(OTHER_SECRET, BLINDED, EVALUATED, R),
    "of another batch": voprf.generate_proof(SECRET, BLINDED[:1], EVALUATED[:1], R),
}


@pytest.mark.parametrize("proof", FALSE_PROOFS.values(), ids=FALSE_PROOFS.keys())
def test_false_proofs_are_refused(proof: bytes) -> None:
    with pytest.raises(InvalidProof):
        voprf.verify(PUBLIC_KEY, BLINDED, EVALUATED, proof)
    with pytest.raises(InvalidProof):
        unblind(PUBLIC_KEY, BLINDS, BLINDED, Share(1, 1, tuple(EVALUATED), proof))


@given(st.integers(0, 511))
@settings(deadline=None, max_examples=trials(36, 60))
def test_one_flipped_bit_breaks_a_proof(bit: int) -> None:
    with pytest.raises(InvalidProof):
        voprf.verify(PUBLIC_KEY, BLINDED, EVALUATED, flip(PROOF, bit))


FALSE_ANSWERS: dict[str, Sequence[bytes]] = {
    "swapped": EVALUATED[::-1],
    "one missing": EVALUATED[:1],
    "one too many": [*EVALUATED, EVALUATED[0]],
    "one doubled": [EVALUATED[0], EVALUATED[0]],
    "not evaluated": BLINDED,
    "by another key": sodium.scalarmult_many(OTHER_SECRET, BLINDED),
    "one by another key": [EVALUATED[0], sodium.scalarmult(OTHER_SECRET, BLINDED[1])],
}


@pytest.mark.parametrize("evaluated", FALSE_ANSWERS.values(), ids=FALSE_ANSWERS.keys())
def test_false_answers_are_refused(evaluated: Sequence[bytes]) -> None:
    with pytest.raises(InvalidProof):
        voprf.verify(PUBLIC_KEY, BLINDED, evaluated, PROOF)
    # Also when the holder makes the proof for just these elements: it cannot prove what is false.
    if len(evaluated) == len(BLINDED):
        with pytest.raises(InvalidProof):
            voprf.verify(PUBLIC_KEY, BLINDED, evaluated, voprf.generate_proof(SECRET, BLINDED, evaluated, R))


def test_errors_that_cancel_in_a_plain_sum_are_still_found() -> None:
    # +X on one element and -X on the other: only the weights of the composite tell.
    off = voprf.hash_to_group(b"offset")
    evaluated = [sodium.add(EVALUATED[0], off), sodium.sub(EVALUATED[1], off)]
    with pytest.raises(InvalidProof):
        voprf.verify(PUBLIC_KEY, BLINDED, evaluated, voprf.generate_proof(SECRET, BLINDED, evaluated, R))


def test_a_wrong_public_key_or_batch_order_is_refused() -> None:
    with pytest.raises(InvalidProof):
        voprf.verify(voprf.public_key(OTHER_SECRET), BLINDED, EVALUATED, PROOF)
    with pytest.raises(InvalidProof):
        voprf.verify(PUBLIC_KEY, BLINDED[::-1], EVALUATED, PROOF)
    voprf.verify(PUBLIC_KEY, BLINDED[::-1], EVALUATED[::-1], voprf.evaluate(SECRET, BLINDED[::-1], NONCE).proof)
