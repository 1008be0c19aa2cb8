"""Evaluation of blinded elements with a holder's share, within the budgets of a control group."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.errors import BatchSizeInvalid, QuotaExceeded, TokenUsed
from ledger.holder.budgets import GroupLimits, spend
from ledger.holder.metrics import HolderMetrics
from ledger.holder.serving import HeldShares
from ledger.holder.settings import HolderSettings
from ledger.holder.state import HolderSnapshot
from ledger.holder.tokens import HolderToken
from ledger.protocol import dleq, voprf

CHECKED_FIRST = timedelta(seconds=60)
"""How long after a refusal the batches of a control group are checked and counted before they are multiplied."""


@dataclass(frozen=True, slots=True)
class EvaluatedBatch:
    """A holder's answer to a batch: which share it used, an element for each blinded one, and one proof (64 bytes)."""

    epoch: int
    generation: int
    index: int
    evaluated: tuple[bytes, ...]
    proof: bytes


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The parts that an evaluation needs."""

    settings: HolderSettings
    engine: Engine
    shares: HeldShares
    metrics: HolderMetrics
    now: Callable[[], datetime]
    refused: dict[str, datetime] = field(default_factory=dict)
    """When a token or batch of a control group was refused last, by group."""

    def evaluate(
        self,
        snapshot: HolderSnapshot,
        token: HolderToken,
        epoch: int,
        generation: int | None,
        blinded: Sequence[bytes],
    ) -> EvaluatedBatch:
        """Multiply 1 to 1000 blinded elements (32 bytes each) by the share of `epoch` and `generation` (None: the
        newest), and return the products with one proof.

        The token and the budget are recorded and committed before the proof is made and anything leaves, so neither a
        crash nor a second process gives an answer that was not counted. A malformed point costs nothing: the
        multiplication, which goes before, refuses it. A control group that was refused lately could have that work done
        for nothing, so its points are only checked before.
        Raises StaleEpoch, StaleGeneration, BatchSizeInvalid, InvalidPoint, IdentityPoint, TokenUsed, QuotaExceeded,
        DatabaseUnavailable.
        """
        now = self.now()
        share = self.shares.serving(snapshot, epoch, generation, now)
        if not 1 <= len(blinded) <= voprf.MAX_BATCH:
            raise BatchSizeInvalid(f"A batch holds 1 to {voprf.MAX_BATCH} elements.")
        workers = self.settings.threads
        group = token.member.control_group
        limits = GroupLimits.of(self.settings, snapshot.daily_elements.get(group))
        evaluated = None
        if group in self.refused and now < self.refused[group] + CHECKED_FIRST:
            dleq.in_parts(lambda start, stop: _check(blinded[start:stop]), len(blinded), workers)
        else:
            evaluated = voprf.multiply(share.secret, blinded, workers=workers)
        try:
            spend(self.engine, group, limits, len(blinded), token.use, now)
        except QuotaExceeded as error:
            self.refused[group] = now
            self.metrics.count_refused(group, str(error.details["limit"]), len(blinded))
            raise
        except TokenUsed:
            self.refused[group] = now
            raise
        self.metrics.count_evaluated(group, len(blinded))
        if evaluated is None:
            evaluated = voprf.multiply(share.secret, blinded, workers=workers)
        proof = voprf.prove(share.secret, blinded, evaluated, secrets.token_bytes(voprf.NONCE_BYTES), workers=workers)
        return EvaluatedBatch(share.epoch, share.generation, share.index, evaluated, proof)


def _check(blinded: Sequence[bytes]) -> None:
    for element in blinded:
        voprf.check_element(element)
