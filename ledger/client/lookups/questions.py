"""Lookups as they are sent, and the comparison of each answer with its question.

A lookup carries 16 random bytes, its nonce. The answer repeats the nonce, the digest of the request
(`ledger.protocol.request_digest`), the service, the environment, the platform and the key epoch. An answer that does
not repeat them belongs to another question and is never used as a standing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.client.identity.suite import Suite
from ledger.client.models.decoding import Count, Model, as_mapping, compare, decode
from ledger.client.models.lookups import Lookup, parse_lookup
from ledger.client.transport.forks import ForkLock
from ledger.client.transport.problems import error_from_problem
from ledger.errors import AnswerMismatch, InvalidCanonicalForm, InvalidRequest, LedgerError, UnexpectedAnswer
from ledger.protocol.encoding import b64url
from ledger.protocol.request_digest import NONCE_BYTES, question_digest

SETTLE_SECONDS = 2.0
"""A server process answers from what it knew at most 200 ms ago. So every process knows after that time what one
process has answered; ten times as long leaves room for a process that was held up between looking and answering."""


class Watermark:
    """The number of log entries that every answer from now on must have seen: the number that it answered
    `SETTLE_SECONDS` ago or earlier. Thread-safe.

    Two answers within that time may come from two server processes, of which the second one is behind; that is no
    error. `monotonic` gives seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = ForkLock()
        self._floor = self._newest = 0
        self._candidate: tuple[int, float] | None = None

    def floor(self) -> int:
        """Return the least number of log entries that the answer to a question sent now must have seen."""
        with self._lock:
            now = self._monotonic()
            if self._candidate is not None and now - self._candidate[1] >= SETTLE_SECONDS:
                self._floor = max(self._floor, self._candidate[0])
                self._candidate = (self._newest, now) if self._newest > self._floor else None
            return self._floor

    def saw(self, size: int) -> None:
        """Record that an answer has seen `size` entries."""
        with self._lock:
            self._newest = max(self._newest, size)
            if self._candidate is None and self._newest > self._floor:
                self._candidate = (self._newest, self._monotonic())


@dataclass(frozen=True, slots=True)
class LookupQuestion:
    """A lookup ready to be sent. `body` is the request with its nonce; the other members are what the answer repeats,
    and `floor` the least number of log entries that it has seen."""

    body: Mapping[str, Any]
    nonce: str
    digest: str
    service: str
    environment: str
    platform: str
    epoch: int
    floor: int


class _Nonce(Model, frozen=True):
    nonce: Any


class _Echo(Model, frozen=True):
    """Members of an answer that repeat the question."""

    question: str
    service: str
    environment: str
    platform: str
    epoch: Count


class _Result(Model, frozen=True):
    """One outcome of a batch."""

    status: Count
    lookup: Any = None
    problem: Any = None


class _BatchAnswer(Model, frozen=True):
    results: tuple[_Result, ...]


class Questioner:
    """Makes the questions of one platform, and checks their answers."""

    def __init__(
        self,
        suite: Suite,
        random_bytes: Callable[[int], bytes],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._suite = suite
        self._random_bytes = random_bytes
        self._seen = Watermark(monotonic)

    def question(self, request: Mapping[str, Any]) -> LookupQuestion:
        """Return the question for a lookup's `request`, with a fresh nonce. Raises InvalidRequest for a value that a
        request cannot hold, such as a fraction."""
        nonce = self._random_bytes(NONCE_BYTES)
        try:
            digest = question_digest(request, nonce)
        except InvalidCanonicalForm as error:
            raise InvalidRequest(f"A lookup holds a value that cannot be sent. {error}") from error
        pinned = self._suite.pinned
        return LookupQuestion(
            body={**request, "nonce": b64url(nonce)},
            nonce=b64url(nonce),
            digest=b64url(digest),
            service=pinned.service,
            environment=pinned.environment,
            platform=self._suite.platform,
            epoch=request["epoch"],
            floor=max(self._seen.floor(), request.get("min_index", 0)),
        )

    def answer(self, question: LookupQuestion, value: object) -> Lookup:
        """Return the Lookup in the answer `value` (JSON). Raises AnswerMismatch when it answers another question or an
        older state of the log than it may, UnexpectedAnswer when it is no answer to a lookup."""
        check_echo(question, value)
        lookup = parse_lookup(value)
        assert lookup.as_of_index is not None
        if lookup.as_of_index < question.floor:
            raise AnswerMismatch("The ledger answered from an older log than it has shown.", compared="as_of_index")
        self._seen.saw(lookup.as_of_index)
        return lookup

    def answers(self, questions: Sequence[LookupQuestion], value: object) -> list[Lookup | LedgerError]:
        """Return the outcomes in the answer `value` to a batch, one each, in order: the Lookup, or the error that
        refused it.

        Raises what `answer` does, AnswerMismatch for the whole batch if one outcome belongs to another question, and
        UnexpectedAnswer for another number of outcomes.
        """
        results = decode(value, _BatchAnswer).results
        if len(results) != len(questions):
            raise UnexpectedAnswer("The ledger answered another number of lookups than were asked.")
        return [self._outcome(question, result) for question, result in zip(questions, results, strict=True)]

    def _outcome(self, question: LookupQuestion, result: _Result) -> Lookup | LedgerError:
        if result.status == 200:
            return self.answer(question, result.lookup)
        return error_from_problem(result.status, as_mapping(result.problem))


def check_echo(question: LookupQuestion, value: object) -> None:
    """Raises AnswerMismatch unless the answer `value` repeats `question`, and UnexpectedAnswer when it has no place for
    a question at all."""
    # The nonce comes first and may be of any type: where it differs, this is the answer to another question.
    compare("nonce", decode(value, _Nonce).nonce, question.nonce)
    echo = decode(value, _Echo)
    compare("question", echo.question, question.digest)
    compare("service", echo.service, question.service)
    compare("environment", echo.environment, question.environment)
    compare("platform", echo.platform, question.platform)
    compare("epoch", echo.epoch, question.epoch)
