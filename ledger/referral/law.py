"""The law of a profile, for orientation: articles, their sources and dates, and bands of amounts.

Bands are in yuan and apply to one person's acts, which are added up only if the law says so. Only a court or the
competent authority decides whether a rule applies; no amount is compared with a band.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.rules.jurisdictions import Profile


def _(message: str) -> str:
    """Mark a text for the catalogue; it is translated when it is shown."""
    return message


@dataclass(frozen=True, slots=True)
class AmountBand:
    """A level of amounts that begins at `from_yuan`. With `to_yuan`, each province sets a beginning between the two."""

    level: str
    from_yuan: int
    to_yuan: int | None = None


@dataclass(frozen=True, slots=True)
class Law:
    """A rule: its stable code, its source as cited, the date since which it is in force, a summary, its bands."""

    code: str
    source: str
    since: str
    text: str
    bands: tuple[AmountBand, ...] = ()


LEVELS: dict[str, str] = {
    "large": _("relatively large"),
    "huge": _("huge"),
    "especially_huge": _("especially huge"),
}

LAWS: tuple[Law, ...] = (
    Law(
        "civil_148",
        "《中华人民共和国民法典》第一百四十八条",
        "2021-01-01",
        _(
            "Civil Code, art. 148: whoever was brought by deceit to an act that is against their true will may ask a "
            "court or an arbitration body to revoke it."
        ),
    ),
    Law(
        "public_security_58",
        "《中华人民共和国治安管理处罚法》（2025年修订）第五十八条",
        "2026-01-01",
        _(
            "Public Security Administration Punishments Law as revised in 2025, art. 58: for deceit to obtain "
            "property, 5 to 10 days’ detention or a fine of up to 2,000 yuan; in more serious cases, 10 to 15 days’ "
            "detention and possibly a fine of up to 3,000 yuan. In force since 1 January 2026; for acts before that "
            "day the earlier version has to be looked at."
        ),
    ),
    Law(
        "criminal_266",
        "《中华人民共和国刑法》第二百六十六条",
        "1997-10-01",
        _(
            "Criminal Law, art. 266, knows three levels of amounts: relatively large (up to 3 years’ imprisonment, "
            "short-term detention or public surveillance, with a fine or a fine alone), huge or otherwise serious (3 "
            "to 10 years and a fine), especially huge or otherwise especially serious (10 years or more, or life, and "
            "a fine or confiscation of property)."
        ),
    ),
    Law(
        "interpretation_2011",
        "法释〔2011〕7号，第一条",
        "2011-04-08",
        _(
            "Amounts in general: interpretation of the Supreme People’s Court and the Supreme People’s Procuratorate "
            "of 2011. Within each range the province sets the figure."
        ),
        (
            AmountBand("large", 3_000, 10_000),
            AmountBand("huge", 30_000, 100_000),
            AmountBand("especially_huge", 500_000),
        ),
    ),
    Law(
        "opinion_2016",
        "法发〔2016〕32号，第二条",
        "2016-12-19",
        _(
            "Amounts in telecommunication and network cases: opinion of the Supreme People’s Court, the Supreme "
            "People’s Procuratorate and the Ministry of Public Security of 2016. Whether a refund claim made online is "
            "such a case is itself for the court to decide."
        ),
        (AmountBand("large", 3_000), AmountBand("huge", 30_000), AmountBand("especially_huge", 500_000)),
    ),
)

LAWS_OF: Mapping[str, tuple[Law, ...]] = {Profile.CN: LAWS}
"""Laws by profile. For other profiles a referral says that no bands are given."""
