"""What each party of a shared ledger holds and could learn alone, tried out: with the secrets that are in its files,
each party looks for listed people among phone numbers that it guesses.

A party names a person if it computes the element T = k H(x) of the number x, which the ledger stores of every report.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.protocol import sodium, threshold, voprf
from ledger.protocol.identifiers import Kind, canonical
from ledger.server.demo.local_holders import (
    HOLDERS,
    THRESHOLD,
    holder_folder,
    holder_settings,
)

if TYPE_CHECKING:
    from ledger.holder.shares import HeldShare
    from ledger.server.settings import Settings

CANDIDATES = 500
HOLDER_ASKED = "north"
"""The holder whose `holder status` is shown."""


@dataclass(frozen=True, slots=True)
class DemoParty:
    """A party, how many shares of the key it has, and how many listed people it named."""

    name: str
    shares: int
    named: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What the parties named, of how many listed people and among how many numbers; and how many identifiers the owner
    of a member platform can have evaluated in a day by its budgets at all holders."""

    parties: tuple[DemoParty, ...]
    listed: int
    candidates: int
    daily: int

    @property
    def days_for_1e9(self) -> int:
        """The number of days that this takes for 10^9 numbers."""
        return -(-(10**9) // self.daily)

    @property
    def as_expected(self) -> bool:
        """True if each single party named no listed person, and two holders together named all."""
        single = [party.named for party in self.parties if party.shares < THRESHOLD]
        together = [party.named for party in self.parties if party.shares >= THRESHOLD]
        return bool(single and together) and not any(single) and all(count == self.listed > 0 for count in together)


@dataclass(frozen=True, slots=True)
class _Holdings:
    """Secrets of a party: shares of the key, and other secrets of 32 bytes, which are tried as if they were the key."""

    shares: tuple[HeldShare, ...] = ()
    others: tuple[bytes, ...] = field(default=(), repr=False)


def look_for_names(settings: Settings, folder: Path, phones: Sequence[str], control_group: str) -> Findings:
    """Have each party look for the people with these phone numbers, who are listed, among CANDIDATES numbers.

    Raises ConfigurationError if a file of a party cannot be read, DatabaseUnavailable.
    """
    stored = _stored_elements(settings)
    guesses = [*phones, *[f"+86 139 {number:08d}" for number in _distinct(CANDIDATES - len(phones), 10**8)]]
    points = [voprf.hash_to_group(canonical(Kind.PHONE, guess)) for guess in guesses]
    parties = tuple(
        [
            DemoParty(name, len(holdings.shares), _count_named(holdings, points, stored))
            for name, holdings in _holdings(settings, folder).items()
        ]
    )
    # Each identifier needs THRESHOLD holders, and each holder counts for itself.
    daily = _daily_budget(folder, control_group) * len(HOLDERS) // THRESHOLD
    return Findings(parties, len(phones), len(guesses), daily)


def _holdings(settings: Settings, folder: Path) -> Mapping[str, _Holdings]:
    from ledger.holder.folder import read_folder
    from ledger.holder.shares import active_shares
    from ledger.server.keys.files import load_log_key, load_receiving_key, load_session_key

    shares = {holder: active_shares(holder_folder(folder, holder))[-1:] for holder in HOLDERS}
    static = {holder: read_folder(holder_folder(folder, holder)).static_secret() for holder in HOLDERS}
    # The key folder and the database, which also a backup of the ledger has.
    backed_up = (load_receiving_key(settings), load_session_key(settings), load_log_key(settings).private_bytes_raw())
    holdings = {"operator": _Holdings(shares["ledger"], (*backed_up, static["ledger"]))}
    for holder in HOLDERS:
        if holder != "ledger":
            holdings[holder] = _Holdings(shares[holder], (static[holder],))
    holdings["thief"] = _Holdings((), backed_up)
    holdings["two"] = _Holdings((*shares["north"], *shares["south"]))
    return holdings


def _count_named(holdings: _Holdings, points: Sequence[bytes], stored: frozenset[bytes]) -> int:
    """Return for how many points one of the party's secrets, or what its shares give together, makes a stored
    element."""
    named: set[bytes] = set()
    secrets_tried = [*[share.secret for share in holdings.shares], *holdings.others]
    for secret in secrets_tried:
        scalar = sodium.scalar_reduce(secret + bytes(32))
        elements = sodium.scalarmult_many(scalar, points)
        named.update([point for point, element in zip(points, elements, strict=True) if element in stored])
    if len(holdings.shares) > 1:
        scalar = _combined(holdings.shares)
        elements = sodium.scalarmult_many(scalar, points)
        named.update([point for point, element in zip(points, elements, strict=True) if element in stored])
    return len(named)


def _combined(shares: Sequence[HeldShare]) -> bytes:
    """Return what shares of one generation give together: the key, if there are enough of them."""
    coefficients = threshold.lagrange([share.index for share in shares])
    total = sum(coefficients[share.index] * int.from_bytes(share.secret, "little") for share in shares)
    return (total % sodium.GROUP_ORDER).to_bytes(sodium.SCALAR_BYTES, "little")


def _stored_elements(settings: Settings) -> frozenset[bytes]:
    """Return the elements of phone numbers that the ledger's database has."""
    from sqlalchemy import select

    from ledger.server.db.engine import reading
    from ledger.server.db.opening import open_database
    from ledger.server.db.tables.reports import Subject

    engine = open_database(settings, pool_size=1)
    try:
        with reading(engine) as connection:
            return frozenset(connection.execute(select(Subject.element).where(Subject.kind == Kind.PHONE)).scalars())
    finally:
        engine.dispose()


def _daily_budget(folder: Path, control_group: str) -> int:
    """Return how many elements a control group can have evaluated in a day at one holder, as its `holder status`
    says."""
    from ledger.holder.database import open_holder_database
    from ledger.holder.shares import active_shares
    from ledger.holder.status import holder_status

    settings = holder_settings(folder, HOLDER_ASKED)
    engine = open_holder_database(settings, pool_size=1)
    try:
        shares = active_shares(settings.dir)
        status = holder_status(settings, engine, HOLDER_ASKED, shares, datetime.now(UTC))
    finally:
        engine.dispose()
    budgets = {row["control_group"]: row["daily"] for row in status["control_groups"]}
    return int(budgets[control_group])


def _distinct(count: int, below: int) -> list[int]:
    numbers: set[int] = set()
    while len(numbers) < count:
        numbers.add(secrets.randbelow(below))
    return sorted(numbers)
