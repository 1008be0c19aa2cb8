"""The laws under which platforms report: one row for each law, with everything that the ledger needs to apply it.

A further jurisdiction is one more row of `Profile`, its texts in the catalogues, and its columns in
`docs/jurisdictions.md`. Code reads the fields of the row and never compares profiles. The rows are for
orientation; a lawyer of the jurisdiction must review them before a ledger runs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from ledger.protocol.row_enum import RowEnum


def _(message: str) -> str:
    """Return `message` itself, marked for the catalogues."""
    return message


@dataclass(frozen=True, slots=True)
class AppealClock:
    """The time for a decision: `days`, or calendar `months` where the statute counts those (the other is 0), and the
    days of the one extension, all in calendar days of `time_zone` (IANA)."""

    days: int
    months: int
    extension_days: int
    time_zone: str


@dataclass(frozen=True, slots=True)
class StatutoryLimits:
    """The most that the statute allows; a policy may only shorten. `months` is 0 where the statute counts days."""

    days: int
    months: int
    extension_days: int


class Purpose(StrEnum):
    """What a statute is cited for."""

    BASIS = "basis"
    """What makes reporting lawful, beyond a general ground for processing."""
    SEE = "see"
    WHO_LOOKED = "who_looked"
    CONTEST = "contest"
    CORRECT = "correct"
    SUSPEND = "suspend"
    """A contested report does not count meanwhile."""
    STATEMENT = "statement"
    HUMAN = "human"
    EXPLAIN_REFUSAL = "explain_refusal"
    """What a platform owes a person whom it refused something."""
    COMPLAIN = "complain"


class RouteAfter(StrEnum):
    """From when on a legal route is named in letters."""

    FILING = "filing"
    DECISION = "decision"
    RECORD_KEPT = "record_kept"
    """After a decision that leaves a record."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a person can go who does not agree: the msgid of a sentence or two that continues "you may"."""

    text: str
    after: RouteAfter = RouteAfter.FILING


@dataclass(frozen=True, slots=True)
class LegalSource:
    """A statute that the row rests on: its title, where it was published, and the first day that it applied."""

    title: str
    published: str
    in_force: date


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    """One law. All texts are msgids.

    `clock` is the default for a policy that does not name the profile, `limits` its statutory maximum;
    `receipt_day_counts`: the day on which an appeal is received is the first day of the period. `consent_for_reports`
    and `consent_for_lookups`: the platform must hold the person's consent and refer to it (`consent_ref`).
    `clock_text` cites the clock in a few words, `limit_text` explains it beside a figure. `statutes` are citations by
    purpose; a purpose that is not there has no rule in this law. `handover` says what handing a referral to others
    needs, None: nothing of its own.
    """

    code: str
    clock: AppealClock
    limits: StatutoryLimits
    receipt_day_counts: bool
    consent_for_reports: bool
    consent_for_lookups: bool
    clock_text: str
    limit_text: str
    statutes: Mapping[Purpose, str]
    routes: tuple[Route, ...]
    handover: str | None
    sources: tuple[LegalSource, ...]

    def limit_days(self, clock: AppealClock) -> tuple[int, int]:
        """Return the smallest and the largest number of days between the opening and the end of `clock`: it ends with a
        day, and a month has 28 to 31 days."""
        least, most = (28, 31) if clock.months else (clock.days, clock.days)
        return least - self.receipt_day_counts, most + 1 - self.receipt_day_counts


class Profile(RowEnum):
    """The legal profile of a platform: what it must obtain, and which clock an appeal runs on."""

    spec: Jurisdiction

    CN = Jurisdiction(
        code="CN",
        clock=AppealClock(days=20, months=0, extension_days=0, time_zone="Asia/Shanghai"),
        limits=StatutoryLimits(days=20, months=0, extension_days=0),
        receipt_day_counts=False,  # Civil Code art. 201
        consent_for_reports=True,
        consent_for_lookups=True,
        clock_text=_("Credit Reporting Regulation (PRC), article 25: 20 days"),
        limit_text=_(
            "The limit is 20 days after the day of receipt (Credit Reporting Regulation, art. 25). It falls within the "
            "band, depending on the hour of filing."
        ),
        statutes={
            Purpose.BASIS: _("Credit Reporting Regulation arts. 13, 15, 18; PIPL arts. 13, 23"),
            Purpose.SEE: _("Credit Reporting Regulation art. 17; PIPL art. 45"),
            Purpose.WHO_LOOKED: _("PIPL art. 45"),
            Purpose.CONTEST: _("Credit Reporting Regulation art. 25: 20 days"),
            Purpose.CORRECT: _("Credit Reporting Regulation art. 25; PIPL art. 46"),
            Purpose.SUSPEND: _("Credit Reporting Regulation art. 25 (marked as disputed)"),
            Purpose.STATEMENT: _("Credit Reporting Regulation art. 16(2)"),
            Purpose.HUMAN: _("PIPL art. 24; Order 116 of SAMR and CAC"),
            Purpose.EXPLAIN_REFUSAL: _("Order 116 of SAMR and CAC; PIPL art. 24(3)"),
            Purpose.COMPLAIN: _("Credit Reporting Regulation art. 26; PIPL arts. 50, 65"),
        },
        routes=(
            Route(
                _(
                    "complain to the branch of the People’s Bank of China where you live, which supervises credit "
                    "reporting (Credit Reporting Regulation, articles 25 and 26). It must answer you in writing within "
                    "30 days of accepting the complaint;"
                )
            ),
            Route(
                _(
                    "complain to the cyberspace administration or another authority that protects personal information "
                    "(Personal Information Protection Law, article 65);"
                )
            ),
            Route(
                _(
                    "ask the platform that refused you for the facts, the reasons and the basis. It must give you an "
                    "easy way to object. If you ask for a person, a computer alone may not decide (Order 116 of SAMR "
                    "and CAC, in force since 1 February 2026; Personal Information Protection Law, article 24);"
                )
            ),
            Route(
                _(
                    "go directly to a people’s court (Credit Reporting Regulation, article 26; Personal Information "
                    "Protection Law, article 50)."
                )
            ),
        ),
        handover=_(
            "Handing personal information to others needs a basis under the Personal Information Protection Law "
            "(art. 13) and, unless the law provides otherwise, notice to the person and their separate consent "
            "(art. 23); the platform that hands this file over answers for having them."
        ),
        sources=(
            LegalSource("Credit Reporting Regulation", "State Council Order 631", date(2013, 3, 15)),
            LegalSource("Civil Code", "Order 45 of the President", date(2021, 1, 1)),
            LegalSource("Personal Information Protection Law (PIPL)", "Order 91 of the President", date(2021, 11, 1)),
            LegalSource(
                "Measures on the rules of online trading platforms", "Order 116 of SAMR and CAC", date(2026, 2, 1)
            ),
        ),
    )
    EU = Jurisdiction(
        code="EU",
        clock=AppealClock(days=0, months=1, extension_days=0, time_zone="Europe/Brussels"),
        limits=StatutoryLimits(days=30, months=1, extension_days=0),
        receipt_day_counts=False,  # Regulation (EEC, Euratom) 1182/71 art. 3
        consent_for_reports=False,
        consent_for_lookups=False,
        clock_text=_("GDPR, article 12(3): one month"),
        limit_text=_(
            "The limit is one month (GDPR art. 12(3)). It falls within the band, depending on the month and on the "
            "hour of filing."
        ),
        statutes={
            Purpose.BASIS: _("GDPR art. 10, where offences are concerned"),
            Purpose.SEE: _("GDPR arts. 15, 20"),
            Purpose.WHO_LOOKED: _("GDPR art. 15(1)(c)"),
            Purpose.CONTEST: _("GDPR arts. 12(3), 16: one month"),
            Purpose.CORRECT: _("GDPR art. 16"),
            Purpose.SUSPEND: _("GDPR art. 18(1)(a)"),
            Purpose.STATEMENT: _("GDPR art. 16"),
            Purpose.HUMAN: _("GDPR art. 22"),
            Purpose.EXPLAIN_REFUSAL: _("GDPR arts. 15(1)(h), 22(3)"),
            Purpose.COMPLAIN: _("GDPR arts. 77, 79"),
        },
        routes=(
            Route(
                _(
                    "complain to a data protection supervisory authority, in particular where you live, where you work "
                    "or where it happened (GDPR, article 77);"
                )
            ),
            Route(_("go to a court (GDPR, article 79), without having complained to an authority first;")),
            Route(
                _(
                    "insist that no decision with serious effects on you, such as a refused refund, is made by a "
                    "computer alone: you may ask the platform for a person, give your view and contest its decision "
                    "(GDPR, article 22)."
                )
            ),
        ),
        handover=_(
            "If what this file says relates to criminal offences, art. 10 GDPR applies: the data may be processed only "
            "under the control of official authority, or where Union or Member State law permits it with appropriate "
            "safeguards."
        ),
        sources=(
            LegalSource("General Data Protection Regulation (GDPR)", "Regulation (EU) 2016/679", date(2018, 5, 25)),
            LegalSource(
                "Rules on periods, dates and time limits", "Regulation (EEC, Euratom) 1182/71", date(1971, 7, 1)
            ),
        ),
    )
    UK = Jurisdiction(
        code="UK",
        clock=AppealClock(days=0, months=1, extension_days=0, time_zone="Europe/London"),
        limits=StatutoryLimits(days=30, months=1, extension_days=0),
        receipt_day_counts=True,  # UK GDPR art. 12A: "one month beginning with"; the stricter reading
        consent_for_reports=False,
        consent_for_lookups=False,
        clock_text=_("UK GDPR, articles 12(3) and 12A: one month"),
        limit_text=_(
            "The limit is one month, the day of receipt included (UK GDPR, arts. 12(3) and 12A). It falls within the "
            "band, depending on the month and on the hour of filing."
        ),
        statutes={
            Purpose.BASIS: _("Data Protection Act 2018 schedule 1 part 2 para. 14 (preventing fraud)"),
            Purpose.SEE: _("UK GDPR arts. 15, 20"),
            Purpose.WHO_LOOKED: _("UK GDPR art. 15(1)(c)"),
            Purpose.CONTEST: _("UK GDPR arts. 12(3), 12A, 16: one month"),
            Purpose.CORRECT: _("UK GDPR art. 16"),
            Purpose.SUSPEND: _("UK GDPR art. 18(1)(a)"),
            Purpose.STATEMENT: _("UK GDPR art. 16"),
            Purpose.HUMAN: _("UK GDPR arts. 22A to 22D"),
            Purpose.EXPLAIN_REFUSAL: _("UK GDPR arts. 15(1)(h), 22C"),
            Purpose.COMPLAIN: _("Data Protection Act 2018 ss. 164A, 165, 167, 168; UK GDPR art. 79"),
        },
        routes=(
            Route(
                _(
                    "complain first to us, or to the platform, about how your data was handled. The complaint must be "
                    "confirmed within 30 days and answered without undue delay (Data Protection Act 2018, "
                    "section 164A);"
                )
            ),
            Route(
                _(
                    "if that does not help, complain to the Information Commissioner, or to the Information Commission "
                    "once it has taken over (Data Protection Act 2018, section 165);"
                )
            ),
            Route(_("go to a court (UK GDPR, article 79; Data Protection Act 2018, sections 167 and 168);")),
            Route(
                _(
                    "ask for a person where a computer alone made a decision with serious effects on you, such as a "
                    "refused refund. You may also have it explained, give your view and contest it (UK GDPR, articles "
                    "22A to 22D)."
                )
            ),
        ),
        handover=_(
            "If what this file says relates to criminal offences, or to claims of them, UK GDPR art. 10 and the Data "
            "Protection Act 2018 (section 10 and schedule 1) apply: a condition must be met, such as that of "
            "preventing fraud (schedule 1, paragraph 14), and an appropriate policy document must exist."
        ),
        sources=(
            LegalSource(
                "UK General Data Protection Regulation (UK GDPR)", "assimilated (EU) 2016/679", date(2021, 1, 1)
            ),
            LegalSource("Data Protection Act 2018, schedule 1 part 2 paragraph 14", "2018 c. 12", date(2018, 5, 25)),
            LegalSource(
                "Data (Use and Access) Act 2025, section 76 (UK GDPR art. 12A)",
                "2025 c. 18, SI 2026/82",
                date(2026, 2, 5),
            ),
            LegalSource(
                "Data (Use and Access) Act 2025, section 80 (UK GDPR arts. 22A to 22D)",
                "2025 c. 18, SI 2026/82",
                date(2026, 2, 5),
            ),
            LegalSource(
                "Data (Use and Access) Act 2025, section 103 (Data Protection Act 2018 s. 164A)",
                "2025 c. 18, SI 2026/82",
                date(2026, 6, 19),
            ),
        ),
    )
    US = Jurisdiction(
        code="US",
        clock=AppealClock(days=30, months=0, extension_days=15, time_zone="America/New_York"),
        limits=StatutoryLimits(days=30, months=0, extension_days=15),
        receipt_day_counts=True,  # "beginning on the date on which the agency receives the notice"
        consent_for_reports=False,
        consent_for_lookups=False,
        clock_text=_("FCRA, 15 U.S.C. 1681i(a)(1): 30 days, and 15 more after new information"),
        limit_text=_(
            "The limit is 30 days, the day of receipt included, and 15 more after new information from the person "
            "(FCRA, 15 U.S.C. 1681i(a)(1)). It falls within the band, depending on the hour of filing."
        ),
        statutes={
            Purpose.SEE: _("15 U.S.C. 1681g"),
            Purpose.WHO_LOOKED: _("15 U.S.C. 1681g(a)(3)"),
            Purpose.CONTEST: _("15 U.S.C. 1681i(a)(1): 30 days, 45 at most"),
            Purpose.CORRECT: _("15 U.S.C. 1681i(a)(5)"),
            Purpose.STATEMENT: _("15 U.S.C. 1681i(b), (c)"),
            Purpose.EXPLAIN_REFUSAL: _("15 U.S.C. 1681m(a)"),
            Purpose.COMPLAIN: _("15 U.S.C. 1681g(c), 1681i(a)(6)"),
        },
        routes=(
            Route(
                _(
                    "file a brief statement of dispute. Every later answer that contains the record must then note "
                    "that you dispute it and give your statement or a clear summary of it (15 U.S.C. 1681i(b) and (c));"
                ),
                RouteAfter.RECORD_KEPT,
            ),
            Route(
                _(
                    "ask us how we investigated, which we must tell you within 15 days, and ask us to notify whoever "
                    "got the record in the last six months of its removal or of your statement (15 U.S.C. 1681i(a)(7), "
                    "(d));"
                ),
                RouteAfter.DECISION,
            ),
            Route(
                _(
                    "complain to the Consumer Financial Protection Bureau, the Federal Trade Commission or the "
                    "attorney general of your state;"
                )
            ),
            Route(_("go to a court (15 U.S.C. 1681n and 1681o).")),
        ),
        handover=None,
        sources=(LegalSource("Fair Credit Reporting Act (FCRA)", "15 U.S.C. 1681 and following", date(1971, 4, 25)),),
    )


PAGES_WITHOUT_SESSION = Profile.EU
"""Whose time zone the pages use that are about no session and no case."""


def find_jurisdiction(code: str) -> Jurisdiction | None:
    """Return the row of a profile's code, None for a code of a later version."""
    return Profile(code).spec if code in set(Profile) else None
