"""The signed frame around every message of a ceremony. Pure.

    "RLC" || version 1 || kind || round || participant   7 bytes, the last four are numbers
    || context of the session                           64
    || length of the body, big-endian                    4
    || body
    || signature of all before it with the participant's static key, under this frame's own labels   64

So each altered byte of a message is noticed by every reader, also in parts that are encrypted for another participant.
"""

from __future__ import annotations

from hashlib import sha512

from ledger.errors import CeremonyFault, CeremonyMismatch, InvalidEncoding
from ledger.protocol.ceremony.ciphersuite import CONTEXT_BYTES, SIGNATURE_BYTES, CeremonySuite
from ledger.protocol.ceremony.session import CeremonyParticipant, CeremonySession

ROUND_DEAL = 1
ROUND_CERTIFY = 2
MAX_MESSAGE_BYTES = 2**25

CERTIFIED_BYTES = 64 + SIGNATURE_BYTES
"""The digest of the transcript and the signature over it, with which the body of a certificate begins."""

_SUITE = CeremonySuite.of("RefundLedgerCeremonyMessage-v1")
_MAGIC = b"RLC\x01"
_HEAD_BYTES = len(_MAGIC) + 3 + CONTEXT_BYTES + 4


class Reader:
    """Reads fields from the start of `data`, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes. Raises InvalidEncoding if there are fewer."""
        field = self._data[self._place : self._place + count]
        if len(field) != count:
            raise InvalidEncoding("A message ends too early.")
        self._place += count
        return field

    def take_each(self, count: int, size: int) -> tuple[bytes, ...]:
        """Return the next `count` fields of `size` bytes each. Raises InvalidEncoding if there are fewer."""
        return tuple([self.take(size) for _ in range(count)])

    def take_framed(self) -> bytes:
        """Return the next field, which is after its length in 4 bytes, big-endian. Raises InvalidEncoding."""
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        """Check that nothing is left. Raises InvalidEncoding."""
        if self._place != len(self._data):
            raise InvalidEncoding("A message has bytes after its end.")


def seal(session: CeremonySession, round_number: int, number: int, secret: bytes, body: bytes) -> bytes:
    """Return the message of participant `number`, signed with its static secret. Raises InvalidScalar."""
    head = _MAGIC + bytes([session.kind.number, round_number, number])
    framed = head + session.context + len(body).to_bytes(4, "big") + body
    return framed + _SUITE.sign(secret, framed)


def open_message(session: CeremonySession, round_number: int, sender: CeremonyParticipant, message: bytes) -> bytes:
    """Return the body of a message that must come from `sender`.

    Raises CeremonyFault for every fault, CeremonyMismatch for a message of another session or other parameters.
    """
    if not _HEAD_BYTES + SIGNATURE_BYTES <= len(message) <= MAX_MESSAGE_BYTES:
        raise fault(sender, "malformed", "A message of the ceremony has a wrong length.")
    framed, signature = message[:-SIGNATURE_BYTES], message[-SIGNATURE_BYTES:]
    if framed[: len(_MAGIC) + 3] != _MAGIC + bytes([session.kind.number, round_number, sender.number]):
        raise fault(sender, "malformed", "A message is of another version, ceremony, step or participant.")
    if framed[len(_MAGIC) + 3 : _HEAD_BYTES - 4] != session.context:
        raise CeremonyMismatch(
            "A participant works on another session, or on other parameters of it.",
            participant=sender.number,
            holder=sender.holder,
            reason="session",
        )
    body = framed[_HEAD_BYTES:]
    if len(body) != int.from_bytes(framed[_HEAD_BYTES - 4 : _HEAD_BYTES], "big"):
        raise fault(sender, "malformed", "A message of the ceremony has a wrong length.")
    if not _SUITE.verifies(sender.key, framed, signature):
        raise fault(sender, "signature", "A message was altered, or does not come from its participant.")
    return body


def sender_of(message: bytes) -> int:
    """Return the number of the participant that a message claims to come from; 0 if it is too short for a message."""
    return message[_HEAD_BYTES - 4 - CONTEXT_BYTES - 1] if len(message) >= _HEAD_BYTES else 0


def unverified_body(message: bytes) -> bytes:
    """Return the body of a message whose session is not known yet. Nothing in it is checked."""
    return message[_HEAD_BYTES:-SIGNATURE_BYTES]


def digest(message: bytes) -> bytes:
    """Return the SHA-512 of a message, 64 bytes."""
    return sha512(message).digest()


def fault(participant: CeremonyParticipant, reason: str, text: str) -> CeremonyFault:
    """Return the error that names `participant`."""
    return CeremonyFault(text, participant=participant.number, holder=participant.holder, reason=reason)
