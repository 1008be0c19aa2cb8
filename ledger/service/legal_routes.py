"""Where a person can go if they do not agree with the ledger, by the legal profile of their case.

Each route names the statute it comes from; `docs/letters.md` says which duty each letter fulfils. An operator has these
texts read by a lawyer before they are sent. Every profile exists in both languages: a buyer on a European platform may
read Chinese.
"""

from __future__ import annotations

from ledger.core.appeals import Outcome
from ledger.core.policy import Profile
from ledger.i18n import Texts

REMOVED = frozenset({Outcome.OVERTURNED, Outcome.VICTIM})
"""Decisions after which no record of the act is left to add a statement to."""


def routes(t: Texts, profile: Profile, outcome: Outcome | None) -> list[str]:
    """The person's legal routes, one sentence or two each; `outcome` is None before a decision."""
    if profile is Profile.CN:
        return _cn(t)
    if profile is Profile.EU:
        return _eu(t)
    return _us(t, outcome)


def _cn(t: Texts) -> list[str]:
    return [
        t.gettext(
            "complain to the branch of the People’s Bank of China where you live, which supervises credit reporting "
            "(Credit Reporting Regulation, articles 25 and 26). It must answer you in writing within 30 days of "
            "accepting the complaint;"
        ),
        t.gettext(
            "complain to the cyberspace administration or another authority that protects personal information "
            "(Personal Information Protection Law, article 65);"
        ),
        t.gettext(
            "go directly to a people’s court (Credit Reporting Regulation, article 26; Personal Information Protection "
            "Law, article 50)."
        ),
    ]


def _eu(t: Texts) -> list[str]:
    return [
        t.gettext(
            "complain to a data protection supervisory authority, in particular where you live, where you work or "
            "where it happened (GDPR, article 77);"
        ),
        t.gettext("go to a court (GDPR, article 79), without having complained to an authority first;"),
        t.gettext(
            "insist that no decision with serious effects on you, such as a refused refund, is made by a computer "
            "alone: you may ask the platform for a person, give your view and contest its decision (GDPR, article 22)."
        ),
    ]


def _us(t: Texts, outcome: Outcome | None) -> list[str]:
    found = []
    if outcome is not None and outcome not in REMOVED:
        found.append(
            t.gettext(
                "file a brief statement of dispute. Every later answer that contains the record must then note that "
                "you dispute it and give your statement or a clear summary of it (15 U.S.C. 1681i(b) and (c));"
            )
        )
    if outcome is not None:
        found.append(
            t.gettext(
                "ask us how we investigated, which we must tell you within 15 days, and ask us to notify whoever got "
                "the record in the last six months of its removal or of your statement (15 U.S.C. 1681i(a)(7), (d));"
            )
        )
    return [
        *found,
        t.gettext(
            "complain to the Consumer Financial Protection Bureau, the Federal Trade Commission or the attorney "
            "general of your state;"
        ),
        t.gettext("go to a court (15 U.S.C. 1681n and 1681o)."),
    ]
