"""Why a standing is what it is: reason codes, and one plain English text for each, which is the msgid of its
translations (`ledger.catalogue`).

A text says what is on record and what it does not mean, to the staff of the platform and to the consumer. It accuses no
person and names no platform.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.rules.conduct import Conduct
from ledger.rules.reason_codes import Reason as Reason

MAX_REASONS = 4


def _(message: str) -> str:
    """Mark a text for the catalogue. It is translated when it is shown."""
    return message


CONDUCT_REASON: Mapping[str, Reason] = {
    conduct: conduct.spec.reason for conduct in Conduct if conduct.spec.reason is not None
}
"""The reason that a standing gives for a conduct. A protective conduct has none: it is given as `protected`. A conduct
that this version does not know has none either: it gives `other_confirmed_conduct`."""

REASON_TEXTS: Mapping[Reason, str] = {
    Reason.PROTECTED: _("A member confirmed that somebody else abused this person's account. Treat them as a victim."),
    Reason.DISPUTED: _("This person contests a report. Until the appeal is decided it does not count."),
    Reason.WEAK_MATCH: _(
        "Only one changeable identifier matched, such as a phone number, which may have had another owner."
    ),
    Reason.REPEATED: _("One member reported three or more separate acts; being many adds no points to them."),
    Reason.ONE_REPORTER: _("All counted reports come from one member; no independent member confirms them."),
    Reason.INDEPENDENT: _("Independent members each reported separate confirmed acts."),
    Reason.FALSE_IMAGE: _(
        "The weightiest record: a refund claim with a picture or video confirmed as made up or altered."
    ),
    Reason.FALSE_DELIVERY: _("The weightiest record: a claim of non-receipt for a parcel confirmed as delivered."),
    Reason.FALSE_RETURN: _(
        "The weightiest record: a return confirmed as empty, switched, never sent, or of used goods as new."
    ),
    Reason.FALSE_CHARGEBACK: _(
        "The weightiest record: a card payment charged back although the purchase was the person's own."
    ),
    Reason.LINKED_ACCOUNTS: _("The weightiest record: several linked accounts used for confirmed refund fraud."),
    Reason.OTHER: _("The weightiest record: another kind of confirmed refund fraud, which this program does not name."),
    Reason.RESTITUTED: _("The full amount of at least one report was paid back; its points are halved."),
    Reason.FADED: _("What is on record is minor or long ago and does not affect the standing."),
    Reason.NO_RECORD: _("Nothing on record counts against this person."),
}
"""In English; `ledger.catalogue.reason_text` gives them in every language."""
