"""A party that buys evaluations: the online half of an attack. It asks any holders with the tokens of its own
platforms, in any mixture, until nothing is left."""

from __future__ import annotations

import http.client
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ledger.protocol import voprf
from ledger.protocol.threshold import KeySet, Share, VerifiedShare, combine, verify_share
from tests.claim.attacker import Candidate
from tests.holder.kit import Caller, HolderAnswer, evaluation_body, share_of

EVALUATE = "/v1/oprf/evaluate"
BATCH = 10


def reach(budgets: Mapping[str, int], shares: int) -> int:
    """Return the most elements for which `shares` different holders each can be had evaluated, when each holder
    evaluates what its budget allows: the largest m with sum(min(budget, m)) >= shares x m."""
    most = sum(budgets.values()) // shares
    while sum([min(budget, most) for budget in budgets.values()]) < shares * most:
        most -= 1
    return most


def post(url: str, path: str, token: str, body: bytes) -> HolderAnswer:
    """Send one request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return HolderAnswer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@dataclass
class Buyer:
    """The platforms of one party, the addresses of the holders by id, and the generations of the key, which it uses in
    turn. With `own`, (holder, shares by generation), it is a holder itself, and evaluates its part on its own."""

    platforms: Sequence[Caller]
    urls: Mapping[str, str]
    generations: Sequence[KeySet]
    own: tuple[str, Mapping[int, bytes]] | None = None
    elements: dict[Candidate, bytes] = field(default_factory=dict)
    """What it has got: the element of each candidate."""
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Refusals, by holder and code."""
    asked: int = 0
    """Requests so far, and evaluations by enough holders begun: they choose platform and generation."""
    begun: int = 0

    @property
    def needed(self) -> int:
        """Shares that it needs of other holders for an element."""
        return self.generations[0].threshold - (1 if self.own else 0)

    @property
    def others(self) -> list[str]:
        """The holders that it has to ask."""
        return [holder for holder in self.urls if self.own is None or holder != self.own[0]]

    def ask(self, holder: str, blinded: Sequence[bytes], generation: int = 2) -> HolderAnswer:
        """Have a holder evaluate, with the next one of its platforms."""
        self.asked += 1
        platform = self.platforms[self.asked % len(self.platforms)]
        body = evaluation_body(blinded, 1, generation)
        answer = post(self.urls[holder], EVALUATE, platform.token(holder, body, datetime.now(UTC)), body)
        if answer.status != 200:
            self.refusals[holder, answer.code] += 1
        return answer

    def buy(self, candidates: Sequence[Candidate], budgets: Mapping[str, int]) -> None:
        """Have elements of candidates evaluated until every holder refuses: first as the budgets, which the holders
        stated, allow most, then one element at a time at each set of holders that is left."""
        left = {holder: budgets[holder] for holder in self.others}
        waiting = list(candidates)
        while True:
            chosen = sorted(left, key=lambda holder: -left[holder])[: self.needed]
            count = min([BATCH, *[left[holder] for holder in chosen]])
            if min(left.values()) < BATCH:
                count = min(count, 1)  # the last ones one by one, so that no holder has a rest alone
            if count == 0:
                break
            assert self._refused_by(waiting[:count], chosen) is None
            del waiting[:count]
            for holder in chosen:
                left[holder] -= count
        refusing: set[str] = set()
        while len(asked := [holder for holder in self.others if holder not in refusing][: self.needed]) == self.needed:
            refused_by = self._refused_by(waiting[:1], asked)
            if refused_by is None:
                del waiting[:1]
            else:
                refusing.add(refused_by)

    def _refused_by(self, candidates: Sequence[Candidate], holders: Sequence[str]) -> str | None:
        """Get elements with the shares of these holders, and return None, or the first holder that refuses."""
        blinds = [voprf.derive_secret(secrets.token_bytes(32), b"claim") for _ in candidates]
        blinded = voprf.blind([text for _, text in candidates], blinds)
        self.begun += 1
        keys = self.generations[self.begun % len(self.generations)]
        shares: list[VerifiedShare] = []
        for holder in holders:
            answer = self.ask(holder, blinded, keys.generation)
            if answer.status != 200:
                return holder
            shares.append(verify_share(keys, blinded, share_of(answer)))
        if self.own is not None:
            name, own = self.own
            evaluation = voprf.evaluate(own[keys.generation], blinded, secrets.token_bytes(voprf.NONCE_BYTES))
            share = Share(keys.generation, keys.of(name).index, evaluation.evaluated, evaluation.proof)
            shares.append(verify_share(keys, blinded, share))
        self.elements |= dict(zip(candidates, combine(blinds, shares), strict=True))
        return None
