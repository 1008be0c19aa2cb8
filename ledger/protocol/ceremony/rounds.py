"""The three steps of every ceremony: `deal`, `certify`, `finish`. Pure.

    deal     each participant writes a signed message for all (in `reshare` also those that only receive: an empty one)
    certify  with the messages of all: each checks every dealing, opens its own shares, and signs the transcript
    finish   with the certificates of all: only now there is a result

Messages are given by the number of the participant that they were received from, so that a doubled, swapped or foreign
one names it. The transcript's extension hashes the messages of all in full and the caller's own extension, so that
participants with different views of any byte certify different transcripts.

A step returns the private state for the next one, as bytes. It is secret until the ceremony is over, and is then
destroyed with the older one. A participant certifies a session once: a step that is repeated gets the same arguments,
and then gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha512
from typing import Any

from ledger.errors import (
    CeremonyFault,
    CeremonyMismatch,
    HolderMismatch,
    IdentityPoint,
    InvalidInput,
    InvalidScalar,
    LedgerError,
)
from ledger.protocol import polynomials, sodium
from ledger.protocol.ceremony import dealing, refresh, reshare, rotation
from ledger.protocol.ceremony.cocktail import secret_scalars
from ledger.protocol.ceremony.dealing import Dealing, DealingFault
from ledger.protocol.ceremony.envelope import (
    CERTIFIED_BYTES,
    ROUND_CERTIFY,
    ROUND_DEAL,
    digest,
    fault,
    open_message,
    seal,
)
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.session import (
    CeremonyParticipant,
    CeremonySession,
    keys_from_json,
    keys_to_json,
)
from ledger.protocol.encoding import b64url, canonical_json, unb64url
from ledger.protocol.threshold import KeySet

_EXTENSION_LABEL = b"RefundLedgerCeremonyExtension-v1"
_ZERO_SHARED = frozenset({CeremonyKind.REFRESH, CeremonyKind.ROTATE})


@dataclass(frozen=True, slots=True)
class CeremonyStep:
    """The message of one step, for all participants, and the private state for the next step."""

    message: bytes
    state: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CeremonyResult:
    """The new sharing, and the participant's place in it: `index` and `share` are None for a holder that leaves.

    `factor` is rho of a rotation. `transcript` and `signatures`, in the order of the participants, prove that all
    agreed.
    """

    keys: KeySet
    index: int | None
    share: bytes | None = field(repr=False)
    factor: bytes | None = field(repr=False)
    transcript: bytes
    signatures: tuple[bytes, ...]


def entropy_bytes(session: CeremonySession, number: int) -> int:
    """Return how many random bytes `deal` takes from participant `number`. Raises InvalidInput for an unknown one."""
    if session.at(number).dealer is None:
        return 0
    own = rotation.ENTROPY_BYTES if session.kind is CeremonyKind.ROTATE else 0
    return (_random_coefficients(session) + 1) * sodium.UNIFORM_BYTES + own


def deal(
    session: CeremonySession, number: int, secret: bytes, entropy: bytes, share: bytes | None = None
) -> CeremonyStep:
    """Return the message of participant `number` for round 1. `secret` is that of its static key, `entropy` fresh
    random bytes, and `share` its share of the present sharing, which dealers give in every kind but `generate`.

    Raises InvalidInput (another participant's secret or share, the length of `entropy`), InvalidScalar.
    """
    who = _own(session, number, secret)
    if len(entropy) != entropy_bytes(session, number):
        raise InvalidInput(f"This step of a ceremony takes {entropy_bytes(session, number)} random bytes.")
    _check_share(session, who, share)
    body, factor = b"", None
    if who.dealer is not None:
        split = (_random_coefficients(session) + 1) * sodium.UNIFORM_BYTES
        *coefficients, ephemeral = secret_scalars(entropy[:split], _random_coefficients(session) + 1)
        payload = b""
        if session.kind is CeremonyKind.ROTATE:
            factor = rotation.FactorSecrets.of(entropy[split:])
            body, payload = factor.commitments(session, number), factor.reveal_key
        if session.kind is CeremonyKind.RESHARE and share is not None:
            coefficients.insert(0, reshare.constant_term(session, who, share))
        receivers = [(index, receiver.key, payload) for index, receiver in session.receivers]
        suite, first = session.suite, _first(session)
        body += dealing.deal(suite, session.context, coefficients, ephemeral, secret, receivers, first).encode()
    message = seal(session, ROUND_DEAL, number, secret, body)
    secrets = None if factor is None else [factor.factor, factor.opening, factor.reveal_key, factor.ephemeral]
    return CeremonyStep(message, _write_state(session, number, "deal", message=digest(message), factor=secrets))


def certify(
    session: CeremonySession, state: bytes, secret: bytes, messages: Mapping[int, bytes], extension: bytes = b""
) -> CeremonyStep:
    """Return the certificate of the participant that `state` of `deal` belongs to, from the messages of all by number.

    `extension` is what the caller wants all to agree on besides, such as a digest. In a rotation the certificate
    reveals the participant's factor. Raises CeremonyFault naming the participant at fault, CeremonyMismatch for one of
    another session, InvalidInput (another session's state or secret, a message of no participant), InvalidScalar.
    """
    kept = _read_state(session, "deal", state)
    who = _own(session, kept["number"], secret)
    bodies = _bodies(session, ROUND_DEAL, messages)
    if digest(messages[who.number]) != kept["message"]:
        raise fault(who, "own", "The participant's own message is another one than it wrote.")
    dealings, commitments, opened = _open_dealings(session, who, secret, bodies)
    try:
        keys = _new_keys(session, [item for _, item in dealings])
        received = polynomials.sum_of_scalars([share for share, _ in opened]) if opened else None
    except (IdentityPoint, InvalidScalar, HolderMismatch) as error:
        raise _cancelled() from error
    hashed = b"".join([digest(messages[participant.number]) for participant in session.participants])
    bound = sha512(_EXTENSION_LABEL + len(extension).to_bytes(8, "big") + extension + hashed).digest()
    static_keys = [participant.key for participant in session.participants]
    suite, parts = session.suite, [item for _, item in dealings]
    text = dealing.transcript(suite, session.context, session.threshold, static_keys, parts, bound)
    body = digest(text) + suite.sign(secret, text)
    if session.kind is CeremonyKind.ROTATE:
        body += rotation.FactorSecrets(*kept["factor"]).reveal(session, who.number, secret, commitments)
    written = _write_state(
        session,
        who.number,
        "certify",
        transcript=text,
        share=received,
        keys=keys,
        commitments=commitments,
        reveal_keys=[payload for _, payload in opened] if session.kind is CeremonyKind.ROTATE else [],
    )
    return CeremonyStep(seal(session, ROUND_CERTIFY, who.number, secret, body), written)


def finish(
    session: CeremonySession, state: bytes, certificates: Mapping[int, bytes], share: bytes | None = None
) -> CeremonyResult:
    """Return the result of the participant that `state` of `certify` belongs to, from the certificates of all by
    number. `share` is its share of the present sharing, in `refresh` and `rotate`.

    Raises CeremonyFault naming the participant at fault, CeremonyMismatch for one that certified another transcript,
    InvalidInput (another session's state or share, a certificate of no participant).
    """
    kept = _read_state(session, "certify", state)
    who = session.at(kept["number"])
    text, keys, secret_share = kept["transcript"], kept["keys"], kept["share"]
    if session.kind in _ZERO_SHARED:
        _check_share(session, who, share)
    bodies = _bodies(session, ROUND_CERTIFY, certificates)
    signatures, factors = [], []
    for place, participant in enumerate(session.participants):
        body = bodies[participant.number]
        certified, signature, reveal = body[:64], body[64:CERTIFIED_BYTES], body[CERTIFIED_BYTES:]
        if certified != digest(text):
            raise CeremonyMismatch(
                "A participant certified other messages than these.",
                participant=participant.number,
                holder=participant.holder,
                reason="transcript",
            )
        if not session.suite.verifies(participant.key, text, signature):
            raise fault(participant, "certificate", "A participant's certificate is false.")
        if session.kind is CeremonyKind.ROTATE:
            reveal_key = kept["reveal_keys"][place]
            factors.append(rotation.open_reveal(session, participant, reveal, reveal_key, kept["commitments"]))
        elif reveal:
            raise fault(participant, "malformed", "A certificate has bytes after its end.")
        signatures.append(signature)
    factor = None
    try:
        if session.kind in _ZERO_SHARED and share is not None:
            secret_share = refresh.refreshed_share(share, secret_share)
        if session.kind is CeremonyKind.ROTATE:
            factor = rotation.product(factors)
            keys, secret_share = rotation.rotated_keys(keys, factor), sodium.scalar_mul(factor, secret_share)
    except (IdentityPoint, InvalidScalar, HolderMismatch) as error:
        raise _cancelled() from error
    if secret_share is not None and sodium.scalarmult_base(secret_share) != keys.at(who.receiver).public_key:
        raise CeremonyFault("The new share does not belong to the new public key.", participant=None, reason="sum")
    return CeremonyResult(keys, who.receiver, secret_share, factor, text, tuple(signatures))


def _open_dealings(
    session: CeremonySession, who: CeremonyParticipant, secret: bytes, bodies: Mapping[int, bytes]
) -> tuple[list[tuple[CeremonyParticipant, Dealing]], list[bytes], list[tuple[bytes, bytes]]]:
    """Return the checked dealings with their dealers, the commitments to the factors of a rotation, and (share,
    payload) of each dealing for a participant that receives."""
    suite, first = session.suite, _first(session)
    places = [index for index, _ in session.receivers]
    dealings, commitments, opened = [], [], []
    for participant in session.participants:
        body = bodies[participant.number]
        if participant.dealer is None:
            if body:
                raise fault(participant, "malformed", "A participant deals that has no share to deal.")
            continue
        head = 2 * rotation.COMMITMENT_BYTES if session.kind is CeremonyKind.ROTATE else 0
        factor_commitment, key_commitment = body[: head // 2], body[head // 2 : head]
        try:
            item = Dealing.decode(body[head:], session.threshold, len(places), first)
            item.check_proofs(suite, session.context)
            if session.kind is CeremonyKind.RESHARE and item.commitments[0] != reshare.constant_commitment(
                session, participant
            ):
                raise DealingFault("constant", "A dealer deals another secret than its share.")
            if who.receiver is not None:
                place = places.index(who.receiver)
                share, payload = item.open_share(
                    suite, session.context, secret, participant.key, who.receiver, place, first
                )
                opened.append((share, payload))
                if session.kind is CeremonyKind.ROTATE:
                    expected = rotation.commitment(session, participant.number, b"key", payload)
                    if len(payload) != rotation.REVEAL_KEY_BYTES or expected != key_commitment:
                        raise DealingFault("reveal_key", "A dealer's reveal key is not the one it committed to.")
                elif payload:
                    raise DealingFault("malformed", "A dealer's share has bytes after its end.")
        except DealingFault as error:
            raise fault(participant, error.reason, str(error)) from error
        dealings.append((participant, item))
        if session.kind is CeremonyKind.ROTATE:
            commitments.append(factor_commitment)
    return dealings, commitments, opened


def _new_keys(session: CeremonySession, dealings: Sequence[Dealing]) -> KeySet:
    sums = dealing.column_sums(dealings)
    if session.kind in _ZERO_SHARED:
        return refresh.refreshed_keys(session, sums)
    keys = reshare.dealt_keys(session, sums)
    if session.old is not None and keys.public_key != session.old.public_key:
        raise HolderMismatch("A resharing must keep the public key.")
    return keys


def _bodies(session: CeremonySession, round_number: int, messages: Mapping[int, bytes]) -> dict[int, bytes]:
    numbers = {participant.number for participant in session.participants}
    if not messages.keys() <= numbers:
        raise InvalidInput("There is a message of no participant.")
    bodies = {}
    for participant in session.participants:
        if participant.number not in messages:
            raise fault(participant, "missing", "The message of a participant is missing.")
        bodies[participant.number] = open_message(session, round_number, participant, messages[participant.number])
    return bodies


def _own(session: CeremonySession, number: int, secret: bytes) -> CeremonyParticipant:
    who = session.at(number)
    if sodium.scalarmult_base(secret) != who.key:
        raise InvalidInput("This secret is not that of the participant's static key.")
    return who


def _check_share(session: CeremonySession, who: CeremonyParticipant, share: bytes | None) -> None:
    expected = who.dealer is not None and session.old is not None
    if expected != (share is not None):
        raise InvalidInput("A dealer of a sharing that exists gives its share, and no other participant does.")
    if share is not None and sodium.scalarmult_base(share) != session.previous.at(who.dealer or 0).public_key:
        raise InvalidInput("This share is not that of the participant's public key.")


def _first(session: CeremonySession) -> int:
    return refresh.FIRST if session.kind in _ZERO_SHARED else 0


def _random_coefficients(session: CeremonySession) -> int:
    return session.threshold if session.kind is CeremonyKind.GENERATE else session.threshold - 1


def _cancelled() -> CeremonyFault:
    return CeremonyFault(
        "The dealt polynomials cancel out: no single participant is at fault.", participant=None, reason="sum"
    )


# --- private state ------------------------------------------------------------------------------------------


def _write_state(session: CeremonySession, number: int, step: str, **values: object) -> bytes:
    plain = {name: _plain(value) for name, value in values.items()}
    return canonical_json({"step": step, "context": b64url(session.context), "number": number, **plain})


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return b64url(value)
    if isinstance(value, KeySet):
        return keys_to_json(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _read_state(session: CeremonySession, step: str, state: bytes) -> dict[str, Any]:
    try:
        value = json.loads(state)
        if value["step"] != step or value["context"] != b64url(session.context):
            raise InvalidInput("This private state is of another session or step.")
        return {
            name: _decoded(item) if name not in ("step", "context", "number") else item for name, item in value.items()
        }
    except InvalidInput:
        raise
    except (LedgerError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput("This private state is damaged.") from error


def _decoded(value: object) -> object:
    if isinstance(value, str):
        return unb64url(value)
    if isinstance(value, dict):
        return keys_from_json(value)
    return [_decoded(item) for item in value] if isinstance(value, list) else value
