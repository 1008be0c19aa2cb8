"""What the codes in the API's answers mean, in plain words of one language."""

from __future__ import annotations

from ledger.catalogue import advice_text, reason_text
from ledger.errors import NotFound
from ledger.i18n import LOCALES, texts
from ledger.rules.guidance import ADVICE_TEXTS
from ledger.rules.reasons import REASON_TEXTS
from ledger.server.appeals.export import meanings
from ledger.tlog.entries import WithdrawalReason


def _(message: str) -> str:
    """Marks a text for the catalogue; it is translated when it is asked for."""
    return message


WITHDRAWALS: dict[WithdrawalReason, str] = {
    WithdrawalReason.WRONG_PERSON: _("The report was about the wrong person"),
    WithdrawalReason.WRONG_FACTS: _("The report said something that was not so"),
    WithdrawalReason.DUPLICATE: _("The same matter was reported twice"),
    WithdrawalReason.OTHER: _("For another reason"),
    WithdrawalReason.LINKED_REPORT_VOID: _("A report that it rests on was taken back or decided against"),
    WithdrawalReason.NOT_RELEASED: _("It was held, and not released in time"),
    WithdrawalReason.MALFORMED_SUBJECT: _("It was recorded in a form under which it could not be found"),
}
"""Why a report was taken back."""

_NO_CODES = frozenset({"reported_by"})
"""Members of `meanings` that explain a name and no code."""


def texts_of(locale: str) -> dict[str, dict[str, str]]:
    """The text of each code in `locale` (one of LOCALES), by the member of an answer that holds the code.

    Raises NotFound for another locale.
    """
    if locale not in LOCALES:
        raise NotFound(f"There are texts in {' and '.join(LOCALES)}.")
    return {
        "reasons": {code.value: reason_text(code, locale) for code in REASON_TEXTS},
        "guidance": {code.value: advice_text(code, locale) for code in ADVICE_TEXTS},
        **{name: codes for name, codes in meanings(locale).items() if name not in _NO_CODES},
        "reason": {code.value: texts(locale).gettext(text) for code, text in WITHDRAWALS.items()},
    }
