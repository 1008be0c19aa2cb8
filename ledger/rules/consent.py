"""References to a person's consent: one rule for reports and lookups.

A reference is opaque text by which the platform finds the consent in its own records. Which law asks for one is a field
of its row (`ledger.rules.jurisdictions`); from when on lookups need one is said by the policy (`[consent]`).
"""

from __future__ import annotations

import unicodedata

from ledger.errors import ConsentMissing, LedgerError
from ledger.rules.clean_text import shows

MAX_REF_CHARS = 128


def fault_of_reference(value: object) -> str | None:
    """Return what is wrong with the form of a reference, as a sentence without its subject; None if the form is right.

    A reference has 1 to 128 printable characters (`str.isprintable`: blanks only as U+0020) in Unicode NFC. One that
    is made of characters without a shape passes here; see `shows_nothing`.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_REF_CHARS or not value.isprintable():
        return f"must be 1 to {MAX_REF_CHARS} printable characters."
    if not value.isascii() and not unicodedata.is_normalized("NFC", value):
        return "must be in Unicode NFC."
    return None


def shows_nothing(text: str) -> bool:
    """True if no character of `text` has a shape by itself: a blank names nothing."""
    return not any(map(shows, text))


def check_consent(ref: str | None, *, profile: str, required: bool, of: str, unfit: type[LedgerError]) -> None:
    """Check the consent. Raises ConsentMissing where a consent is `required` under `profile` and `ref` is missing or
    blank, and `unfit` for a blank reference elsewhere. `of` is what needs it: `report`, `lookup` or `check`. The form
    of `ref` is fit."""
    blank = ref is not None and shows_nothing(ref)
    if required and (ref is None or blank):
        raise ConsentMissing(
            f"Under the {profile} profile a {of} needs consent_ref: the person's separate consent.",
            field="consent_ref",
            profile=profile,
        )
    if blank:
        raise unfit(
            "consent_ref shows nothing: it must name where the platform keeps the consent.", field="consent_ref"
        )
