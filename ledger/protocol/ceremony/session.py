"""What all participants of a ceremony agree on before its first step. Pure.

A `CeremonySession` is written as canonical JSON, and everything in it is hashed into the context, which every signature
and every key of the ceremony depends on: service, environment, log key, epoch, kind, thresholds, K and all K_i of the
sharing that is changed, and each participant's static key. `nonce` makes each attempt another session, and is never
used again, whether an attempt succeeds or fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ledger.errors import CeremonyFault, HolderMismatch, InvalidEncoding, InvalidInput, InvalidPoint, LedgerError
from ledger.protocol import sodium
from ledger.protocol.ceremony.ciphersuite import CeremonySuite
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import b64url, canonical_json, unb64url
from ledger.protocol.threshold import MAX_HOLDERS, HolderKey, KeySet

MIN_NONCE_BYTES = 16
MAX_NONCE_BYTES = 64


SUITES = {
    CeremonyKind.GENERATE: CeremonySuite(b"COCKTAIL(Ristretto255, SHA-512)", b"COCKTAIL-DKG"),
    CeremonyKind.REFRESH: CeremonySuite.of("RefundLedgerRefresh-v1"),
    CeremonyKind.RESHARE: CeremonySuite.of("RefundLedgerReshare-v1"),
    CeremonyKind.ROTATE: CeremonySuite.of("RefundLedgerRotate-v1"),
}
"""The labels of each kind; those of `generate` are cocktail-dkg's own."""


@dataclass(frozen=True, slots=True)
class CeremonyParticipant:
    """One holder in a ceremony.

    `number` names it in messages and errors, `holder` is its id, `key` its static ristretto255 key. `dealer` is its
    index in the sharing that is changed (in `generate`, in the new one), None if it deals nothing; `receiver` is its
    index in the new sharing, None if it leaves.
    """

    number: int
    holder: str
    key: bytes
    dealer: int | None
    receiver: int | None

    @classmethod
    def staying(cls, index: int, holder: str, key: bytes) -> CeremonyParticipant:
        """Return a participant that deals and receives at one index, as in every kind but `reshare`."""
        return cls(index, holder, key, index, index)


@dataclass(frozen=True)
class CeremonySession:
    """The parameters of one attempt at a ceremony. `threshold` and `epoch` are those of the new sharing; `old` is the
    sharing that is changed, None in `generate`; `receiving_key` is the ledger's, in `rotate` only.

    A threshold of 1 is for a single holder: all shares of 1 of several would be the key itself. Raises InvalidInput for
    parameters that do not belong together, and CeremonyFault with the participant for a static
    key that is no element, is the identity, or is another participant's too.
    """

    kind: CeremonyKind
    service: str
    environment: str
    log_key: bytes
    epoch: int
    threshold: int
    participants: tuple[CeremonyParticipant, ...]
    nonce: bytes
    old: KeySet | None = None
    receiving_key: bytes | None = None

    def __post_init__(self) -> None:
        numbers = [participant.number for participant in self.participants]
        if not numbers or numbers != sorted(set(numbers)) or not 1 <= numbers[0] <= numbers[-1] <= MAX_HOLDERS:
            raise InvalidInput(f"The participants of a ceremony are numbered in order, from 1 to {MAX_HOLDERS}.")
        if len({participant.holder for participant in self.participants}) != len(numbers):
            raise InvalidInput("Each participant of a ceremony has an id of its own.")
        if not MIN_NONCE_BYTES <= len(self.nonce) <= MAX_NONCE_BYTES:
            raise InvalidInput(f"The nonce of a ceremony has {MIN_NONCE_BYTES} to {MAX_NONCE_BYTES} bytes.")
        if (self.old is None) != (self.kind is CeremonyKind.GENERATE):
            raise InvalidInput("Every ceremony but the first one changes a sharing.")
        if (self.receiving_key is None) != (self.kind is not CeremonyKind.ROTATE):
            raise InvalidInput("A rotation, and only a rotation, names the ledger's receiving key.")
        if self.receiving_key is not None:
            sodium.check_point(self.receiving_key)
        self._check_keys()
        self._check_indexes()

    @property
    def suite(self) -> CeremonySuite:
        """Return the labels of this kind of ceremony."""
        return SUITES[self.kind]

    @property
    def generation(self) -> int:
        """Return the generation of the new sharing: the next one of the epoch, or 1 of a new key."""
        return self.old.generation + 1 if self.old and self.kind is not CeremonyKind.ROTATE else 1

    @property
    def dealers(self) -> tuple[CeremonyParticipant, ...]:
        """Return the participants that deal, in the order of their numbers."""
        return tuple([participant for participant in self.participants if participant.dealer is not None])

    @property
    def receivers(self) -> tuple[tuple[int, CeremonyParticipant], ...]:
        """Return (index in the new sharing, participant), in the order of the indexes."""
        placed = [(participant.receiver, participant) for participant in self.participants]
        return tuple(sorted([(index, who) for index, who in placed if index is not None], key=lambda pair: pair[0]))

    @property
    def previous(self) -> KeySet:
        """Return the sharing that is changed. Raises InvalidInput for `generate`."""
        if self.old is None:
            raise InvalidInput("The first ceremony of a key changes no sharing.")
        return self.old

    @cached_property
    def context(self) -> bytes:
        """Return the 64 bytes that bind every message to this session."""
        return self.suite.context(self.encode(), [participant.key for participant in self.participants])

    def at(self, number: int) -> CeremonyParticipant:
        """Return the participant of this number. Raises InvalidInput."""
        for participant in self.participants:
            if participant.number == number:
                return participant
        raise InvalidInput("No participant of the ceremony has this number.")

    def encode(self) -> bytes:
        """Return the session as canonical JSON. Raises InvalidCanonicalForm."""
        return canonical_json(
            {
                "kind": self.kind.value,
                "service": self.service,
                "environment": self.environment,
                "log_key": b64url(self.log_key),
                "epoch": self.epoch,
                "threshold": self.threshold,
                "participants": [
                    {
                        "number": participant.number,
                        "holder": participant.holder,
                        "key": b64url(participant.key),
                        "dealer": participant.dealer,
                        "receiver": participant.receiver,
                    }
                    for participant in self.participants
                ],
                "nonce": b64url(self.nonce),
                "old": None if self.old is None else keys_to_json(self.old),
                "receiving_key": None if self.receiving_key is None else b64url(self.receiving_key),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> CeremonySession:
        """Return the session of `encode`. Raises InvalidEncoding for every other text, and as the class."""
        try:
            value = json.loads(data)
            session = cls(
                CeremonyKind(value["kind"]),
                _text(value["service"]),
                _text(value["environment"]),
                unb64url(value["log_key"]),
                _number(value["epoch"]),
                _number(value["threshold"]),
                tuple([_participant(item) for item in value["participants"]]),
                unb64url(value["nonce"]),
                None if value["old"] is None else keys_from_json(value["old"]),
                None if value["receiving_key"] is None else unb64url(value["receiving_key"], 32),
            )
            same = session.encode() == data
        except LedgerError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidEncoding("The parameters of a ceremony do not have the documented form.") from error
        if not same:
            raise InvalidEncoding("The parameters of a ceremony are not in canonical form.")
        return session

    def _check_keys(self) -> None:
        keys: set[bytes] = set()
        for participant in self.participants:
            details = {"participant": participant.number, "holder": participant.holder, "reason": "key"}
            try:
                sodium.check_point(participant.key)
            except InvalidPoint as error:
                raise CeremonyFault("A participant's static key is not an acceptable element.", **details) from error
            if participant.key in keys:
                raise CeremonyFault("Two participants have one static key.", **details)
            keys.add(participant.key)

    def _check_indexes(self) -> None:
        indexes = [index for index, _ in self.receivers]
        if len(set(indexes)) != len(indexes) or not all(1 <= index <= MAX_HOLDERS for index in indexes):
            raise InvalidInput("Each receiver has an index of its own.")
        if not min(2, len(indexes)) <= self.threshold <= len(indexes):
            raise InvalidInput("The threshold is from 2 to the number of receivers, or 1 of one.")
        if self.kind is not CeremonyKind.RESHARE and any(
            not participant.number == participant.dealer == participant.receiver for participant in self.participants
        ):
            raise InvalidInput("Each participant deals and receives, at the index that is its number.")
        if self.old is None:
            if indexes != list(range(1, len(indexes) + 1)):
                raise InvalidInput("The holders of a new key have the indexes from 1 without gaps.")
            return
        dealing = {participant.dealer: participant.holder for participant in self.dealers}
        try:
            known = all(self.old.at(index).holder == holder for index, holder in dealing.items() if index is not None)
        except HolderMismatch as error:
            raise InvalidInput("A dealer has an index that the present sharing does not have.") from error
        if not known or not self.old.threshold <= len(dealing) == len(self.dealers):
            raise InvalidInput("The dealers are holders of the present sharing, at least its threshold.")
        if min(self.threshold, self.old.threshold) < 2:
            raise InvalidInput("A key that one holder has as a whole is not shared, and a shared one not united.")
        if self.kind is not CeremonyKind.RESHARE and self.threshold != self.old.threshold:
            raise InvalidInput("A refresh or a rotation keeps the threshold.")


def _participant(item: dict[str, Any]) -> CeremonyParticipant:
    dealer, receiver = (None if item[name] is None else _number(item[name]) for name in ("dealer", "receiver"))
    return CeremonyParticipant(
        _number(item["number"]), _text(item["holder"]), unb64url(item["key"], 32), dealer, receiver
    )


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def keys_to_json(keys: KeySet) -> dict[str, Any]:
    """Return a key set as a value of canonical JSON."""
    return {
        "generation": keys.generation,
        "threshold": keys.threshold,
        "public_key": b64url(keys.public_key),
        "holders": [
            {"index": holder.index, "holder": holder.holder, "public_key": b64url(holder.public_key)}
            for holder in keys.holders
        ],
    }


def keys_from_json(value: dict[str, Any]) -> KeySet:
    """Return the key set of `keys_to_json`. Raises HolderMismatch, InvalidPoint, InvalidEncoding; KeyError, TypeError
    for another form."""
    holders = [
        HolderKey(_number(item["index"]), _text(item["holder"]), unb64url(item["public_key"], 32))
        for item in value["holders"]
    ]
    generation, threshold = _number(value["generation"]), _number(value["threshold"])
    return KeySet(generation, threshold, unb64url(value["public_key"], 32), tuple(holders))
