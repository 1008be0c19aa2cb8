"""The bytes of a lookup's answer: always `ANSWER_BYTES` of them, hit or miss.

The members and their order are fixed, with room for a signature and the id of its key: when answers are signed, nothing
else of them changes, their size neither.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson

from ledger.protocol.encoding import day_floor, format_time
from ledger.rules.guidance import Claim, advise
from ledger.rules.policy.timeline import PolicySource
from ledger.rules.policy.values import Policy
from ledger.rules.standing import CLEAN, Standing

ANSWER_BYTES = 3072
"""Size of every answer. The longest possible one fits (tests/server/lookups/test_lookups.py builds it)."""

MAX_KEY_ID_CHARS = 32
"""Room for the id of the key that signs an answer: A-Z, a-z, 0-9, '.', '_' and '-'."""

SIGNATURE_BYTES = 64
"""Room for an Ed25519 signature, base64url without padding."""

_DOTS = b"." * ANSWER_BYTES


class QuestionEcho(NamedTuple):
    """The parts of a question that its answer repeats: the platform that asks, the key epoch of the tags, the client's
    nonce (22 base64url characters, None if it sent none) and the question's digest (43 base64url characters)."""

    platform: str
    epoch: int
    nonce: str | None
    digest: str


class _Form(NamedTuple):
    """What clean answers under one policy have in common: the texts between the members in which they differ."""

    policy: Policy
    before_id: str
    before_size: str
    before_as_of: str
    before_expires_at: str
    before_platform: str
    before_epoch: str
    before_nonce: str
    before_question: str
    before_padding: str


class _Second(NamedTuple):
    """What answers of a second share: when it begins and ends, its UTC day, the form of the policy in effect, those of
    its texts that every clean answer needs, `as_of` and `expires_at`, and of clean ones the text from after
    `as_of_index` to the platform. `asked` has the text up to the nonce, by platform and epoch. A policy comes into
    effect at a whole second, so a second has one."""

    begins: datetime
    ends: datetime
    day: int
    form: _Form
    clean: tuple[str, str, str, str]
    times: tuple[str, str]
    text: str
    asked: dict[tuple[str, int], str]


class LookupAnswers:
    """Writes the answers of a service under the policy in effect at the time of each."""

    def __init__(self, policies: PolicySource, service: str, environment: str) -> None:
        self._policies = policies
        self._service = service
        self._environment = environment
        self._form: _Form | None = None
        self._second: _Second | None = None

    def answer(
        self, public_id: str, standing: Standing, claim: str | None, size: int, now: datetime, question: QuestionEcho
    ) -> bytes:
        """Return the answer `public_id` to `question`: this standing as of the first `size` entries, at `now`. Raises
        PolicyUnreadable, as `clean` does."""
        second = self._in_second(now)
        policy, times = second.form.policy, second.times
        return padded(self._fields(policy, public_id, standing, Claim(claim or Claim.OTHER), size, times, question))

    def clean(self, public_id: str, size: int, now: datetime, question: QuestionEcho) -> tuple[bytes, int]:
        """Return `answer` for a person who is not listed (the same bytes in a tenth of the time), and the UTC day of
        `now`. Raises PolicyUnreadable."""
        second = self._in_second(now)
        before_id, before_size, before_question, before_padding = second.clean
        platform, epoch, nonce, digest = question
        asked = second.asked.get((platform, epoch))
        if asked is None:
            form = second.form
            asked = f"{second.text}{platform}{form.before_epoch}{epoch}{form.before_nonce}"
            second.asked[platform, epoch] = asked
        repeated = "null" if nonce is None else f'"{nonce}"'
        text = f"{before_id}{public_id}{before_size}{size}{asked}{repeated}{before_question}{digest}{before_padding}"
        return f'{text:.<{ANSWER_BYTES - 2}}"}}'.encode(), second.day

    def _in_second(self, now: datetime) -> _Second:
        second = self._second
        if second is None or not second.begins <= now < second.ends:
            second = self._second = self._at(now.replace(microsecond=0))
        return second

    def _at(self, moment: datetime) -> _Second:
        policy = self._policies.at(moment)
        form = self._form
        if form is None or form.policy is not policy:
            form = self._form = self._form_of(policy)
        expires_at = moment + timedelta(minutes=policy.lookup_expiry_minutes)
        times = format_time(moment), format_time(expires_at)
        text = f"{form.before_as_of}{times[0]}{form.before_expires_at}{times[1]}{form.before_platform}"
        clean = (form.before_id, form.before_size, form.before_question, form.before_padding)
        return _Second(moment, moment + timedelta(seconds=1), day_floor(moment), form, clean, times, text, {})

    def _form_of(self, policy: Policy) -> _Form:
        question = QuestionEcho("@platform", -2, "@nonce", "@question")
        times = ("@as_of", "@expires_at")
        bare = orjson.dumps(self._fields(policy, "@id", CLEAN, Claim.OTHER, -1, times, question)).decode()
        texts = []
        for place in ("@id", "-1", "@as_of", "@expires_at", "@platform", "-2", '"@nonce"', "@question"):
            before, _, bare = bare.partition(place)
            texts.append(before)
        return _Form._make([policy, *texts, bare[:-1] + ',"padding":"'])

    def _fields(
        self,
        policy: Policy,
        public_id: str,
        standing: Standing,
        claim: Claim,
        size: int,
        times: tuple[str, str],
        question: QuestionEcho,
    ) -> dict[str, Any]:
        return {
            "id": public_id,
            "tier": standing.tier,
            "credit": standing.credit,
            "points": standing.points,
            "events": standing.events,
            "reporters": standing.reporters,
            "disputed": standing.disputed,
            "protected": standing.protected,
            "has_statement": standing.has_statement,
            "reasons": standing.reasons,
            "guidance": advise(standing, claim),
            "matched_kinds": standing.matched_kinds,
            "policy": policy.version,
            "as_of_index": size,
            "as_of": times[0],
            "expires_at": times[1],
            "service": self._service,
            "environment": self._environment,
            "platform": question.platform,
            "epoch": question.epoch,
            "nonce": question.nonce,
            "question": question.digest,
            "key_id": None,
            "signature": None,
        }


def padded(answer: dict[str, Any]) -> bytes:
    """Return `answer` as JSON of exactly `ANSWER_BYTES` bytes."""
    bare = orjson.dumps({**answer, "padding": ""})
    missing = ANSWER_BYTES - len(bare)
    if missing < 0:
        raise AssertionError("a lookup answer outgrew ANSWER_BYTES")
    return bare[:-2] + _DOTS[:missing] + bare[-2:]
