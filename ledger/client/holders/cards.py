"""Cards of key holders: read from files, and compared with each other and with the suite file.

A suite file alone is the operator's word, who could name holders of its own. So where a key is shared by t of n
holders, the client pins what the holders themselves signed: at least t cards of holders outside the operator's
organisation, all with the same statement of the keys. A later statement counts only if its key is proven to be a
multiple of the known one, or as many holders as before gave cards of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger.client.identity.suite import Epoch, Suite
from ledger.errors import ConfigurationError, HolderMismatch, InvalidProof, LedgerError
from ledger.tlog.ceremony_files import verify_multiple
from ledger.tlog.key_statement import MAX_CARD_BYTES, Card, KeyStatement, parse_card

CARD_PATTERN = "*.card.json"
"""Cards in a folder of cards."""
MAX_CARDS = 50

CardSource = str | Path | Sequence[str | Path | Card]
"""A card file, a folder with files `*.card.json`, or a list of files, folders and parsed cards."""


@dataclass(frozen=True, slots=True)
class PinnedCards:
    """The cards that a client has, compared. `statement` is what at least t holders outside the operator signed, None
    where one holder has the whole key. `urls` are the addresses of services, by holder id."""

    statement: KeyStatement | None = None
    urls: dict[str, str] = field(default_factory=dict)


def read_cards(source: CardSource | None) -> tuple[Card, ...]:
    """Return the cards of files, folders and objects, verified. Raises ConfigurationError."""
    if source is None:
        return ()
    items: Sequence[str | Path | Card] = [source] if isinstance(source, str | Path) else source
    cards: list[Card] = []
    for item in items:
        if isinstance(item, Card):
            cards.append(item)
        else:
            cards.extend([_read(path) for path in _files(Path(item))])
    if len(cards) > MAX_CARDS:
        raise ConfigurationError(f"More than {MAX_CARDS} holder cards are given.")
    return tuple(cards)


def cards_from_text(text: str) -> CardSource | None:
    """Return the files or the folder that the value of an environment variable names; None for an empty one."""
    return [part for part in text.split(os.pathsep) if part] or None


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(CARD_PATTERN))
    if not files:
        raise ConfigurationError(f"The folder {path.name} holds no holder card ({CARD_PATTERN}).")
    return files


def _read(path: Path) -> Card:
    try:
        with path.open("rb") as file:
            return parse_card(file.read(MAX_CARD_BYTES + 1))
    except OSError as error:
        raise ConfigurationError(f"The holder card {path.name} cannot be read.") from error
    except LedgerError as error:
        raise ConfigurationError(f"The holder card {path.name} cannot be used: {error}") from error


def pin_cards(suite: Suite, cards: Sequence[Card]) -> PinnedCards:
    """Return what the cards pin, after comparing them with each other and with the suite file.

    Cards and suite may be of different generations of a key, or epochs: the log proves what came after the cards.
    Raises ConfigurationError (too few cards), HolderMismatch with `holder` in its details (they contradict each
    other or the suite).
    """
    for card in cards:
        _check_service(suite, card)
    _check_agreement(cards)
    statement = _pinned(suite, cards)
    if statement is None:
        shared = [epoch for epoch in suite.pinned.epochs if not epoch.keys.is_single]
        if shared or cards:
            raise _missing(suite.current if not suite.current.keys.is_single or not shared else shared[-1], cards)
        return PinnedCards()
    for card in cards:
        _check_suite(suite, card)
    return PinnedCards(statement, _urls(statement, cards))


def _urls(statement: KeyStatement, cards: Sequence[Card]) -> dict[str, str]:
    """Return the newest address of each holder, by id. A card of an id that the pinned statement gives to another
    signing key is not that holder's."""
    signing_keys = {holder.key.holder: holder.signing_key for holder in statement.holders}
    urls = {}
    for card in _newest_last(cards):
        name = card.holder.key.holder
        if signing_keys.get(name, card.holder.signing_key) == card.holder.signing_key:
            urls[name] = card.url
    return urls


def _check_service(suite: Suite, card: Card) -> None:
    pinned, statement = suite.pinned, card.statement
    if (statement.service, statement.environment) != (pinned.service, pinned.environment):
        raise _mismatch(card, "is of another service or environment than the suite file")
    if (statement.log_origin, statement.log_key) != (pinned.log_origin, pinned.log_key):
        raise _mismatch(card, "names another log key than the suite file")
    if statement.keys.is_single:
        raise _mismatch(card, "states a key that one holder has as a whole, which no card can pin")


def _check_agreement(cards: Sequence[Card]) -> None:
    """Raises HolderMismatch unless cards of one generation have the same statement, and those of one epoch the same
    public key. The holders that fewer cards agree with are named."""
    for sharing in {(card.statement.epoch, card.statement.keys.generation) for card in cards}:
        of_sharing = [card for card in cards if _sharing(card) == sharing]
        most = Counter([card.statement.canonical for card in of_sharing]).most_common(1)[0][0]
        for card in of_sharing:
            if card.statement.canonical != most:
                raise _mismatch(card, "states other keys than the other cards")
    for epoch in {card.statement.epoch for card in cards}:
        of_epoch = [card for card in cards if card.statement.epoch == epoch]
        common = Counter([card.statement.keys.public_key for card in of_epoch]).most_common(1)[0][0]
        for card in of_epoch:
            if card.statement.keys.public_key != common:
                raise _mismatch(card, "states another public key than the other cards")


def _check_suite(suite: Suite, card: Card) -> None:
    """Raises HolderMismatch unless the card agrees with what the suite file says about the same epoch."""
    statement = card.statement
    previous = statement.previous
    for epoch in suite.pinned.epochs:
        if previous is not None and epoch.epoch == previous.epoch and epoch.keys.public_key != previous.public_key:
            raise _mismatch(card, "follows another key than the suite file names")
        if epoch.epoch != statement.epoch:
            continue
        if epoch.keys.public_key != statement.keys.public_key or epoch.keys.is_single != statement.keys.is_single:
            raise _mismatch(card, "states another public key than the suite file")
        if epoch.keys.generation == statement.keys.generation:
            listed = {name: holder.signing_key for name, holder in epoch.listed.items() if holder.signing_key}
            stated = {holder.key.holder: holder.signing_key for holder in statement.holders}
            if epoch.keys != statement.keys or any(stated[name] != key for name, key in listed.items()):
                raise _mismatch(card, "states other key holders than the suite file")


def _pinned(suite: Suite, cards: Sequence[Card]) -> KeyStatement | None:
    """Return the newest statement for which enough holders outside the operator gave cards: at least its threshold, and
    at least the threshold of each sharing that is not proven to be of the same key, or of a multiple of it.

    Else one holder, or a few, could state a key of their own under a later epoch: the log is compared with what is
    pinned, so it does not show that.
    """
    for card in reversed(_newest_last(cards)):
        statement = card.statement
        indexes = {other.index for other in cards if _sharing(other) == _sharing(card) and not other.holder.operator}
        thresholds = [other.statement.keys.threshold for other in cards if not _is_linked(statement, other.statement)]
        thresholds += [
            epoch.keys.threshold
            for epoch in suite.pinned.epochs
            if epoch.epoch < statement.epoch and not _follows(statement, epoch.epoch, epoch.keys.public_key)
        ]
        if len(indexes) >= max([statement.keys.threshold, *thresholds]):
            return statement
    return None


def _is_linked(statement: KeyStatement, other: KeyStatement) -> bool:
    """True if both are of one key, or one of a proven multiple of the other's."""
    if statement.epoch == other.epoch:
        return statement.keys.public_key == other.keys.public_key
    earlier, later = sorted((statement, other), key=lambda stated: stated.epoch)
    return _follows(later, earlier.epoch, earlier.keys.public_key)


def _follows(statement: KeyStatement, epoch: int, public_key: bytes) -> bool:
    """True if the key of a statement is proven to be a known multiple of `public_key`, the key of the epoch before."""
    previous, proof = statement.previous, statement.multiple_proof
    if previous is None or (previous.epoch, previous.public_key) != (epoch, public_key) or proof is None:
        return False
    try:
        verify_multiple(public_key, statement.keys.public_key, proof)
    except InvalidProof:
        return False
    return True


def _missing(epoch: Epoch, cards: Iterable[Card]) -> ConfigurationError:
    """Return the error which says whose cards are missing."""
    newest = _newest_last(list(cards))[-1:]
    if epoch.keys.is_single and newest:
        return ConfigurationError(
            "The suite file says that one holder has the whole key, but the cards are of a shared key. Ask the "
            "operator for the suite file of this ledger."
        )
    here = {card.holder.key.holder for card in cards if not card.holder.operator}
    absent = []
    for holder in epoch.holders:
        listed = epoch.listed.get(holder.holder)
        if holder.holder not in here and not (listed and listed.operator):
            organisation = listed.organisation if listed else None
            absent.append(f"{holder.holder} ({organisation})" if organisation else holder.holder)
    count = epoch.keys.threshold
    return ConfigurationError(
        f"The key of this ledger is shared by {len(epoch.holders)} holders, and {count} of them evaluate. The suite "
        f"file alone is the operator's word: cards of at least {count} holders outside the operator are needed, all of "
        f"the same keys; {len(here)} are given. Missing: {', '.join(absent)}. Ask these organisations themselves for "
        "their cards (NAME.card.json), and give the files as `cards`, --cards or REFUND_LEDGER_CARDS.",
        missing=[holder.holder for holder in epoch.holders if holder.holder not in here],
    )


def _sharing(card: Card) -> tuple[int, int]:
    return card.statement.epoch, card.statement.keys.generation


def _newest_last(cards: Sequence[Card]) -> list[Card]:
    return sorted(cards, key=_sharing)


def _mismatch(card: Card, words: str) -> HolderMismatch:
    holder = card.holder.key.holder
    return HolderMismatch(f"The card of key holder {holder} {words}.", holder=holder)
