"""Letters to the person about their appeal, in every language, rendered from the facts of a case alone.

A letter is a list of paragraphs without layout: the page, the API and the plain text show the same paragraphs. The
statutes in `docs/letters.md` define what each letter must contain; the person's legal routes are in
`ledger.server.texts.legal_routes`. The tone follows a rule too: a letter says what a report says and what was decided,
and accuses no person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum

from ledger.code_names import conduct_text, kind_text
from ledger.i18n import Texts, texts
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import LAST_ROUND, Outcome
from ledger.rules.conduct import Conduct
from ledger.rules.outcomes import REMOVED
from ledger.rules.policy.values import Profile
from ledger.server.texts.legal_routes import routes


class LetterKind(StrEnum):
    """The occasions on which the person gets a letter."""

    RECEIVED = "received"
    QUESTION = "question"
    OVERDUE = "overdue"
    DECIDED = "decided"


class Style(StrEnum):
    """The kinds of paragraphs. A `quote` is a person's own text, verbatim, and must never be read as markup."""

    TEXT = "text"
    HEADING = "heading"
    QUOTE = "quote"
    ITEM = "item"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph, heading, quotation or item of a list."""

    text: str
    style: Style = Style.TEXT


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter in the language `locale`."""

    kind: LetterKind
    locale: str
    subject: str
    paragraphs: tuple[Paragraph, ...]

    def to_text(self) -> str:
        """Return the letter as plain text. Each line of a quotation begins with `> `, so that no line looks like the
        letter's own text."""
        blocks = [self.subject]
        last: Style | None = None
        for paragraph in self.paragraphs:
            if paragraph.style is Style.QUOTE:
                block = "\n".join(f"> {line}" for line in paragraph.text.splitlines())
            else:
                block = f"- {paragraph.text}" if paragraph.style is Style.ITEM else paragraph.text
            if paragraph.style is Style.ITEM and last is Style.ITEM:
                blocks[-1] += f"\n{block}"
            else:
                blocks.append(block)
            last = paragraph.style
        return "\n\n".join(blocks) + "\n"

    def to_dict(self) -> dict[str, object]:
        """Return the letter as a dict for JSON."""
        return {
            "kind": self.kind.value,
            "locale": self.locale,
            "subject": self.subject,
            "paragraphs": [{"style": part.style.value, "text": part.text} for part in self.paragraphs],
        }


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """The facts of a case that letters contain. All times are aware UTC and are shown in `zone`, the time zone of the
    profile's clock.

    - `case_id`, `report_id`: public ids.
    - `due_at`, `question_due_at`, `reopen_until`: the first moments that are too late.
    - `expires_at`: the expiry of the data that remains after the decision: the record (for an amended conduct, the
      expiry of that conduct), or the protective note of a `victim`.
    - `reasons`: the reviewer's text; None if the case was decided because the reporter did not answer
      (`silent_reporter`).
    - `opener`: the platform through which the person appealed, the only platform that a letter names.
    - `unlinked_kinds`: the kinds of the identifiers that the outcome `unlinked` detached.
    - `suspends`: the report does not count while the case is open.
    - `own`: the person appealed through their own access. Otherwise a platform appealed for them, and they can still
      appeal themselves, whatever the decision is.
    - `reporters`: the round was granted to the reporter, because of new evidence after `unconfirmed`.
    - `appeals`: the number of rounds so far that the person requested.
    """

    case_id: str
    report_id: str
    profile: Profile
    zone: tzinfo
    conduct: Conduct
    opened_at: datetime
    due_at: datetime
    round: int = 1
    opener: str | None = None
    question: str | None = None
    question_due_at: datetime | None = None
    outcome: Outcome | None = None
    amended_conduct: Conduct | None = None
    reasons: str | None = None
    decided_at: datetime | None = None
    reopen_until: datetime | None = None
    expires_at: datetime | None = None
    unlinked_kinds: tuple[Kind, ...] = ()
    silent_reporter: bool = False
    suspends: bool = True
    own: bool = True
    reporters: bool = False
    appeals: int | None = None

    @property
    def used_up(self) -> bool:
        """True if the person has used all rounds of the case that they may request."""
        return (self.round if self.appeals is None else self.appeals) >= LAST_ROUND


def render(kind: LetterKind, facts: CaseFacts, locale: str) -> Letter:
    """Return the letter of this kind. Raises ValueError if `facts` lack something that the letter must contain, so that
    nothing is left out silently."""
    t = texts(locale)
    paragraphs_of = {
        LetterKind.RECEIVED: _opened_for_reporter if facts.reporters else _received,
        LetterKind.QUESTION: _question,
        LetterKind.OVERDUE: _overdue,
        LetterKind.DECIDED: _decided,
    }[kind]
    subject, *rest = paragraphs_of(t, facts)
    return Letter(kind, t.locale, subject.text, tuple(rest))


def _needed(value: datetime | None, name: str) -> datetime:
    if value is None:
        raise ValueError(f"this letter needs {name}")
    return value


def _names(t: Texts, facts: CaseFacts) -> Iterator[Paragraph]:
    """Yield the paragraphs that name the case, the report, and what the report says."""
    yield Paragraph(
        t.gettext("Case %(case)s, about report %(report)s.", case=facts.case_id, report=facts.report_id), Style.ITEM
    )
    yield Paragraph(
        t.gettext("What the report says: %(conduct)s.", conduct=conduct_text(facts.conduct, t.locale)), Style.ITEM
    )


def _received(t: Texts, facts: CaseFacts) -> Iterator[Paragraph]:
    again = facts.round > 1
    due = t.last_day(facts.due_at, facts.zone)
    if again:
        yield Paragraph(t.gettext("Your case %(case)s is open again", case=facts.case_id))
        yield Paragraph(t.gettext("You asked us to look at your case again. Somebody new will do that."))
    else:
        yield Paragraph(t.gettext("We have received your appeal: case %(case)s", case=facts.case_id))
        yield Paragraph(
            t.gettext(
                "You do not agree with a report about a refund. We received your appeal on %(date)s.",
                date=t.date(facts.opened_at, facts.zone),
            )
        )
    yield from _names(t, facts)
    if facts.opener is not None:
        yield Paragraph(t.gettext("You reached us through %(platform)s.", platform=facts.opener), Style.ITEM)
    yield Paragraph(t.gettext("What happens now"), Style.HEADING)
    if facts.suspends:
        yield Paragraph(
            t.gettext(
                "From now on the report does not count. Until we decide, platforms that ask about you see that you "
                "contest it, and nothing is added to your standing because of it."
            )
        )
    else:
        yield Paragraph(
            t.gettext(
                "The report was contested through a platform before, so it counts as it did until we decide. If you "
                "contest it yourself, on your own page, it stops counting at once."
            )
        )
    yield Paragraph(
        t.gettext(
            "No computer program decides against you: a person reads your case, who does not belong to the platform "
            "that made the report. We may ask that platform or you a question."
        )
    )
    if facts.suspends:
        yield Paragraph(
            t.gettext(
                "You will have our decision, with reasons, by %(date)s at the latest. If we are late, the record is no "
                "longer shown until we have decided.",
                date=due,
            )
        )
    else:
        yield Paragraph(t.gettext("You will have our decision, with reasons, by %(date)s at the latest.", date=due))
    if facts.expires_at is not None and facts.expires_at < facts.due_at:
        yield _ends_with_record(t, facts.expires_at, facts.zone)
    yield Paragraph(t.gettext("What you can do"), Style.HEADING)
    for text in (
        t.gettext("Add to your case whatever helps you, in words or as files, for as long as it is open."),
        t.gettext("See on your page what is recorded about you, and who was told of it, when and why."),
        t.gettext(
            "Take your appeal back, at any time before we decide: choose “Withdraw the appeal” on your page, or tell "
            "the platform through which you came. The report then counts again."
        )
        if facts.suspends
        else t.gettext(
            "Take your appeal back, at any time before we decide: choose “Withdraw the appeal” on your page, or tell "
            "the platform through which you came."
        ),
    ):
        yield Paragraph(text, Style.ITEM)
    yield Paragraph(t.gettext("An appeal costs nothing, and nobody may treat you worse because you made one."))
    yield from _route(t, facts, t.gettext("You may also go elsewhere, now or later:"))


def _opened_for_reporter(t: Texts, facts: CaseFacts) -> Iterator[Paragraph]:
    """Yield the first letter of a round that was granted to the reporter, which the person did not request."""
    yield Paragraph(t.gettext("Your case %(case)s is open again", case=facts.case_id))
    yield Paragraph(
        t.gettext(
            "The platform that made the report has new evidence and asked us to look at the case again. We granted "
            "this. Somebody new will decide."
        )
    )
    yield from _names(t, facts)
    yield Paragraph(t.gettext("What happens now"), Style.HEADING)
    yield Paragraph(
        t.gettext("Until we decide, the report stays not confirmed. It adds nothing to your standing until then.")
    )
    yield Paragraph(
        t.gettext(
            "No computer program decides against you: a person reads your case, who does not belong to the platform "
            "that made the report. We may ask that platform or you a question."
        )
    )
    yield Paragraph(
        t.gettext(
            "You will have our decision, with reasons, by %(date)s at the latest.",
            date=t.last_day(facts.due_at, facts.zone),
        )
    )
    if facts.expires_at is not None and facts.expires_at < facts.due_at:
        yield _ends_with_record(t, facts.expires_at, facts.zone)
    yield Paragraph(t.gettext("What you can do"), Style.HEADING)
    for text in (
        t.gettext("Add to your case whatever helps you, in words or as files, for as long as it is open."),
        t.gettext("See on your page what is recorded about you, and who was told of it, when and why."),
        t.gettext("You need not take anything back or contest anything again now. This uses up none of your rights."),
    ):
        yield Paragraph(text, Style.ITEM)
    yield from _route(t, facts, t.gettext("You may also go elsewhere, now or later:"))


def _ends_with_record(t: Texts, expires_at: datetime, zone: tzinfo) -> Paragraph:
    return Paragraph(
        t.gettext(
            "The record itself is gone on %(date)s. If we have not decided by then, your case ends with it: "
            "nothing is left that could count.",
            date=t.date(expires_at, zone),
        )
    )


def _question(t: Texts, facts: CaseFacts) -> Iterator[Paragraph]:
    if not facts.question:
        raise ValueError("this letter needs a question")
    due = t.last_day(_needed(facts.question_due_at, "question_due_at"), facts.zone)
    yield Paragraph(t.gettext("A question about your case %(case)s", case=facts.case_id))
    yield Paragraph(t.gettext("We are working on your case and need something from you."))
    yield from _names(t, facts)
    yield Paragraph(t.gettext("Our question"), Style.HEADING)
    yield Paragraph(facts.question, Style.QUOTE)
    yield Paragraph(t.gettext("Please answer by %(date)s, on your page or through the platform.", date=due))
    yield Paragraph(
        t.gettext(
            "You do not have to answer. Without an answer we decide with what we have; not answering does not by "
            "itself speak against you."
        )
    )
    decided_by = t.last_day(facts.due_at, facts.zone)
    if facts.suspends or facts.reporters:
        yield Paragraph(
            t.gettext(
                "Our question does not change the date by which we must decide: %(date)s. The report does not count "
                "until then.",
                date=decided_by,
            )
        )
    else:
        yield Paragraph(
            t.gettext("Our question does not change the date by which we must decide: %(date)s.", date=decided_by)
        )


def _overdue(t: Texts, facts: CaseFacts) -> Iterator[Paragraph]:
    yield Paragraph(t.gettext("We are late with your case %(case)s", case=facts.case_id))
    yield Paragraph(
        t.gettext(
            "We had to decide by %(date)s and have not done so. That is our fault, and we are sorry.",
            date=t.last_day(facts.due_at, facts.zone),
        )
    )
    yield from _names(t, facts)
    if facts.reporters:
        yield Paragraph(
            t.gettext("Until we decide, the report stays not confirmed. It adds nothing to your standing until then.")
        )
    elif facts.suspends:
        yield Paragraph(
            t.gettext(
                "From today on, the record is neither shown to platforms nor counted until we decide. You need not do "
                "anything for that."
            )
        )
    else:
        yield Paragraph(t.gettext("If you contest the report yourself, on your own page, it stops counting at once."))
    yield Paragraph(t.gettext("We still owe you a decision with reasons, and you will get it."))
    yield from _route(t, facts, t.gettext("You may complain about the delay:"))


def _decided(t: Texts, facts: CaseFacts) -> Iterator[Paragraph]:
    outcome = facts.outcome
    if outcome is None:
        raise ValueError("this letter needs an outcome")
    if not facts.reasons and not facts.silent_reporter:
        raise ValueError("this letter needs the reviewer's reasons")
    decided_at = t.date(_needed(facts.decided_at, "decided_at"), facts.zone)
    yield Paragraph(t.gettext("Our decision in your case %(case)s", case=facts.case_id))
    yield Paragraph(_verdict(t, facts, outcome, decided_at))
    yield from _names(t, facts)
    yield Paragraph(t.gettext("Why"), Style.HEADING)
    if facts.silent_reporter:
        yield Paragraph(
            t.gettext(
                "We asked the platform that made the report a question, and it did not answer in time. Then the doubt "
                "speaks for you: that is our rule."
            )
        )
    else:
        yield Paragraph(t.gettext("A person looked at your case and decided. These are their reasons:"))
    if facts.reasons:
        yield Paragraph(facts.reasons, Style.QUOTE)
    yield Paragraph(t.gettext("What changes"), Style.HEADING)
    yield from _effect(t, facts, outcome)
    yield from _next_steps(t, facts, outcome)


def _verdict(t: Texts, facts: CaseFacts, outcome: Outcome, date: str) -> str:
    if outcome.spec.names_slots and not facts.unlinked_kinds:
        raise ValueError("this letter needs the kinds that were unlinked")
    kinds = t.gettext(", ").join(kind_text(kind, t.locale) for kind in facts.unlinked_kinds)
    return t.gettext(outcome.spec.verdict, date=date, kinds=kinds)


def _effect(t: Texts, facts: CaseFacts, outcome: Outcome) -> Iterator[Paragraph]:
    values = {}
    if any("%(date)s" in text for text in outcome.spec.changes):
        values["date"] = t.date(_needed(facts.expires_at, "expires_at"), facts.zone)
    if outcome.spec.names_conduct:
        if facts.amended_conduct is None:
            raise ValueError("this letter needs the amended conduct")
        values["conduct"] = conduct_text(facts.amended_conduct, t.locale)
    for text in outcome.spec.changes:
        yield Paragraph(t.gettext(text, **values))


def _next_steps(t: Texts, facts: CaseFacts, outcome: Outcome) -> Iterator[Paragraph]:
    yield Paragraph(t.gettext("If you do not agree"), Style.HEADING)
    if facts.reopen_until is not None:
        yield Paragraph(
            t.gettext(
                "You may have the case reopened once, until %(date)s. A reviewer who has not worked on it before then "
                "decides anew. The report does not count while that lasts.",
                date=t.last_day(facts.reopen_until, facts.zone),
            )
            if facts.suspends
            else t.gettext(
                "You may have the case reopened once, until %(date)s. A reviewer who has not worked on it before then "
                "decides anew.",
                date=t.last_day(facts.reopen_until, facts.zone),
            ),
            Style.ITEM,
        )
    elif facts.used_up:
        yield Paragraph(t.gettext("This case was decided twice and cannot be reopened with us."), Style.ITEM)
    if not facts.own and outcome not in REMOVED:
        yield Paragraph(
            t.gettext(
                "A platform filed this appeal for you. You may contest the report yourself as well, once, on your own "
                "page. It then does not count until a person has decided, and it cannot get worse for you by that."
            ),
            Style.ITEM,
        )
    if outcome not in REMOVED:
        yield Paragraph(
            t.gettext(
                "You may add a statement in your own words. Platforms that are shown the record are told that there "
                "is one."
            ),
            Style.ITEM,
        )
    yield from _route(t, facts, t.gettext("Independent of us, you may:"), outcome)


def _route(t: Texts, facts: CaseFacts, intro: str, outcome: Outcome | None = None) -> Iterator[Paragraph]:
    yield Paragraph(intro)
    for text in routes(t, facts.profile, outcome):
        yield Paragraph(text, Style.ITEM)
