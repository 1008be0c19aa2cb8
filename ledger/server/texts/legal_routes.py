"""Legal routes: the authorities and procedures open to a person who does not agree with the ledger, by the legal
profile of their case.

The routes are rows of the jurisdiction (`rules.jurisdictions`); each names the statute that it comes from.
`docs/letters.md` lists the legal duties that each letter fulfils. An operator must have a lawyer check these texts
before letters are sent. Every route exists in all languages, because a buyer on a European platform may read Chinese.
"""

from __future__ import annotations

from ledger.i18n import Texts
from ledger.rules.jurisdictions import Profile, RouteAfter
from ledger.rules.outcomes import REMOVED, Outcome


def routes(t: Texts, profile: Profile, outcome: Outcome | None) -> list[str]:
    """Return the person's legal routes, one or two sentences each; `outcome` is None before a decision."""
    reached = {RouteAfter.FILING}
    if outcome is not None:
        reached |= {RouteAfter.DECISION} if outcome in REMOVED else {RouteAfter.DECISION, RouteAfter.RECORD_KEPT}
    return [t.gettext(route.text) for route in profile.spec.routes if route.after in reached]
