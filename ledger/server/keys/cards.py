"""What ledger and holders give each other: the ledger's card `ledger.json`, and the cards of all holders of a new
sharing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import ConfigurationError, HolderMismatch, InvalidCanonicalForm, InvalidInput, InvalidSignature
from ledger.protocol import sodium
from ledger.server.keys.epochs import HolderRow, SharingRow
from ledger.server.keys.files import (
    LOG_FILE,
    OPRF_FILE,
    RECEIVING_FILE,
    SESSION_FILE,
    create_random_file,
    create_receiving_file,
    load_log_key,
    load_receiving_key,
    raw_public,
    write_secret,
)
from ledger.server.settings import Settings
from ledger.tlog.ceremony_files import parse_endorsement_file
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.entries import IntroducedSharing, SharedKey
from ledger.tlog.key_history import BEGUN_SINGLE
from ledger.tlog.key_statement import (
    MAX_CARD_BYTES,
    Card,
    Endorsement,
    KeyStatement,
    check_endorsed,
    organisation_name,
    parse_card,
)
from ledger.tlog.ledger_card import LEDGER_CARD_NAME, LedgerCard, ledger_card_text, parse_ledger_card

MIN_THRESHOLD = 2


@dataclass(frozen=True, slots=True)
class NewSharing:
    """A sharing as the cards of all its holders describe it: the statement that all of them signed, the signatures
    over it (also of those who leave), and the address of each holder by its index. Only `read_cards` and `of` make
    it."""

    statement: KeyStatement
    endorsements: tuple[Endorsement, ...]
    urls: Mapping[int, str]

    @classmethod
    def of(cls, cards: Sequence[Card], endorsements: Sequence[Endorsement] = ()) -> NewSharing:
        """Return the sharing of these cards, one of each holder, with the `endorsements` of holders who leave.

        Raises HolderMismatch for cards of different statements, for a missing or doubled card, and for a threshold
        below 2; InvalidSignature for a false signature; InvalidInput without any card.
        """
        if not cards:
            raise InvalidInput("Give the card of every holder.")
        statement = cards[0].statement
        if any(card.statement.canonical != statement.canonical for card in cards):
            raise HolderMismatch("The cards are not of one key statement. Ask every holder for its newest card.")
        indexes = [card.index for card in cards]
        missing = [holder.key.holder for holder in statement.holders if holder.key.index not in indexes]
        if missing or len(set(indexes)) != len(indexes):
            raise HolderMismatch(
                f"Give one card of each holder. Missing: {', '.join(missing) or 'none'}.", missing=missing
            )
        if statement.keys.threshold < MIN_THRESHOLD:
            raise HolderMismatch(f"Holders share a key with a threshold of at least {MIN_THRESHOLD}.")
        signatures = {card.holder.signing_key: card.endorsement for card in sorted(cards, key=lambda card: card.index)}
        for endorsement in endorsements:
            signatures.setdefault(endorsement.signing_key, endorsement)
        check_endorsed(statement, signatures.values())
        return cls(statement, tuple(signatures.values()), {card.index: card.url for card in cards})

    def holder_rows(self) -> list[HolderRow]:
        """Return the holders as rows of the database, in the order of their indexes."""
        return [
            HolderRow(
                holder.key.index,
                holder.key.holder,
                holder.organisation,
                holder.operator,
                holder.key.public_key,
                holder.signing_key,
                self.urls[holder.key.index],
            )
            for holder in self.statement.holders
        ]

    def sharing_row(self, entry_index: int, logged_at: datetime) -> SharingRow:
        """Return the sharing as a row of the database."""
        statement = self.statement
        return SharingRow(
            statement.epoch,
            statement.keys.generation,
            statement.kind.value,
            entry_index,
            statement.canonical,
            logged_at,
        )

    def shared_key(self, entry_index: int) -> SharedKey:
        """Return the key as entries of the log name it; `entry_index` is the entry with the statement."""
        return SharedKey(self.statement.keys, entry_index)

    def introduced(self, previous_entry: int | None) -> IntroducedSharing:
        """Return the members of the entry that introduces the sharing."""
        return IntroducedSharing(self.statement, self.endorsements, previous_entry)


def read_cards(cards: Sequence[Path], endorsements: Sequence[Path] = ()) -> NewSharing:
    """Return the sharing of these card files, and of the endorsement files of holders who leave.

    Raises InvalidInput (with the file's name) for a file that cannot be read, InvalidCanonicalForm for one of another
    form, HolderMismatch, InvalidSignature, NewerFormat.
    """
    parsed = []
    for path in cards:
        try:
            parsed.append(parse_card(read_limited(path)))
        except (InvalidCanonicalForm, InvalidSignature, HolderMismatch) as error:
            raise type(error)(f"{path.name}: {error}", **error.details) from error
    signatures = []
    for path in endorsements:
        try:
            signatures.append(parse_endorsement_file(read_limited(path))[1])
        except InvalidCanonicalForm as error:
            raise InvalidCanonicalForm(f"{path.name}: {error}") from error
    return NewSharing.of(parsed, signatures)


def read_limited(path: Path, limit: int = MAX_CARD_BYTES) -> bytes:
    """Return the bytes of a file. Raises InvalidInput if it cannot be read, or has more than `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read.") from error
    if len(data) > limit:
        raise InvalidInput(f"{path.name} is too large.")
    return data


def check_addressed(settings: Settings, statement: KeyStatement, log_key: str) -> None:
    """Check that a statement is about this ledger, whose log has the verifier key `log_key`, and names as the
    operator's the holders of the organisation in `ledger.json`. Raises HolderMismatch, ConfigurationError."""
    if (statement.service, statement.environment, statement.log_key) != (
        settings.service,
        settings.environment,
        log_key,
    ):
        raise HolderMismatch("The holders' cards are of another ledger.")
    operator = organisation_name(load_ledger_card(settings).operator)
    for holder in statement.holders:
        if holder.operator != (organisation_name(holder.organisation) == operator):
            raise HolderMismatch(
                "A holder is marked as the operator's exactly if its organisation is the operator.",
                holder=holder.key.holder,
            )


# --- ledger.json ------------------------------------------------------------------------------------------------


def prepare_for_holders(settings: Settings, operator: str, url: str) -> tuple[LedgerCard, bool]:
    """Create the keys of a ledger whose OPRF key holders will share, and `ledger.json` for these holders; return the
    card, and whether it is new. After a crash, running it again completes it. No file is overwritten.

    Raises ConfigurationError if the key folder is of a 1-of-1 ledger, if files of a finished run are missing, or if the
    existing card names another operator or URL; InvalidInput for a malformed operator or URL.
    """
    folder, url = settings.keys_dir, url.rstrip("/")
    if (folder / OPRF_FILE).exists():
        raise ConfigurationError(f"The key folder is that of a 1-of-1 ledger. {BEGUN_SINGLE}")
    present = (folder / LEDGER_CARD_NAME).exists()
    if not present:
        # A LedgerCard checks its members: nothing is written for an operator or address that is refused.
        any_key = verifier_key(settings.origin, raw_public(Ed25519PrivateKey.generate()))
        any_point = sodium.scalarmult_base((1).to_bytes(32, "little"))
        LedgerCard(settings.service, settings.environment, operator, any_key, url, any_point)
        for name in (SESSION_FILE, LOG_FILE):
            if not (folder / name).exists():
                create_random_file(settings, name)
        if not (folder / RECEIVING_FILE).exists():
            create_receiving_file(settings)
        receiving = sodium.scalarmult_base(load_receiving_key(settings))
        card = LedgerCard(settings.service, settings.environment, operator, own_log_key(settings), url, receiving)
        write_secret(folder / LEDGER_CARD_NAME, ledger_card_text(card))
    card = check_prepared(settings)
    if (card.operator, card.url) != (operator, url):
        raise ConfigurationError(f"{LEDGER_CARD_NAME} exists already, with another operator or URL.")
    return card, not present


def check_prepared(settings: Settings) -> LedgerCard:
    """Return the ledger's card, after checking that it fits settings and key files. Raises ConfigurationError."""
    card = load_ledger_card(settings)
    if (card.service, card.environment, card.log_key) != (
        settings.service,
        settings.environment,
        own_log_key(settings),
    ):
        raise ConfigurationError(f"{LEDGER_CARD_NAME} is of other settings or another log key.")
    check_receiving_key(settings)
    if not (settings.keys_dir / SESSION_FILE).exists():
        raise ConfigurationError(f"{SESSION_FILE} is missing. Restore it; keys are never made anew.")
    return card


def is_prepared(settings: Settings) -> bool:
    """True if the key folder was prepared for a key that holders share."""
    return any((settings.keys_dir / name).exists() for name in (RECEIVING_FILE, LEDGER_CARD_NAME))


def load_ledger_card(settings: Settings) -> LedgerCard:
    """Return the ledger's own card. Raises ConfigurationError."""
    path = settings.keys_dir / LEDGER_CARD_NAME
    try:
        return parse_ledger_card(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{path.name} cannot be read. `refund-ledger keys init --threshold` writes it."
        ) from error
    except InvalidInput as error:
        raise ConfigurationError(f"{path.name} is damaged. {error}") from error


def check_receiving_key(settings: Settings) -> bytes:
    """Return the secret of the receiving key. Raises ConfigurationError unless it is that of `ledger.json`."""
    secret = load_receiving_key(settings)
    if sodium.scalarmult_base(secret) != load_ledger_card(settings).receiving_key:
        raise ConfigurationError(f"{RECEIVING_FILE} is not the key that {LEDGER_CARD_NAME} names.")
    return secret


def own_log_key(settings: Settings) -> str:
    """Return the verifier key of the log, from `log.key`. Raises ConfigurationError."""
    return verifier_key(settings.origin, raw_public(load_log_key(settings)))
