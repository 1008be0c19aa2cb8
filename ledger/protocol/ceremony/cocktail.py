"""Key generation without a dealer: C2SP cocktail-dkg v0.2.1, COCKTAIL(Ristretto255, SHA-512). Pure.

The three rounds byte for byte, for participants 1..n with static keys P_1..P_n and a threshold t: `round_1` deals,
`round_2` opens and checks, `certify` and `check_certificate` make all agree, `recover` repeats the result from a
backup. The sum of all n dealt polynomials is the sharing; no participant knows its constant term. Every participant
gets all n messages in full, so that the coordinator's projection (msg_2) is not needed.

`ledger.protocol.ceremony.rounds` runs these messages inside signed frames, and lets the extension of the transcript
bind every byte of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ledger.errors import CeremonyFault, InvalidEncoding, InvalidInput, InvalidPoint
from ledger.protocol import polynomials, sodium
from ledger.protocol.ceremony.ciphersuite import SIGNATURE_BYTES
from ledger.protocol.ceremony.dealing import Dealing, DealingFault, column_sums, deal, take_bundle, transcript
from ledger.protocol.ceremony.envelope import Reader
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.session import SUITES

SUITE = SUITES[CeremonyKind.GENERATE]
MAX_PARTICIPANTS = 2**32 - 1

_UNIFORM = sodium.UNIFORM_BYTES


@dataclass(frozen=True, slots=True)
class DkgOutput:
    """What one participant has after round 2: its index, its secret share x_i, Y, all Y_j, and the payloads that it
    received, by sender."""

    index: int
    share: bytes = field(repr=False)
    public_key: bytes
    verification_shares: tuple[bytes, ...]
    payloads: Mapping[int, bytes] = field(repr=False)


def context(session_id: bytes, keys: Sequence[bytes]) -> bytes:
    """Return the context that the specification recommends. `session_id` is never used twice."""
    return SUITE.context(session_id, keys)


def entropy_bytes(threshold: int) -> int:
    """Return how many random bytes `round_1` takes: 64 for each coefficient and 64 for the ephemeral key."""
    return (threshold + 1) * _UNIFORM


def secret_scalars(entropy: bytes, count: int) -> list[bytes]:
    """Return `count` secret scalars, each from 64 random bytes. Raises InvalidInput for another length."""
    if len(entropy) != count * _UNIFORM:
        raise InvalidInput(f"This step of a ceremony takes {count * _UNIFORM} random bytes.")
    return [sodium.scalar_reduce(entropy[place : place + _UNIFORM]) for place in range(0, len(entropy), _UNIFORM)]


def round_1(
    session_context: bytes,
    threshold: int,
    secret: bytes,
    keys: Sequence[bytes],
    entropy: bytes,
    payloads: Mapping[int, bytes] | None = None,
) -> bytes:
    """Return msg_1 of the participant with the static `secret`; `payloads` are by the index of their receiver.

    Raises InvalidInput (threshold, lengths, a secret of no participant), InvalidScalar, and CeremonyFault for a static
    key that is no element or is doubled.
    """
    check_setup(threshold, keys)
    if sodium.scalarmult_base(secret) not in keys:
        raise InvalidInput("This secret is of no participant's static key.")
    *coefficients, ephemeral = secret_scalars(entropy, threshold + 1)
    sent = payloads or {}
    receivers = [(index, key, sent.get(index, b"")) for index, key in enumerate(keys, 1)]
    return deal(SUITE, session_context, coefficients, ephemeral, secret, receivers).encode()


def round_2(
    session_context: bytes, threshold: int, secret: bytes, keys: Sequence[bytes], messages: Sequence[bytes]
) -> DkgOutput:
    """Return what the participant with the static `secret` gets from all n messages of round 1, its own included.

    Raises CeremonyFault with the index of the participant at fault; InvalidInput and InvalidScalar as `round_1`.
    """
    index = _index_of(threshold, secret, keys)
    dealings = decode_all(session_context, threshold, keys, messages)
    return _open(session_context, secret, keys, index, dealings)


def certified(
    session_context: bytes, threshold: int, keys: Sequence[bytes], messages: Sequence[bytes], extension: bytes = b""
) -> bytes:
    """Return the transcript T of round 3. Raises CeremonyFault as `round_2`."""
    check_setup(threshold, keys)
    dealings = decode_all(session_context, threshold, keys, messages)
    return transcript(SUITE, session_context, threshold, keys, dealings, extension)


def certify(secret: bytes, text: bytes) -> bytes:
    """Return the signature of a participant over the transcript. Raises InvalidScalar."""
    return SUITE.sign(secret, text)


def check_certificate(keys: Sequence[bytes], text: bytes, signatures: Sequence[bytes]) -> None:
    """Check the signatures of all participants over the transcript, in order. Raises CeremonyFault with the index of
    the first that is false or missing; InvalidInput if there are more than participants."""
    if len(signatures) > len(keys):
        raise InvalidInput("There are more signatures than participants.")
    for index, key in enumerate(keys, 1):
        if index > len(signatures) or not SUITE.verifies(key, text, signatures[index - 1]):
            raise CeremonyFault("A certificate is missing or false.", participant=index, reason="certificate")


def decode_all(
    session_context: bytes, threshold: int, keys: Sequence[bytes], messages: Sequence[bytes]
) -> list[Dealing]:
    """Return the checked dealings of all participants. Raises CeremonyFault; InvalidInput for more messages than
    participants."""
    if len(messages) > len(keys):
        raise InvalidInput("There are more messages than participants.")
    dealings = []
    for index in range(1, len(keys) + 1):
        if index > len(messages):
            raise CeremonyFault("The message of a participant is missing.", participant=index, reason="missing")
        try:
            dealing = Dealing.decode(messages[index - 1], threshold, len(keys))
            dealing.check_proofs(SUITE, session_context)
        except DealingFault as error:
            raise CeremonyFault(str(error), participant=index, reason=error.reason) from error
        dealings.append(dealing)
    return dealings


def recover(secret: bytes, text: bytes, signatures: Sequence[bytes], ciphertexts: bytes) -> DkgOutput:
    """Return a participant's output again, from its static secret, the transcript T, all signatures over it, and the
    bundle of the ciphertexts that were sent to it.

    Raises InvalidEncoding for a transcript or bundle of another form, CeremonyFault for what does not verify, and
    InvalidInput for a secret of no participant.
    """
    reader = Reader(text)
    if reader.take(int.from_bytes(reader.take(8), "little")) != SUITE.suite_id:
        raise InvalidEncoding("The transcript is of another ciphersuite.")
    session_context = reader.take(int.from_bytes(reader.take(8), "little"))
    count, threshold = (int.from_bytes(reader.take(4), "little") for _ in range(2))
    keys = reader.take_each(count, sodium.POINT_BYTES)
    commitments = [reader.take_each(threshold, sodium.POINT_BYTES) for _ in range(count)]
    proofs = reader.take_each(count, SIGNATURE_BYTES)
    ephemerals = reader.take_each(count, sodium.POINT_BYTES)
    reader.take(int.from_bytes(reader.take(8), "little"))
    reader.end()
    check_setup(threshold, keys)
    check_certificate(keys, text, signatures)
    bundled = Reader(ciphertexts)
    received = take_bundle(bundled, count)
    bundled.end()
    index = _index_of(threshold, secret, keys)
    dealings = []
    for place in range(count):
        try:
            for point in (*commitments[place], ephemerals[place]):
                sodium.check_point(point)
        except InvalidPoint as error:
            raise CeremonyFault(str(error), participant=place + 1, reason="malformed") from error
        texts = (b"",) * (index - 1) + (received[place],)
        dealings.append(Dealing(commitments[place], (proofs[place],), ephemerals[place], texts))
    return _open(session_context, secret, keys, index, dealings)


def check_setup(threshold: int, keys: Sequence[bytes]) -> None:
    """Check threshold and static keys. Raises InvalidInput; CeremonyFault with the index of a key that is no element or
    is doubled."""
    if not 1 <= threshold <= len(keys) <= MAX_PARTICIPANTS:
        raise InvalidInput("The threshold is from 1 to the number of participants.")
    seen: set[bytes] = set()
    for index, key in enumerate(keys, 1):
        try:
            sodium.check_point(key)
        except InvalidPoint as error:
            raise CeremonyFault(str(error), participant=index, reason="key") from error
        if key in seen:
            raise CeremonyFault("Two participants have one static key.", participant=index, reason="key")
        seen.add(key)


def _index_of(threshold: int, secret: bytes, keys: Sequence[bytes]) -> int:
    check_setup(threshold, keys)
    public = sodium.scalarmult_base(secret)
    if public not in keys:
        raise InvalidInput("This secret is of no participant's static key.")
    return keys.index(public) + 1


def _open(
    session_context: bytes, secret: bytes, keys: Sequence[bytes], index: int, dealings: Sequence[Dealing]
) -> DkgOutput:
    shares, payloads = [], {}
    for sender, dealing in enumerate(dealings, 1):
        try:
            share, payload = dealing.open_share(SUITE, session_context, secret, keys[sender - 1], index, index - 1)
        except DealingFault as error:
            raise CeremonyFault(str(error), participant=sender, reason=error.reason) from error
        shares.append(share)
        payloads[sender] = payload
    total = polynomials.sum_of_scalars(shares)
    sums = column_sums(dealings)
    verification = tuple([polynomials.commitment_at(sums, place) for place in range(1, len(keys) + 1)])
    if sodium.scalarmult_base(total) != verification[index - 1]:
        raise CeremonyFault("The sum of the shares is not the committed one.", participant=None, reason="sum")
    return DkgOutput(index, total, sums[0], verification, payloads)
