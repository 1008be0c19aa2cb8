"""Outcomes of an appeal: what each does to the report and to the weight of its reporter, and its texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.protocol.row_enum import RowEnum


def _(message: str) -> str:
    """Return `message` itself, marked for the catalogues."""
    return message


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a decision on the report. `reverses` removes it from every standing for good, `protects` leaves a
    protective note in its place, `unconfirmed` keeps it without points; otherwise it counts (again). `counts_as` is how
    it enters the reporter's weight: upheld, amended, overturned or nothing."""

    reverses: bool = False
    protects: bool = False
    unconfirmed: bool = False
    counts_as: str = "nothing"


@dataclass(frozen=True, slots=True)
class OutcomeSpec:
    """The rules and texts of one outcome. All texts are msgids.

    `burden` orders outcomes by how much worse off they leave the person; a later decision never has a higher one.
    `contestable`: the person may contest it once more. `counts_again`: the report has points after it, so it needs two
    people from `SIGNED_SEVERITY` on. `frees_order`: the order takes further reports of the group after it.
    `names_conduct` and `names_slots`: the decision names another conduct, or identifiers to detach.

    `name` is the outcome in one line; `choice` and `consequence` offer it to a reviewer. `verdict` is the letter's
    first sentence, with %(date)s (and %(kinds)s where it names slots). `changes` are the letter's paragraphs about the
    effects, which may use %(date)s, the day on which the remaining record expires, and %(conduct)s, the new conduct.
    """

    code: str
    effect: Effect
    burden: int
    contestable: bool
    counts_again: bool
    name: str
    choice: str
    consequence: str
    verdict: str
    changes: tuple[str, ...]
    frees_order: bool = False
    names_conduct: bool = False
    names_slots: bool = False


class Outcome(RowEnum):
    """The outcome of a decision."""

    # One row each. A further outcome is a row here, its texts in the catalogues and a row in `docs/appeals.md`.
    spec: OutcomeSpec

    UPHELD = OutcomeSpec(
        code="upheld",
        effect=Effect(counts_as="upheld"),
        burden=3,
        contestable=True,
        counts_again=True,
        frees_order=True,
        name=_("The record stays"),
        choice=_("Keep the record"),
        consequence=_("It counts again, as reported."),
        verdict=_("On %(date)s we decided to keep the record."),
        changes=(
            _(
                "The report counts again in your standing. It counts less and less as time passes, and is gone on "
                "%(date)s."
            ),
        ),
    )
    AMENDED = OutcomeSpec(
        code="amended",
        effect=Effect(counts_as="amended"),
        burden=2,
        contestable=True,
        counts_again=True,
        names_conduct=True,
        name=_("The record was corrected"),
        choice=_("Correct the record"),
        consequence=_("It counts again, as something else that weighs no more."),
        verdict=_("On %(date)s we decided to correct the record."),
        changes=(
            _("The record now says: %(conduct)s."),
            _(
                "With that it counts again in your standing, never more than before. It counts less and less as time "
                "passes, and is gone on %(date)s."
            ),
        ),
    )
    OVERTURNED = OutcomeSpec(
        code="overturned",
        effect=Effect(reverses=True, counts_as="overturned"),
        burden=0,
        contestable=False,
        counts_again=False,
        name=_("The record was removed"),
        choice=_("Remove the record"),
        consequence=_("It is gone for good, and weighs on the platform that made it."),
        verdict=_("On %(date)s we decided to remove the record. You were right to contest it."),
        changes=(
            _(
                "No platform sees the report any more, and it can never count again. Later reports of the "
                "platform that made it may weigh less because of this."
            ),
        ),
    )
    UNCONFIRMED = OutcomeSpec(
        code="unconfirmed",
        effect=Effect(unconfirmed=True),
        burden=1,
        contestable=True,
        counts_again=False,
        name=_("Not confirmed: the record stays but does not count"),
        choice=_("Keep it as not confirmed"),
        consequence=_("It stays to be read, with no points."),
        verdict=_("On %(date)s we decided that the report is not confirmed. It does not count."),
        changes=(
            _(
                "What happened could not be made certain. The record stays, with what both sides said, but adds "
                "nothing to your standing. It is gone on %(date)s."
            ),
        ),
    )
    VICTIM = OutcomeSpec(
        code="victim",
        effect=Effect(reverses=True, protects=True),
        burden=0,
        contestable=False,
        counts_again=False,
        name=_("Somebody else did it: the record was removed, and the person is protected"),
        choice=_("Remove it: somebody else did it"),
        consequence=_("It is gone for good; a protective note stands in its place for a year."),
        verdict=_("On %(date)s we decided that somebody else used your account. The record is removed."),
        changes=(
            _("The report can never count again."),
            _(
                "In its place there is a note, until %(date)s, that protects you: it tells platforms that somebody "
                "abused your account and asks them to treat you as the one who was harmed. It adds nothing to your "
                "standing."
            ),
        ),
    )
    UNLINKED = OutcomeSpec(
        code="unlinked",
        effect=Effect(),
        burden=2,
        contestable=True,
        counts_again=False,
        names_slots=True,
        name=_("The link between the record and a detail of the person was cut"),
        choice=_("Unlink it from a detail of the person"),
        consequence=_("One of the details is not the person’s: it no longer leads to the record."),
        verdict=_("On %(date)s we decided to cut the link between the record and this: %(kinds)s."),
        changes=(
            _("Whoever asks about it no longer meets the report."),
            _("The report itself stays with whatever else it is tied to. It is gone on %(date)s."),
        ),
    )


EFFECTS: Mapping[Outcome, Effect] = {outcome: outcome.spec.effect for outcome in Outcome}
"""The effect of each outcome on the report."""

REOPENED = frozenset(outcome for outcome in Outcome if outcome.spec.contestable)
"""Decisions that the person may contest once more; the others leave nothing to contest."""

REMOVED = frozenset(outcome for outcome in Outcome if outcome.spec.effect.reverses)
"""Decisions after which no record of the act is left to add a statement to."""


def is_worse(outcome: Outcome, than: Outcome) -> bool:
    """True if `outcome` leaves the person worse off than `than`. A decision after a reopening is never worse."""
    return outcome.spec.burden > than.spec.burden
