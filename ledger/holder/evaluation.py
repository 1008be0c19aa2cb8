"""Evaluation of blinded elements with a holder's share, within the budgets of a control group."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from ledger.errors import BatchSizeInvalid, QuotaExceeded
from ledger.holder.budgets import GroupLimits, spend
from ledger.holder.metrics import HolderMetrics
from ledger.holder.serving import HeldShares
from ledger.holder.settings import HolderSettings
from ledger.holder.state import HolderSnapshot
from ledger.holder.tokens import HolderToken
from ledger.protocol import dleq, voprf


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

        The token and the budget are recorded and committed before the evaluation, so neither a crash nor a second
        process gives an answer that was not counted. A malformed point is refused before that and costs nothing.
        Raises StaleEpoch, StaleGeneration, BatchSizeInvalid, InvalidPoint, IdentityPoint, TokenUsed, QuotaExceeded,
        DatabaseUnavailable.
        """
        now = self.now()
        share = self.shares.serving(snapshot, epoch, generation, now)
        if not 1 <= len(blinded) <= voprf.MAX_BATCH:
            raise BatchSizeInvalid(f"A batch holds 1 to {voprf.MAX_BATCH} elements.")
        workers = self.settings.threads
        dleq.in_parts(lambda start, stop: _check(blinded[start:stop]), len(blinded), workers)
        group = token.member.control_group
        limits = GroupLimits.of(self.settings, snapshot.daily_elements.get(group))
        try:
            spend(self.engine, group, limits, len(blinded), token.use, now)
        except QuotaExceeded as error:
            self.metrics.count_refused(group, str(error.details["limit"]), len(blinded))
            raise
        self.metrics.count_evaluated(group, len(blinded))
        nonce = secrets.token_bytes(voprf.NONCE_BYTES)
        result = voprf.evaluate(share.secret, blinded, nonce, workers=workers)
        return EvaluatedBatch(share.epoch, share.generation, share.index, result.evaluated, result.proof)


def _check(blinded: Sequence[bytes]) -> None:
    for element in blinded:
        voprf.check_element(element)
