"""Blinded elements and tags of a buyer's identifiers (RFC 9497), from verified shares of the key holders.

Identifiers never leave the process. Evaluated identifiers are remembered in memory only, for the last `CACHE_SIZE`
identifiers, under a MAC with a key that dies with the process: neither identifiers nor their guessable hashes stay.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ledger.client.transport.forks import ForkLock
from ledger.errors import (
    BatchSizeInvalid,
    InvalidInput,
    LedgerError,
)
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.identifiers import Kind, canonical, parse_kind
from ledger.protocol.tags import TAG_BYTES, tag
from ledger.protocol.threshold import VerifiedShare, combine

CACHE_SIZE = 10_000
MAX_SUBJECTS = 8
"""Identifiers of one person in a report or lookup, at most."""

Identifiers = Mapping[str, str]
"""One person's raw identifiers by kind: {"phone": "+86 138 0013 8000", "payment": "..."}."""

Canonical = Sequence[tuple[Kind, bytes]]
"""One person's identifiers as (kind, canonical bytes)."""

Evaluate = Callable[[Sequence[bytes]], Callable[[], Sequence[VerifiedShare]]]
"""Starts the evaluation of at most 1000 blinded elements; the returned function waits for the shares, which are
verified and as many as the threshold."""

BATCHES_AHEAD = 2
"""Batches that are evaluated at the same time: holders work on one while the shares of another are verified."""


@dataclass(frozen=True, slots=True)
class SubjectIds:
    """One identifier of a person, blinded. `element` is needed to report and is None when only the tag is known.

    Raises InvalidPoint for an element that is not a group element in its canonical encoding, IdentityPoint for the
    identity.
    """

    kind: Kind
    tag: bytes
    element: bytes | None = None

    def __post_init__(self) -> None:
        if self.element is not None:
            voprf.check_element(self.element)

    def __repr__(self) -> str:
        return f"SubjectIds(kind={self.kind.value!r})"


@dataclass(frozen=True, slots=True)
class Buyer:
    """A person as the ledger sees them: 1 to 8 blinded identifiers under one key epoch."""

    epoch: int
    subjects: tuple[SubjectIds, ...]

    @classmethod
    def from_tags(cls, epoch: int, tags: Iterable[tuple[str, str]]) -> Buyer:
        """Return a buyer from stored (kind, tag) pairs, tags as base64url. Good for lookups, not for reports.

        Raises UnsupportedKind, InvalidEncoding, BatchSizeInvalid.
        """
        subjects = tuple([SubjectIds(parse_kind(kind), unb64url(text, TAG_BYTES)) for kind, text in tags])
        check_count(len(subjects))
        return cls(epoch, subjects)

    def tags(self) -> list[tuple[str, str]]:
        """Return (kind, tag as base64url) pairs: what a platform stores beside its customer. Tags do not lead back to
        the identifiers without the ledger's key, but treat them as personal data all the same."""
        return [(subject.kind.value, b64url(subject.tag)) for subject in self.subjects]


def check_count(count: int) -> None:
    """Check that a person has 1 to 8 identifiers. Raises BatchSizeInvalid."""
    if not 1 <= count <= MAX_SUBJECTS:
        raise BatchSizeInvalid(f"A buyer has 1 to {MAX_SUBJECTS} identifiers.")


def normalise(identifiers: Identifiers, region: str | None) -> Canonical:
    """Return (kind, canonical bytes) of each identifier. Raises the InvalidIdentifier of the kind, BatchSizeInvalid."""
    check_count(len(identifiers))
    return [(parse_kind(kind), canonical(kind, raw, region=region)) for kind, raw in identifiers.items()]


def normalise_each(people: Sequence[Identifiers], region: str | None) -> list[Canonical | InvalidInput]:
    """Return `normalise` of each person, or the error, with the person's place (from 0) in `details["index"]`."""
    outcomes: list[Canonical | InvalidInput] = []
    for index, identifiers in enumerate(people):
        try:
            if not isinstance(identifiers, Mapping):
                raise InvalidInput("A person is a mapping of identifiers by kind.")
            outcomes.append(normalise(identifiers, region))
        except InvalidInput as error:
            text = str(error) if len(people) == 1 else f"Person {index + 1} of {len(people)}: {error}"
            outcomes.append(type(error)(text, **{**error.details, "index": index}))
    return outcomes


def buyers(outcomes: Iterable[Buyer | LedgerError]) -> list[Buyer]:
    """Return the buyers, if every outcome is one. Raises the first error among them."""
    tagged: list[Buyer] = []
    for outcome in outcomes:
        if isinstance(outcome, LedgerError):
            raise outcome
        tagged.append(outcome)
    return tagged


class _Running(NamedTuple):
    """A batch that is being evaluated."""

    inputs: Sequence[bytes]
    blinds: Sequence[bytes]
    shares: Callable[[], Sequence[VerifiedShare]]


class Blinder:
    """Turns canonical identifiers into elements of one key epoch. Thread-safe."""

    def __init__(self, epoch: int, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self.epoch = epoch
        self._random_bytes = random_bytes
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cache_key = secrets.token_bytes(32)
        self._lock = ForkLock()

    def buyers(self, people: Sequence[Canonical], evaluate: Evaluate) -> list[Buyer]:
        """Return a Buyer for each person's (kind, canonical bytes) pairs. `evaluate` is called once for each 1000
        identifiers that are not remembered, and for the next 1000 before the first are waited for.

        Raises HolderMismatch, InvalidProof, IdentityPoint, UnexpectedAnswer and what `evaluate` raises.
        """
        return self.start(people, evaluate)()

    def start(self, people: Sequence[Canonical], evaluate: Evaluate) -> Callable[[], list[Buyer]]:
        """Start what `buyers` does, and return the function that waits for its result and returns it."""
        values = list(dict.fromkeys([value for person in people for _, value in person]))
        elements = self._recall(values)
        missing = [value for value in values if value not in elements]
        chunks = deque([missing[start : start + voprf.MAX_BATCH] for start in range(0, len(missing), voprf.MAX_BATCH)])
        running: deque[_Running] = deque()

        def start_next() -> None:
            if chunks:
                inputs = chunks.popleft()
                # Fresh blinds for every batch: one used twice would link two requests for the same person.
                blinds = [voprf.blinding_scalar(self._random_bytes(64)) for _ in inputs]
                running.append(_Running(inputs, blinds, evaluate(voprf.blind(inputs, blinds))))

        def finish() -> list[Buyer]:
            while running:
                batch = running.popleft()
                fresh = dict(zip(batch.inputs, combine(batch.blinds, batch.shares()), strict=True))
                self._remember(fresh)
                elements.update(fresh)
                start_next()
            return [self._buyer(person, elements) for person in people]

        for _ in range(BATCHES_AHEAD):
            start_next()
        return finish

    def remembered(self, person: Canonical) -> Buyer | None:
        """Return the buyer, if all of the person's identifiers were evaluated before and are still remembered."""
        elements = self._recall([value for _, value in person])
        return self._buyer(person, elements) if all(value in elements for _, value in person) else None

    def _buyer(self, person: Canonical, elements: Mapping[bytes, bytes]) -> Buyer:
        subjects = [SubjectIds(kind, tag(kind, elements[value]), elements[value]) for kind, value in person]
        return Buyer(self.epoch, tuple(subjects))

    def _name(self, value: bytes) -> bytes:
        return hashlib.blake2b(value, key=self._cache_key, digest_size=16).digest()

    def _recall(self, values: Iterable[bytes]) -> dict[bytes, bytes]:
        elements: dict[bytes, bytes] = {}
        with self._lock:
            for value in values:
                name = self._name(value)
                element = self._cache.get(name)
                if element is not None:
                    self._cache.move_to_end(name)
                    elements[value] = element
        return elements

    def _remember(self, elements: Mapping[bytes, bytes]) -> None:
        with self._lock:
            for value, element in elements.items():
                self._cache[self._name(value)] = element
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
