"""A finding that an inspection made in a file: its code (`ledger.rules.findings`), where it was made, and its facts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from ledger.evidence.formats.metadata import clean
from ledger.evidence.limits import MAX_FACTS_LISTED
from ledger.rules.findings import CODES, About, FindingCode, Strength, Trust, strength_of

Fact = str | int | list[str] | list[int]
_TRUSTS = frozenset(trust.value for trust in Trust)


@dataclass(frozen=True, slots=True)
class InspectionFinding:
    """One finding: its place in the file, and the facts there, cleaned and cut."""

    code: FindingCode
    where: str
    facts: Mapping[str, Fact]

    @property
    def trust(self) -> Trust | None:
        """The trust in the signer of the statement, None if it is not signed."""
        trust = self.facts.get("trust")
        return Trust(trust) if trust in _TRUSTS else None

    @property
    def strength(self) -> Strength:
        """The strength of the finding."""
        return strength_of(self.code, self.trust)

    @property
    def about(self) -> About:
        """The subject of the finding."""
        return CODES[self.code][1]


def finding(code: FindingCode, where: str, **facts: Fact | None) -> InspectionFinding:
    """Return a finding with its facts made fit for a receipt; those without a value are left out."""
    kept = {name: fit(value) for name, value in facts.items() if value is not None and value != "" and value != []}
    return InspectionFinding(code, clean(where, 80), kept)


def fit(value: Fact) -> Fact:
    """Return a fact as a receipt may hold it: texts cleaned and cut, lists of one kind and not too long."""
    if isinstance(value, list):
        numbers = [item for item in value if isinstance(item, int)]
        return numbers or [clean(item) for item in value[:MAX_FACTS_LISTED] if isinstance(item, str)]
    return clean(value) if isinstance(value, str) else value


def folded(text: str) -> str:
    """Return `text` for comparing names: NFKC, without case."""
    return unicodedata.normalize("NFKC", text).casefold()
