"""Ceremonies for tests: sessions with made-up participants, random bytes that are the same in every run, and a run from
the first message to the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import shake_256

from ledger.protocol import sodium
from ledger.protocol.ceremony import rounds
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.session import CeremonyParticipant, CeremonySession
from ledger.protocol.threshold import KeySet

Q = sodium.GROUP_ORDER
LEDGER_SECRET = (987_654_321).to_bytes(32, "little")


def random_bytes(label: str, count: int) -> bytes:
    return shake_256(label.encode()).digest(count)


def static_secret(number: int) -> bytes:
    return sodium.scalar_reduce(random_bytes(f"static {number}", 64))


def staying(numbers: Iterable[int]) -> tuple[CeremonyParticipant, ...]:
    return tuple(
        [
            CeremonyParticipant.staying(number, f"holder-{number}", sodium.scalarmult_base(static_secret(number)))
            for number in numbers
        ]
    )


def moving(number: int, dealer: int | None, receiver: int | None) -> CeremonyParticipant:
    return replace(staying([number])[0], dealer=dealer, receiver=receiver)


def session(
    kind: CeremonyKind,
    threshold: int,
    participants: tuple[CeremonyParticipant, ...],
    old: KeySet | None = None,
    label: str = "",
) -> CeremonySession:
    receiving_key = sodium.scalarmult_base(LEDGER_SECRET) if kind is CeremonyKind.ROTATE else None
    epoch = 2 if kind is CeremonyKind.ROTATE else 1
    nonce = random_bytes(f"nonce {label}", 32)
    return CeremonySession(
        kind, "ledger.example", "test", bytes(32), epoch, threshold, participants, nonce, old, receiving_key
    )


@dataclass
class Run:
    """A ceremony, step by step. `shares` are those of the present sharing, by participant."""

    session: CeremonySession
    shares: Mapping[int, bytes] = field(default_factory=dict)
    dealt: dict[int, rounds.CeremonyStep] = field(default_factory=dict)
    certified: dict[int, rounds.CeremonyStep] = field(default_factory=dict)
    results: dict[int, rounds.CeremonyResult] = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        return [participant.number for participant in self.session.participants]

    @property
    def messages(self) -> dict[int, bytes]:
        return {number: step.message for number, step in self.dealt.items()}

    @property
    def certificates(self) -> dict[int, bytes]:
        return {number: step.message for number, step in self.certified.items()}

    def entropy(self, number: int) -> bytes:
        label = f"{self.session.kind} {self.session.nonce.hex()} {number}"
        return random_bytes(label, rounds.entropy_bytes(self.session, number))

    def deal(self) -> Run:
        for number in self.numbers:
            deals = self.session.old is not None and self.session.at(number).dealer is not None
            share = self.shares[number] if deals else None
            entropy = self.entropy(number)
            self.dealt[number] = rounds.deal(self.session, number, static_secret(number), entropy, share)
        return self

    def certify(self, extension: bytes = b"") -> Run:
        for number in self.numbers:
            self.certified[number] = self.certify_as(number, self.messages, extension)
        return self

    def certify_as(self, number: int, messages: Mapping[int, bytes], extension: bytes = b"") -> rounds.CeremonyStep:
        return rounds.certify(self.session, self.dealt[number].state, static_secret(number), messages, extension)

    def finish(self) -> Run:
        for number in self.numbers:
            self.results[number] = self.finish_as(number, self.certificates)
        return self

    def finish_as(self, number: int, certificates: Mapping[int, bytes]) -> rounds.CeremonyResult:
        changed = self.session.kind in (CeremonyKind.REFRESH, CeremonyKind.ROTATE)
        share = self.shares[number] if changed else None
        return rounds.finish(self.session, self.certified[number].state, certificates, share)

    def all(self) -> Run:
        return self.deal().certify().finish()

    @property
    def keys(self) -> KeySet:
        return self.results[self.numbers[0]].keys

    @property
    def new_shares(self) -> dict[int, bytes]:
        """The new shares by index."""
        return {
            result.index: result.share
            for result in self.results.values()
            if result.index is not None and result.share is not None
        }


def generated(threshold: int, count: int, label: str = "") -> Run:
    return Run(session(CeremonyKind.GENERATE, threshold, staying(range(1, count + 1)), label=label)).all()


def changed(
    kind: CeremonyKind, before: Run, participants: tuple[CeremonyParticipant, ...] = (), threshold: int = 0
) -> Run:
    """A ceremony that changes the sharing of `before`, not begun yet."""
    old = before.keys
    places = participants or staying([holder.index for holder in old.holders])
    shares = {place.number: before.new_shares[place.dealer] for place in places if place.dealer is not None}
    return Run(session(kind, threshold or old.threshold, places, old), shares)


def value_at(shares: Mapping[int, bytes], at: int = 0) -> int:
    """The value at `at` of the polynomial through shares, by plain integers."""
    total = 0
    for i, share in shares.items():
        term = int.from_bytes(share, "little")
        for j in shares:
            if j != i:
                term = term * (at - j) * pow(i - j, -1, Q) % Q
        total += term
    return total % Q
