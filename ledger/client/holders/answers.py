"""Parse what evaluates blinded elements: the answer of one holder, and that of a ledger which has the whole key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.client.models.decoding import Count, Model, decode
from ledger.errors import HolderMismatch, InvalidEncoding, InvalidProof, UnexpectedAnswer
from ledger.protocol.encoding import unb64url
from ledger.protocol.threshold import KeySet, Share, VerifiedShare, verify_share
from ledger.protocol.voprf import ELEMENT_BYTES, PROOF_BYTES


class _NamedShare(Model, frozen=True):
    holder: str
    evaluated: tuple[Any, ...]
    proof: str


class _LedgerAnswer(Model, frozen=True):
    """The answer of the ledger's own `POST /v1/oprf/evaluate`."""

    epoch: Count
    shares: tuple[_NamedShare, ...]


class _HolderAnswer(Model, frozen=True):
    """The answer of a holder's `POST /v1/oprf/evaluate`."""

    epoch: Count
    generation: Count
    index: Count
    evaluated: tuple[Any, ...]
    proof: str


def ledger_share(answer: object, epoch: int, keys: KeySet, blinded: Sequence[bytes]) -> VerifiedShare:
    """Return the verified share of the one holder of `keys` in the ledger's own answer.

    Raises UnexpectedAnswer (another form or epoch), HolderMismatch (the share is missing, doubled or of another
    holder), InvalidProof with `holder` in its details.
    """
    evaluation = decode(answer, _LedgerAnswer)
    if evaluation.epoch != epoch:
        raise UnexpectedAnswer("The ledger evaluated under another key epoch than the one asked for.")
    if len(evaluation.shares) != 1 or not keys.is_single:
        raise HolderMismatch("There must be exactly one share from each pinned key holder and none from others.")
    share = evaluation.shares[0]
    index = keys.of(share.holder).index
    return verify_share(keys, blinded, _share(keys.generation, index, share.evaluated, share.proof, share.holder))


def holder_share(answer: object, epoch: int, keys: KeySet, index: int, blinded: Sequence[bytes]) -> VerifiedShare:
    """Return the verified share of the holder at `index`, which answered for itself.

    Raises UnexpectedAnswer (another form or epoch), HolderMismatch (another generation or index), InvalidProof with
    `holder` in its details.
    """
    evaluation = decode(answer, _HolderAnswer)
    if evaluation.epoch != epoch:
        raise UnexpectedAnswer("A key holder evaluated under another key epoch than the one asked for.")
    if evaluation.generation != keys.generation or evaluation.index != index:
        raise HolderMismatch("A key holder answered with another share of the key than the one asked for.")
    holder = keys.at(index).holder
    return verify_share(keys, blinded, _share(keys.generation, index, evaluation.evaluated, evaluation.proof, holder))


def _share(generation: int, index: int, evaluated: Sequence[Any], proof: str, holder: str) -> Share:
    try:
        elements = tuple([unb64url(text, ELEMENT_BYTES) for text in evaluated])
        return Share(generation, index, elements, unb64url(proof, PROOF_BYTES))
    except InvalidEncoding as error:
        raise InvalidProof("A holder's answer is not of the right form.", holder=holder) from error
